"""Protocols: what they say, that they are replayed on the very same clips, and the commands that use them."""

import json
from pathlib import Path

import command
import numpy as np
import pytest
import yaml

from htsr.config import save_config
from htsr.errors import InputError
from htsr.evaluation import protocol
from htsr.evaluation.run import evaluate_run
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.runs.release import release

TINY = {"levels": 2, "temporal_factor": 2, "stoch": 2, "deter": 4, "units": 8, "dense_layers": 1, "dense_units": 8}
MODELS = {
    "htsr": {"name": "htsr", "frame_shape": [64, 64, 1], "channels_mult": 0.05, **TINY},
    "conv_lstm": {"name": "recurrent", "frame_shape": [64, 64, 1], "cell": "conv_lstm", "filters": [4]},
}
DATA = {"name": "moving_mnist", "num_digits": 1, "seq_len": 8, "batch_size": 2}
EVAL = {"context": 4, "horizon": 5, "num_examples": 6, "lpips": False, "num_pictures": 1}


def make_run(folder, model, data=DATA, seed=0):
    from keras import utils

    utils.set_random_seed(seed)
    save_config({"model": MODELS[model], "data": data, "train": {}, "eval": EVAL}, folder / "config.yml")
    checkpoints.save(folder / "model", 7, checkpoints.model_arrays(build_model(**MODELS[model])))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untrained models on one moving digit."""
    logs = tmp_path_factory.mktemp("logs")
    names = {"a": ("htsr", 0), "b": ("htsr", 1), "lstm": ("conv_lstm", 0)}
    folders = {}
    for name, (model, seed) in names.items():
        (logs / name).mkdir()
        folders[name] = make_run(logs / name, model, seed=seed)
    return folders


def script(*arguments):
    """Run a command in this process: exit status, stdout, last line of stderr."""
    done = command.run(*arguments)
    return done.returncode, done.stdout, done.line


def results_of(printed):
    (line,) = (line for line in printed.splitlines() if line.startswith("results in "))
    return Path(line.removeprefix("results in ").partition(";")[0])


@pytest.fixture(scope="module")
def evaluated(runs):
    made = protocol.make_protocol(DATA, EVAL)
    return evaluate_run(runs["a"], made, num_pictures=1)


def test_a_protocol_says_everything_but_the_model(evaluated):
    content = yaml.safe_load((evaluated.folder / "protocol.yml").read_text())
    assert content["protocol"].keys() == {"metric_spec", "split", "clips_sha256", "first_clip_sha256"}
    assert content["data"]["image_size"] == 64
    assert content["data"]["seed"] == 0
    assert not {"seq_len", "batch_size"} & content["data"].keys()
    assert not {"batch_size", "num_pictures"} & content["eval"].keys()
    assert {"context": 4, "horizon": 5, "num_samples": 1, "select": None}.items() <= content["eval"].items()
    digests = {name: evaluated.provenance[name] for name in ("clips_sha256", "first_clip_sha256")}
    expected = protocol.make_protocol(DATA, EVAL)._replace(**digests)
    assert protocol.read_protocol(evaluated.folder / "protocol.yml") == expected
    assert evaluated.provenance["validation"] == "the split 'valid' of the same data"
    assert evaluated.provenance["trained_on"] == DATA


def test_replaying_a_protocol_gives_the_same_numbers_on_the_same_clips(runs, evaluated):
    status, printed, _ = script("evaluate", "--logdir", runs["a"], "--protocol", evaluated.folder / "protocol.yml")
    assert status == 0
    folder = results_of(printed)
    assert folder != evaluated.folder
    with np.load(folder / "curves.npz") as new, np.load(evaluated.folder / "curves.npz") as old:
        assert new.files == old.files
        for name in new.files:
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
    assert (folder / "protocol.yml").read_text() == (evaluated.folder / "protocol.yml").read_text()


def test_an_evaluation_renews_the_card_of_a_run_and_leaves_that_of_a_released_model(runs, tmp_path):
    made, card = protocol.make_protocol(DATA, {**EVAL, "num_examples": 1}), tmp_path / "released" / "model.md"
    released = release(runs["lstm"], tmp_path / "released")
    before = card.read_text()
    evaluate_run(released, made, num_pictures=0)
    assert card.read_text() == before
    (released / "metrics.jsonl").touch()
    evaluate_run(released, made, num_pictures=0)
    assert card.read_text() != before


def changed(evaluated, path, **sections):
    content = yaml.safe_load((evaluated.folder / "protocol.yml").read_text())
    for section, values in sections.items():
        content[section] |= values
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("arguments", "sections", "message"),
    [
        ([], {"data": {"seed": 5}}, "error: the first clip is not that of the protocol: expected SHA-256"),
        ([], {"protocol": {"clips_sha256": "0" * 64}}, "error: the clips were not those of the protocol (SHA-256"),
        (
            [],
            {"protocol": {"metric_spec": "htsr-2"}},
            "error: protocol.metric_spec: expected one of 'htsr-1', received",
        ),
        ([], {"protocol": {"split": "valid"}}, "error: protocol.split: expected one of 'test', received 'valid'"),
        ([], {"data": {"name": ["x"]}}, "error: unknown dataset ['x']; known: moving_mnist"),
        ([], {"eval": {"horizn": 5}}, "error: eval: unknown key 'horizn'; did you mean 'horizon'?"),
        ([], {"eval": {"batch_size": 5}}, "error: eval.batch_size is set by the program"),
        (["--horizon", 6], {}, "error: a protocol fixes eval.horizon; leave it out, or edit a copy of"),
        (["--eval-seq-len", 9], {}, "error: a protocol fixes --eval-seq-len; leave it out"),
        (["--set", "data.seed=1"], {}, "error: a protocol fixes data.seed; leave it out"),
    ],
)
def test_a_protocol_is_followed_to_the_letter(runs, evaluated, tmp_path, arguments, sections, message):
    path = changed(evaluated, tmp_path / "protocol.yml", **sections)
    status, _, line = script("evaluate", "--logdir", runs["a"], "--protocol", path, *arguments)
    assert status == 2
    assert message in line


def test_clips_that_are_too_short_are_refused_by_the_flags_that_ask_for_them(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), np.uint8))
    made = protocol.make_protocol({"name": "videos", "datadir": str(tmp_path)}, EVAL | {"context": 20, "horizon": 50})
    asked = r"clips of 70 frames, eval.context \(--open-loop-ctx\) \+ eval.horizon \(--horizon\): .* no video has 70 "
    with pytest.raises(InputError, match=asked):
        protocol.load_test_clips(made)


def test_a_run_that_knows_other_persons_is_refused(tmp_path):
    run = make_run(tmp_path, "htsr", data={**DATA, "name": "kth", "persons": "standard"})
    asked = protocol.Protocol({"name": "kth", "persons": "htsr"}, EVAL)
    with pytest.raises(InputError, match=r"trained with data.persons=standard, and the protocol has htsr: it may know"):
        evaluate_run(run, asked)


def test_a_source_without_validation_split_says_so(runs, tmp_path):
    digits = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", digits)
    model = MODELS["htsr"]
    (tmp_path / "run").mkdir()
    save_config({"model": model, "data": DATA, "train": {}, "eval": EVAL}, tmp_path / "run" / "config.yml")
    checkpoints.save(tmp_path / "run" / "model", 1, checkpoints.model_arrays(build_model(**model)))
    toronto = {"name": "moving_mnist", "source": "toronto", "datadir": str(tmp_path)}
    made = protocol.make_protocol(toronto, {**EVAL, "num_examples": 3})
    result = evaluate_run(tmp_path / "run", made, latents=False)
    content = json.loads((result.folder / "curves.json").read_text())
    assert content["provenance"]["validation"].startswith("none: mnist_test_seq.npy is a test set")
    assert "none: mnist_test_seq.npy is a test set" in (result.folder / "report.html").read_text()


def test_compare(runs, evaluated, tmp_path):
    """Three models on the same clips; the one that is evaluated already is not evaluated again."""
    names = [f"first={runs['a']}", f"second={runs['b']}", runs["lstm"]]
    before = len(list((runs["a"] / "eval").iterdir()))
    status, printed, _ = script("compare", *names, "--out", tmp_path / "out")
    assert status == 0
    assert len(list((runs["a"] / "eval").iterdir())) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} > {
        "curves.json",
        "curves.png",
        "comparison.md",
        "report.html",
        "protocol.yml",
    }
    lstm = f"{runs['lstm'].parent.name}/lstm"
    content = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert list(content["curves"]) == [
        "first",
        "second",
        lstm,
        "copy_last",
        "mean_frame",
        "median_frame",
        "black",
        "truth",
    ]
    psnr = {
        name: json.loads(next((runs[run] / "eval").glob("*/curves.json")).read_text())["curves"]["model"]["psnr"]
        for name, run in {"first": "a", "second": "b", lstm: "lstm"}.items()
    }
    for name, curve in psnr.items():
        np.testing.assert_allclose(content["curves"][name]["psnr"]["mean"], curve["mean"], rtol=1e-12)
    difference = np.subtract(psnr["first"]["mean"], psnr["second"]["mean"])
    np.testing.assert_allclose(content["differences"]["second"]["psnr"]["mean"], difference, rtol=1e-9)
    assert content["p_values"]["psnr"].keys() == {"second", lstm}
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert f"| horizon | first | second | {lstm} | copy_last | mean_frame | median_frame | black |" in table
    assert f"{psnr['second']['mean'][0]:.2f} [" in table
    assert "first minus second" in printed
    (gif,) = {picture["gif"] for picture in content["provenance"]["pictures"] if picture["role"] == "best"}
    assert (tmp_path / "out" / gif).exists()

    status, printed, _ = script("compare", *names, "--out", tmp_path / "again")
    assert "evaluating" not in printed
    assert json.loads((tmp_path / "again" / "curves.json").read_text())["curves"] == content["curves"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}"], "error: a comparison needs at least two runs, received 1"),
        (["{a}", "{a}"], "error: two runs are called"),
        (["black={a}", "{b}"], "error: a run cannot be called copy_last, mean_frame, median_frame, black or truth"),
        (["{a}", "nowhere"], "error: nowhere is not a run folder"),
        (
            ["{a}", "{b}", "--protocol", "x.yml", "--horizon", "3"],
            "error: a protocol fixes horizon; leave out the flags",
        ),
    ],
)
def test_compare_names_what_is_wrong(runs, tmp_path, arguments, message):
    given = [argument.format(**runs) for argument in arguments]
    status, _, line = script("compare", *given, "--out", tmp_path / "out")
    assert status == 2
    assert message in line
    assert not (tmp_path / "out").exists()
