"""Releasing a run: half precision, a card, an ordinary run folder."""

from pathlib import Path

import command
import keras
import numpy as np
import pytest

from htsr.config import save_config
from htsr.data import load_clips
from htsr.errors import InputError
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.runs.folder import load_model
from htsr.runs.release import release

ROOT = Path(__file__).parents[2]
MODEL = {"name": "recurrent", "cell": "conv_lstm", "filters": [4], "frame_shape": [16, 16, 1], "embed": False}


@pytest.fixture
def run(tmp_path):
    keras.utils.set_random_seed(0)
    save_config({"model": MODEL, "data": {}, "train": {}, "eval": {}}, tmp_path / "run" / "config.yml")
    arrays = checkpoints.model_arrays(build_model(**MODEL))
    slots = {name.replace("model", "optimizer"): array for name, array in arrays.items()}
    averages = {name.replace("model", "ema"): 2 * array for name, array in arrays.items()}
    checkpoints.save(tmp_path / "run" / "model", 5, {**arrays, **slots, **averages}, score=0.25)
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "run").mkdir()


def test_weights_alone_in_half_precision(run, tmp_path):
    out = release(run, tmp_path / "new" / "mine")
    step, arrays, manifest = checkpoints.load(out / "model")
    assert (step, manifest["score"]) == (5, 0.25)
    assert all(name.startswith("model/") and array.dtype == np.float16 for name, array in arrays.items())
    size = {folder: (folder / "model" / "step_5" / "state.npz").stat().st_size for folder in (run, out)}
    assert size[out] < size[run] / 4
    assert (out / "model.md").read_text().startswith("# mine\n")
    model, loaded = load_model(run), load_model(out)
    assert {weight.dtype for weight in loaded.weights} == {"float32"}
    for ours, whole in zip(loaded.weights, model.weights, strict=True):  # the averages
        np.testing.assert_array_equal(ours, np.asarray(whole).astype(np.float16).astype(np.float32))


def test_refusals(run, tmp_path):
    with pytest.raises(InputError, match=r"run exists; choose another folder to release to, or remove it"):
        release(run, run)
    step, arrays, _ = checkpoints.load(run / "model")
    arrays = {name: array * 1e9 for name, array in arrays.items()}
    checkpoints.save(run / "model", step + 1, arrays)
    with pytest.raises(InputError, match=r"has values beyond float16 \(65504\); release another checkpoint"):
        release(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = command.run("release", run, run)
    assert done.returncode == 2
    assert done.line == f"error: {run} exists; choose another folder to release to, or remove it"


@pytest.mark.parametrize(("name", "psnr"), [("htsr-mmnist-laptop", 19.5), ("cms_lstm-mmnist-laptop", 17.5)])
def test_pretrained_models_predict(name, psnr):
    """Ten frames of eight test clips, better than black (16.7 dB) by far; small; the card is of these weights."""
    run = ROOT / "pretrained" / name
    sizes = [path.stat().st_size for path in run.rglob("*") if "eval" not in path.parts]
    assert sum(sizes) < 8e6
    assert checkpoints.read_manifest(run / "model")["files"]["state.npz"]["sha256"] in (run / "model.md").read_text()
    clip = next(load_clips("moving_mnist", split="test", num_digits=1, seq_len=46, batch_size=8).examples(8))
    frames = load_model(run).rollout(clip[:, :36], 10, noise="mean")[0].clip(0, 1)
    errors = np.square(frames - clip[:, 36:]).mean((2, 3, 4))
    assert (-10 * np.log10(errors)).mean() > psnr
