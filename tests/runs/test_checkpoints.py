"""Checkpoints: whole after any stop, honest about damage; the lock; weights by name."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest

from htsr.errors import InputError
from htsr.runs import checkpoints
from htsr.runs.checkpoints import load, save
from htsr.runs.folder import RunLock, load_model, upgrade

ARRAYS = {
    "model/conv/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimizer/iteration": np.array(7, np.int64),
    "ema/conv/kernel": np.zeros((0, 2), np.float32),
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def kept(folder: Path) -> list[int]:
    return sorted(int(name.removeprefix("step_")) for name in names(folder))


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_round_trip(tmp_path):
    folder = tmp_path / "run" / "model"
    assert load(folder) is None
    assert save(folder, 12, ARRAYS, score=0.5) == folder / "step_12"
    step, arrays, manifest = load(folder)
    assert step == manifest["step"] == 12
    assert manifest["score"] == 0.5
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert {"tensorflow", "keras", "numpy", "python"} == set(manifest["versions"])
    assert manifest["threads"] >= 1


def test_same_arrays_give_the_same_bytes(tmp_path):
    first, second = save(tmp_path / "a", 1, ARRAYS), save(tmp_path / "b", 1, ARRAYS)
    assert (first / "state.npz").read_bytes() == (second / "state.npz").read_bytes()
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


def test_keeps_last_every_and_best(tmp_path):
    scores = {3: 0.1, 4: float("nan"), 5: 0.1}
    for step in range(1, 13):
        save(tmp_path, step, ARRAYS, score=scores.get(step), keep_last=2, keep_every=5)
    assert kept(tmp_path) == [3, 5, 10, 11, 12]
    assert load(tmp_path)[0] == 12
    assert load(tmp_path, "best")[0] == 3
    assert load(tmp_path, 10)[0] == 10


def test_keeps_as_many_as_asked(tmp_path):
    for step in range(1, 13):
        save(tmp_path, step, ARRAYS, keep_last=5)
        assert kept(tmp_path) == list(range(max(1, step - 4), step + 1))


def test_best_is_replaced_by_a_better_one(tmp_path):
    for step, score in enumerate([3.0, 2.0, 4.0, -1.0, 5.0, 6.0], start=1):
        save(tmp_path, step, ARRAYS, score=score, keep_last=1)
    assert kept(tmp_path) == [4, 6]


def test_saving_a_step_again(tmp_path):
    save(tmp_path, 1, ARRAYS)
    before = (tmp_path / "step_1").stat().st_ino
    save(tmp_path, 1, ARRAYS)
    assert (tmp_path / "step_1").stat().st_ino == before
    (tmp_path / "step_1" / "state.npz").write_bytes(b"")
    save(tmp_path, 1, ARRAYS)
    assert load(tmp_path)[0] == 1


def test_damaged_newer_checkpoints_do_not_push_out_the_valid_one(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, ARRAYS)
    (tmp_path / "step_3" / "manifest.json").unlink()
    save(tmp_path, 2, ARRAYS, keep_last=1)
    assert load(tmp_path)[0] == 2


def _truncate(path: Path) -> None:
    os.truncate(path / "state.npz", 100)


def _flip(path: Path) -> None:
    content = bytearray((path / "state.npz").read_bytes())
    content[150] ^= 1
    (path / "state.npz").write_bytes(content)


def _edit(path: Path, **changes: object) -> None:
    """Change a manifest, and make its checksum agree."""
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": checkpoints._sha256_of(manifest)}))


def _other_score(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"score": 0.25}))


DAMAGES = {
    "truncated": (_truncate, "another length"),
    "flipped bit": (_flip, "checksum"),
    "no state": (lambda path: (path / "state.npz").unlink(), "FileNotFoundError"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "FileNotFoundError"),
    "half a manifest": (lambda path: os.truncate(path / "manifest.json", 40), "JSONDecodeError"),
    "manifest is no mapping": (lambda path: (path / "manifest.json").write_text("[]"), "TypeError"),
    "another score": (_other_score, "checksum of manifest.json"),
    "another step": (lambda path: _edit(path, step=7), "step must be a whole number"),
    "no shape": (lambda path: _edit(path, arrays={"model/a": {"dtype": "float32", "shape": "x"}}), "has no shape"),
    "other arrays": (lambda path: _edit(path, arrays={}), "not those of the manifest"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoint_is_passed_over_with_a_message(tmp_path, capsys, name):
    damage, message = DAMAGES[name]
    save(tmp_path, 1, ARRAYS)
    save(tmp_path, 2, ARRAYS)
    damage(tmp_path / "step_2")
    assert load(tmp_path)[0] == 1
    stderr = capsys.readouterr().err
    assert "step_2 is damaged" in stderr
    assert message in stderr
    assert stderr.count("\n") == 1
    with pytest.raises(InputError, match=r"every checkpoint .* is damaged"):
        load(tmp_path, 2)


def test_a_checkpoint_of_another_version_is_neither_skipped_nor_replaced(tmp_path):
    for step in (1, 2):
        save(tmp_path, step, ARRAYS)
    _edit(tmp_path / "step_2", schema=99)
    message = r"step_2 is of format 99, but this version of htsr reads format 1; use the version that wrote it"
    with pytest.raises(InputError, match=message):
        load(tmp_path)
    with pytest.raises(InputError, match=message):
        save(tmp_path, 2, ARRAYS)
    assert kept(tmp_path) == [1, 2]
    assert load(tmp_path, 1)[0] == 1


def _replace_state(path: Path, **save_arguments: np.ndarray) -> None:
    """Replace the arrays and make length and checksum agree, as somebody with intent would."""
    state = path / "state.npz"
    np.savez_compressed(state, **save_arguments)
    _edit(path, files={"state.npz": {"bytes": state.stat().st_size, "sha256": checkpoints._sha256(state)}})


def test_compressed_arrays_are_refused_before_they_are_read(tmp_path, capsys):
    save(tmp_path, 1, ARRAYS)
    _replace_state(tmp_path / "step_1", **{name: np.zeros(array.shape, array.dtype) for name, array in ARRAYS.items()})
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path)
    assert "compressed" in capsys.readouterr().err


def test_other_shapes_than_in_the_manifest(tmp_path, capsys):
    path = save(tmp_path, 1, ARRAYS)
    arrays = json.loads((path / "manifest.json").read_text())["arrays"]
    _edit(path, arrays=arrays | {"optimizer/iteration": {"dtype": "int64", "shape": [1]}})
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path)
    assert "optimizer/iteration is not of the shape" in capsys.readouterr().err


def test_what_is_asked_for_must_exist(tmp_path):
    assert load(tmp_path, "best") is None
    save(tmp_path, 1, ARRAYS)
    with pytest.raises(InputError, match=r"has a score; use 'latest' or one of \[1\]"):
        load(tmp_path, "best")
    for which in (2, "newest"):
        with pytest.raises(InputError, match="expected 'latest', 'best' or one of"):
            load(tmp_path, which)


def test_type_that_numpy_cannot_store(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(InputError, match=r"model/x is bfloat16, .* use dtype float32"):
        save(tmp_path, 1, {"model/x": np.zeros(2, ml_dtypes.bfloat16)})


@pytest.mark.parametrize(
    ("function", "code"),
    [("fsync", errno.ENOSPC), ("rename", errno.EIO), ("mkdir", errno.EROFS), ("mkdir", errno.EACCES)],
)
def test_failing_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch, function, code):
    save(tmp_path, 1, ARRAYS)

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="step 2 not written, earlier ones are intact") as error:
        save(tmp_path, 2, ARRAYS, keep_last=1)
    monkeypatch.undo()
    assert error.value.errno == code
    assert names(tmp_path) == {"step_1"}
    assert load(tmp_path)[0] == 1


def test_disk_full_in_the_middle_of_an_array(tmp_path):
    """A file size limit stops the write itself, as a full disk does, inside the zip writer."""
    save(tmp_path, 1, ARRAYS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="step 2 not written"):
            save(tmp_path, 2, {"model/a": np.ones(10, np.float32), "model/b": np.ones(10**6, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == {"step_1"}
    assert load(tmp_path)[0] == 1


def test_leftovers_are_removed_by_the_next_save(tmp_path):
    (tmp_path / ".tmp-step_1").mkdir()
    (tmp_path / ".tmp-step_1" / "state.npz").write_bytes(b"half")
    assert load(tmp_path) is None
    save(tmp_path, 2, ARRAYS)
    assert names(tmp_path) == {"step_2"}


SAVE_FOR_EVER = """
    import sys, numpy as np
    from htsr.runs.checkpoints import load, save
    found = load(sys.argv[1])
    step = found[0] if found else 0
    print("ready", flush=True)
    while True:
        step += 1
        arrays = {"model/a": np.full(200_000, step, np.float32)}
        save(sys.argv[1], step, arrays, score=-step, keep_last=2, keep_every=50)
        print(step, flush=True)
"""


def test_sigkill_during_saves(tmp_path):
    """After each kill the newest checkpoint is valid and not older than the last one reported as saved."""
    moments, interrupted = np.random.default_rng(0), 0
    for _ in range(12):
        process = start(SAVE_FOR_EVER, tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        stdout, stderr = process.communicate()
        assert stderr == ""
        interrupted += any(name.startswith(".tmp-") for name in names(tmp_path))
        reported = int(stdout.splitlines()[-1]) if stdout else 0
        found = load(tmp_path)
        assert (found[0] if found else 0) >= reported
        if found:
            assert found[1]["model/a"].min() == found[1]["model/a"].max() == found[0]
    assert interrupted > 0


HOLD = """
    import sys, time
    from htsr.runs.folder import RunLock
    with RunLock(sys.argv[1]):
        print("locked", flush=True)
        time.sleep(60)
"""


def test_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    run = tmp_path / "logs" / "mmnist"
    process = start(HOLD, run)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(InputError, match=rf"is in use by process {process.pid} on .+; wait for it"), RunLock(run):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for _ in range(2):
        with RunLock(run):
            assert (run / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert (run / "lock").read_text() == ""


def test_reading_checkpoints_does_not_import_tensorflow():
    code = "import sys, htsr.runs.folder; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def small_model(name: str = "small", units: int = 3):
    import keras

    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units, name="first"), keras.layers.Dense(1, name="second")], name=name
    )


def test_weights_by_name_whatever_the_model_is_called():
    import keras

    one, two = small_model(), small_model("another")
    arrays = checkpoints.model_arrays(one)
    assert list(arrays) == [f"model/{layer}/{kind}" for layer in ("first", "second") for kind in ("kernel", "bias")]
    checkpoints.assign_model(two, arrays | {"ema/first/kernel": np.zeros(1), "optimizer/x": np.zeros(1)})
    for weight, other in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    optimizer = keras.optimizers.Adam()
    optimizer.build(one.trainable_variables)
    state = checkpoints.model_arrays(optimizer, "optimizer")
    assert len(state) == 2 + 2 * 4
    checkpoints.assign_model(optimizer, {name: array + 1 for name, array in state.items()}, "optimizer")
    assert int(optimizer.iterations) == 1


def test_weights_that_do_not_fit_change_nothing():
    model, other = small_model(), small_model(units=4)
    before = model.get_weights()
    with pytest.raises(
        InputError, match=r"model/first/kernel has shape \(2, 4\) instead of \(2, 3\).*check the config"
    ):
        checkpoints.assign_model(model, checkpoints.model_arrays(other))
    with pytest.raises(InputError, match=r"model/first/kernel is missing, .* and 2 more"):
        checkpoints.assign_model(model, {"model/x": np.zeros(1)})
    extra = checkpoints.model_arrays(model) | {"model/x": np.zeros(1)}
    with pytest.raises(InputError, match="model/x is not part of it"):
        checkpoints.assign_model(model, extra)
    for weight, other_weight in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other_weight)


def test_layers_must_have_different_names():
    import keras

    class Twins(keras.Model):
        def __init__(self):
            super().__init__(name="twins")
            self.layers_ = [keras.layers.Dense(1, name="same") for _ in range(2)]
            for layer in self.layers_:
                layer.build((None, 1))
            self.built = True

    with pytest.raises(ValueError, match="share a path"):
        checkpoints.model_arrays(Twins())


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "htsr.models", types.SimpleNamespace(build_model=small_model))
    (tmp_path / "config.yml").write_text("model: {name: tiny, units: 3}\ndata:\ntrain:\neval:\n")
    return tmp_path


def test_load_model_from_run_or_model_folder(run):
    arrays = checkpoints.model_arrays(small_model())
    average = {"ema/first/kernel": np.full((2, 3), 5, np.float32)}
    save(run / "model", 1, arrays)
    save(run / "model", 2, arrays | average, score=1.0)
    for folder in (run, run / "model"):
        np.testing.assert_array_equal(load_model(folder).get_weights()[0], average["ema/first/kernel"])
    for model in (load_model(run, ema=False), load_model(str(run), which=1)):
        np.testing.assert_array_equal(model.get_weights()[0], arrays["model/first/kernel"])
    for step, kernel in ((1, arrays["model/first/kernel"]), (2, average["ema/first/kernel"])):
        model = load_model(run / "model" / f"step_{step}")
        np.testing.assert_array_equal(model.get_weights()[0], kernel)
    with pytest.raises(InputError, match="step_1 is the checkpoint of step 1, but 2 was asked for; give"):
        load_model(run / "model" / "step_1", 2)


def test_load_model_refusals(run, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_model(run)
    with pytest.raises(InputError, match=r"is not a run folder: .*config.yml is missing"):
        load_model(tmp_path / "nowhere")
    save(run / "model", 1, checkpoints.model_arrays(small_model(units=4)))
    with pytest.raises(InputError, match="these weights are not of this tiny"):
        load_model(run)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"cell": "cms_lstm", "ce": None, "se": None, "key_filters": None}, "cms_lstm"),
        ({"cell": "cms_lstm", "ce": 0, "se": []}, {"name": "cms_lstm", "ce": 0, "se": []}),
        ({"cell": "st_lstm", "ce": 0, "se": []}, "st_lstm"),
        ({"cell": "st_lstm", "ce": 5, "se": []}, {"name": "st_lstm", "ce": 5}),
        (
            {"cell": "gmg", "key_filters": 8, "offsets": "bounded"},
            {"name": "gmg", "key_filters": 8, "offsets": "bounded"},
        ),
        ({"cell": {"name": "gmg", "key_filters": 8}}, {"name": "gmg", "key_filters": 8}),
    ],
)
def test_the_config_of_an_older_run_in_today_s_words(old, new):
    config = {"model": {"name": "recurrent", **old}, "data": {}, "train": {}, "eval": {}}
    assert upgrade(config)["model"] == {"name": "recurrent", "cell": new}


def test_a_log_that_is_kept_is_part_of_the_checkpoint(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("1\n")
    for step in (1, 2):
        save(tmp_path / "model", step, ARRAYS, log=log)
    kept = tmp_path / "model" / "step_2" / "metrics.jsonl"
    assert kept.read_text() == "1\n"
    kept.write_text("2\n")
    assert load(tmp_path / "model")[0] == 1


def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch):
    """Nobody shall remove it, nor shall a save replace it."""
    save(tmp_path, 1, ARRAYS)
    save(tmp_path, 2, ARRAYS)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    for attempt in (
        lambda: load(tmp_path),
        lambda: save(tmp_path, 2, ARRAYS),
        lambda: checkpoints.read_manifest(tmp_path),
    ):
        with pytest.raises(PermissionError):
            attempt()
    monkeypatch.undo()
    assert load(tmp_path)[0] == 2


def test_a_folder_in_the_place_of_the_lock(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(InputError, match=r"lock has to be a file, but is a folder; remove it"), RunLock(tmp_path):
        pass
