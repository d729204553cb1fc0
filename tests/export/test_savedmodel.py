"""A SavedModel that needs TensorFlow and nothing of this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import command
import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.config import save_config
from htsr.errors import InputError
from htsr.export.savedmodel import export_model, export_run
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.runs.folder import load_model

TINY = {"stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125, "temporal_factor": 2}
MODELS = {
    "htsr": {**TINY, "levels": 2},
    "recurrent": {"cell": "conv_lstm", "filters": [4, 4], "patch_size": 16, "embed": False, "layer_norm": False},
}
NAMES = {f"{name}{kind}" for name in ("predict", "init", "step", "observe") for kind in ("", "_uint8")}


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = build_model(request.param, **MODELS[request.param])
    folder = tmp_path_factory.mktemp("export") / "new" / "model"
    assert export_model(model, folder, config={"model": MODELS[request.param]}) == folder
    return model, folder, tf.saved_model.load(str(folder))


def test_with_tensorflow_alone(exported, tmp_path):
    model, folder, _ = exported
    context = np.random.default_rng(0).random((2, 5, 64, 64, 1), np.float32)
    settings = [(2, 5, 7, 3), (1, 1, 60, 1), (2, 5, 7, 1)]
    np.savez(tmp_path / "given.npz", context=context, settings=settings)
    script = Path(__file__).with_name("loads_export.py")
    arguments = [sys.executable, "-I", script, folder, tmp_path / "given.npz", tmp_path / "received.npz"]
    process = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "received.npz") as received:
        for batch, frames, horizon, samples in settings:
            expected = model.rollout(context[:batch, :frames], horizon, samples, seed=11)
            assert expected.shape[:3] == (samples, batch, horizon)
            close(received[f"predict_{batch}_{frames}_{horizon}_{samples}"], expected)
        close(received["stepped"], expected[0])
        assert received["observed"] <= 1e-5
        as_bytes = np.rint(255 * received["decoded"].clip(0, 1))
        assert received["bytes"].dtype == received["byte_step"].dtype == np.uint8
        np.testing.assert_array_equal(received["bytes"], as_bytes)
        assert np.abs(received["byte_step"] - as_bytes[0, :, 0]).max() <= 1  # rounded from nearly the same numbers


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("row", ["lmc_memory", "bfloat16", "gsta", "htsr with layers"])
def test_other_states(row, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_model(**{**ROWS, "bfloat16": {**ROWS["conv_lstm"], "dtype": "mixed_bfloat16"}}[row])
    loaded = tf.saved_model.load(str(export_model(model, tmp_path / "model")))
    atol = 1e-2 if row in ("bfloat16", "gsta") else 1e-5
    context = np.random.default_rng(0).random((2, 12, *model.frame_shape), np.float32)
    expected = model.rollout(context, 6)
    close(loaded.predict(context, 6, 0, 1)["frames"], expected, atol)
    state = loaded.init(context[:, :10], 0)
    assert {x.dtype for x in state.values()} <= {tf.float32, tf.int64, tf.int32}
    for t in (10, 11):
        state = loaded.observe(**state, frame=context[:, t], seed=0)
    for t in range(6):
        state = loaded.step(**state, seed=0)
        close(state.pop("frame"), expected[0, :, t], atol)


def test_what_the_graph_cannot_do_is_refused(exported):
    model, _, loaded = exported
    context = np.zeros([2, 3, *model.frame_shape], np.float32)
    wrong = {
        "horizon must be at least 1": (context, 0, 0, 1),
        "num_samples must be at least 1": (context, 1, 0, 0),
        "context must be at least 1 frame": (context[:, :0], 1, 0, 1),
        "context must have at least one clip": (context[:0], 1, 0, 1),
    }
    for message, arguments in wrong.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            loaded.predict(*arguments)
    with pytest.raises(tf.errors.InvalidArgumentError, match="context must be at least 1 frame"):
        loaded.init_uint8(context[:, :0].astype(np.uint8), 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one frame for every row of the state"):
        loaded.observe(**loaded.init(context, 0), frame=context[:1, 0], seed=0)


def test_description_and_plain_graph(exported):
    model, folder, loaded = exported
    description = json.loads((folder / "assets" / "model.json").read_text())
    assert description["model"] == model.name
    assert description["frame_shape"] == [64, 64, 1]
    assert description["min_context"] == 1
    assert description["data_range"] == [0, 1]
    assert description["stochastic"] == model.stochastic
    assert description["parameters"] == sum(np.size(weight) for weight in model.get_weights())
    assert description["config"] == {"model": MODELS[model.name]}
    assert description["versions"]["tensorflow"] == tf.__version__
    assert set(description["signatures"]) == NAMES
    assert set(loaded.signatures) == NAMES | {"serving_default"}
    for name, about in description["signatures"].items():
        given = loaded.signatures[name].structured_input_signature[1]
        shapes = {key: {"dtype": x.dtype.name, "shape": x.shape.as_list()} for key, x in given.items()}
        assert about["inputs"] == shapes
        assert set(about["outputs"]) == set(loaded.signatures[name].structured_outputs)
    state = loaded.init(np.zeros([1, 2, 64, 64, 1], np.float32), 0)
    assert sorted(state) == list(description["state"])
    assert description["state"]["state_00"] == {"htsr": "levels/0/stoch", "recurrent": "layers/0/hidden"}[model.name]
    assert 'tf.saved_model.load("' in (folder / "README.md").read_text()
    graph = (folder / "saved_model.pb").read_bytes()
    for foreign in (b"PyFunc", b"_tf_keras", b"_XlaMustCompile\x12\x02(\x01"):
        assert foreign not in graph
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_folders_that_exist_and_exports_that_fail(run, tmp_path, monkeypatch):
    model, folder = load_model(run), tmp_path / "new" / "model"
    export_model(model, folder)
    with pytest.raises(InputError, match=r"exists; choose another folder"):
        export_model(model, folder)
    with pytest.raises(InputError, match="is no export of this package, so it is not replaced"):
        export_model(model, tmp_path, overwrite=True)

    def fail(_, folder, **__):
        (Path(folder) / "variables").mkdir()
        raise OSError(28, "No space left on device")

    def fail_to_rename(source, to, rename=os.rename):
        if ".tmp-" in Path(source).name:
            raise OSError(28, "No space left on device")
        rename(source, to)

    before = (folder / "saved_model.pb").stat()
    for module, name, failure in ((os, "rename", fail_to_rename), (tf.saved_model, "save", fail)):
        monkeypatch.setattr(module, name, failure)
        for out, overwrite in ((tmp_path / "new" / "other", False), (folder, True)):
            with pytest.raises(OSError, match="No space left"):
                export_model(model, out, overwrite=overwrite)
    assert (folder / "saved_model.pb").stat() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("row", ["conv_lstm", "st_lstm", "swin_lstm"])
def test_tflite(row, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_model(
        **ROWS[row] | ({"cell": row} if "cell" in ROWS[row] else {})
    )  # without blocks, which amplify rounding
    file = export_model(model, tmp_path / "model", tflite_context=4) / "model.tflite"
    interpreter = tf.lite.Interpreter(str(file))
    init, step, observe = (interpreter.get_signature_runner(name) for name in ("init", "step", "observe"))
    video, seed = np.random.default_rng(0).random((1, 6, *model.frame_shape), np.float32), np.int32(0)
    state = init(context=video[:, :4], seed=seed)
    for t in (4, 5):
        state = observe(**state, frame=video[:, t], seed=seed)
    for frame in model.rollout(video, 5)[0, 0]:
        state = step(**state, seed=seed)
        close(state.pop("frame")[0], frame)


def test_tflite_refuses_what_it_cannot_do(exported, run, tmp_path):
    if exported[0].name == "htsr":
        with pytest.raises(InputError, match="lacks operations of this htsr model; it can do recurrent"):
            export_model(exported[0], tmp_path / "out", tflite_context=4)
    with pytest.raises(InputError, match="needs a context of at least 1 frame, received 0"):
        export_run(run, tmp_path / "out", tflite_context=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("row", "atol"), [("cms_lstm", 2e-4), ("gmg", 1e-5)])  # untrained CE and SE amplify rounding
@pytest.mark.filterwarnings("ignore")  # the converter's
def test_onnx(row, atol, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    keras.utils.set_random_seed(1)
    model = build_model(**ROWS[row])
    folder = export_model(model, tmp_path / "model", onnx=True)
    sessions = {name: runtime.InferenceSession(folder / f"{name}.onnx") for name in ("init", "step", "observe")}

    def call(name, **arguments):
        session = sessions[name]
        taken = {x.name: np.asarray(arguments[x.name]) for x in session.get_inputs()}
        found = zip(session.get_outputs(), session.run(None, taken), strict=True)
        return {x.name.removeprefix("next_"): value for x, value in found}

    video = np.random.default_rng(0).random((2, 6, *model.frame_shape), np.float32)
    state = call("init", context=video[:, :4], seed=np.int32(0))
    for t in (4, 5):
        state = call("observe", **state, frame=video[:, t], seed=np.int32(0))
    for t in range(3):
        state = call("step", **state, seed=np.int32(0))
        np.testing.assert_allclose(state.pop("frame"), model.rollout(video, 3)[0, :, t], rtol=0, atol=atol)


def test_onnx_refuses_what_it_cannot_do(exported, tmp_path, monkeypatch):
    if exported[0].name == "htsr":
        with pytest.raises(InputError, match="tf2onnx cannot convert htsr, only the recurrent models"):
            export_model(exported[0], tmp_path / "out", onnx=True)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    if exported[0].name != "htsr":
        with pytest.raises(InputError, match="ONNX needs a converter: pip install tf2onnx"):
            export_model(exported[0], tmp_path / "out", onnx=True)
    assert list(tmp_path.iterdir()) == []


# ---- the script


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two checkpoints, the first one the better, and an evaluation of it."""
    folder = tmp_path_factory.mktemp("run")
    arguments = {"cell": "conv_lstm", "frame_shape": [16, 24, 1], "filters": [4], "patch_size": 8}
    save_config(
        {"model": {"name": "recurrent", **arguments}, "data": {}, "train": {}, "eval": {}}, folder / "config.yml"
    )
    arrays = checkpoints.model_arrays(build_model("recurrent", **arguments))
    checkpoints.save(folder / "model", 3, arrays, score=0.1)
    checkpoints.save(folder / "model", 7, {name: 0 * array for name, array in arrays.items()}, score=0.2)
    about = {"metric_spec": "htsr-1", "context": 4, "horizon": 6, "num_examples": 2, "num_samples": 1, "noise": "mean"}
    about |= {"clips_sha256": "0", "checkpoint": {"step": 3}}
    for time, value in (("2026-01-01", 1.0), ("2026-01-02", 2.0)):
        curves = {"model": {"psnr": {"horizon_mean": {"mean": value}}}, "black": {}}
        (folder / "eval" / time).mkdir(parents=True)
        (folder / "eval" / time / "curves.json").write_text(json.dumps({"provenance": about, "curves": curves}))
    (folder / "eval" / "2026-01-03").mkdir()
    (folder / "eval" / "2026-01-03" / "curves.json").write_text("{")
    return folder


def test_script(run, tmp_path):
    out = tmp_path / "mmnist" / "1"
    done = command.run("export", "--logdir", run / "model", "--out", out, "--checkpoint", "best")
    assert done[:2] == (0, f"exported to {out}\n")
    description = json.loads((out / "assets" / "model.json").read_text())
    _, _, manifest = checkpoints.load(run / "model", 3)
    found = description["provenance"]
    assert found["run"] == str(run)
    assert found["checkpoint"] == {name: manifest[name] for name in ("step", "score", "files")}
    assert len(found["checkpoint"]["files"]["state.npz"]["sha256"]) == 64
    assert found["evaluation"]["folder"] == str(run / "eval" / "2026-01-02")
    assert found["evaluation"]["checkpoint_step"] == 3
    assert found["evaluation"]["metrics"] == {"psnr": 2.0}
    assert description["config"]["model"]["cell"] == "conv_lstm"
    assert "models/mmnist:predict" in (out / "README.md").read_text()
    context = np.random.default_rng(0).random((1, 3, 16, 24, 1), np.float32)
    expected = load_model(run, 3).rollout(context, 5)
    loaded = tf.saved_model.load(str(out))
    close(loaded.predict(context, 5, 0, 1)["frames"], expected)
    assert command.run("export", "--logdir", run, "--out", out, "--overwrite").returncode == 0
    assert json.loads((out / "assets" / "model.json").read_text())["provenance"]["checkpoint"]["step"] == 7
    assert [path.name for path in out.parent.iterdir()] == ["1"]


def test_script_refuses(run, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yml").write_text((run / "config.yml").read_text())
    wrong = {
        "is not a run folder": ("--logdir", tmp_path / "none", "--out", tmp_path / "out"),
        "holds no checkpoint; train first": ("--logdir", empty, "--out", tmp_path / "out"),
        "no checkpoint 4 in": ("--logdir", run, "--out", tmp_path / "out", "--checkpoint", 4),
        "exists; choose another folder to export to": ("--logdir", run, "--out", empty),
        "exists and is no export": ("--logdir", run, "--out", empty, "--overwrite"),
    }
    for message, arguments in wrong.items():
        done = command.run("export", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_an_evaluation(run, tmp_path):
    lone = tmp_path / "run"
    lone.mkdir()
    (lone / "config.yml").write_text((run / "config.yml").read_text())
    (lone / "model").symlink_to(run / "model")
    out = export_run(lone, tmp_path / "out")
    assert json.loads((out / "assets" / "model.json").read_text())["provenance"]["evaluation"] is None
