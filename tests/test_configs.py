"""Every config runs, shrunk to one step."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import train
from htsr.config import read_config, save_config
from htsr.data import load_clips
from htsr.data.video.files import write_video
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.runs.checkpoints import load_model

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yml"))
TABLE3 = [path for path in CONFIGS if path.parent.name == "table3"]  # rows of one table: one of them stands for all
SHRUNK = {
    "data.batch_size": 2,
    "train.steps": 1,
    "train.warmup_steps": 0,
    "train.accumulate": 2,
    "train.valid_examples": 1,
    "train.valid_context": 3,
    "train.valid_horizon": 2,
}


SHRUNK_MODEL = {
    "htsr": {"data.seq_len": 38},
    "lmc_memory": {"data.seq_len": 12, "model.filters": 4, "model.context": 9, "model.long_frames": 11}
    | {"model.layers": 1, "model.warmup_steps": 0, "train.valid_context": 9},
    "recurrent": {"data.seq_len": 8, "model.filters": "[8, 8]", "model.context": 4},
}


READ_FROM_FILES = ("taxibj", "videos", "radar", "weatherbench")  # a fixture of this name writes some


@pytest.fixture(scope="module")
def taxibj(tmp_path_factory):
    """A file of the form of OpenSTL's dataset.npz."""
    folder = tmp_path_factory.mktemp("taxibj")
    frames = np.random.default_rng(0).uniform(-1, 1, (240, 2, 32, 32)).astype(np.float32)
    x, y = np.moveaxis(frames.reshape(-1, 2, 4, 2, 32, 32), 1, 0)
    np.savez(folder / "dataset.npz", X_train=x[:25], Y_train=y[:25], X_test=x[25:], Y_test=y[25:])
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of 40 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 256, (40, 64, 64, 3), np.uint8)
        write_video(folder / f"{number}.avi", frames, 10, "FFV1")
    return folder


@pytest.fixture(scope="module")
def radar(tmp_path_factory):
    """Two sequences a split, of the form of CIKM2017."""
    folder = tmp_path_factory.mktemp("radar")
    for place in [folder / split / f"sample_{n}" for split in ("train", "validation", "test") for n in (1, 2)]:
        place.mkdir(parents=True)
        for number in range(1, 16):
            cv2.imwrite(str(place / f"img_{number}.png"), np.full((101, 101), 10 * number, np.uint8))
    return folder


@pytest.fixture(scope="module")
def weatherbench(tmp_path_factory):
    """30 hours of each year, of the form of WeatherBench."""
    xarray = pytest.importorskip("xarray", reason="xarray, an extra of the package, is not installed")
    pytest.importorskip("h5netcdf", reason="h5netcdf, an extra of the package, is not installed")
    folder = tmp_path_factory.mktemp("weatherbench")
    values = np.random.default_rng(0).uniform(250, 300, (30, 32, 64)).astype(np.float32)
    for year in range(2010, 2019):
        times = np.datetime64(f"{year}-01-01", "ns") + np.arange(30) * np.timedelta64(1, "h")
        axes = {"time": times, "lat": np.linspace(-87, 87, 32), "lon": 5.625 * np.arange(64)}
        file = xarray.Dataset({"t2m": (tuple(axes), values)}, coords=axes)
        file.to_netcdf(folder / f"2m_temperature_{year}_5.625deg.nc", engine="h5netcdf")
    return folder


@pytest.fixture(autouse=True)
def free_memory():
    """A model's graphs hold gigabytes, in reference cycles."""
    yield
    keras.backend.clear_session(free_memory=True)


def name_of(path):
    return path.relative_to(ROOT / "configs").as_posix()


@pytest.mark.parametrize("path", [path for path in CONFIGS if path not in TABLE3[1:]], ids=name_of)
@pytest.mark.usefixtures("tiny_stand_ins")
def test_config_runs(path, tmp_path, monkeypatch, request):
    config = read_config(path)
    shrunk = {**SHRUNK, **SHRUNK_MODEL[config["model"]["name"]]}
    shrunk |= {"data.persons": "htsr"} if config["data"]["name"] == "kth" else {}  # the stand-in lacks others
    settings = [argument for key, value in shrunk.items() for argument in ("--set", f"{key}={value}")]
    if config["data"]["name"] in READ_FROM_FILES:
        settings += ["--datadir", str(request.getfixturevalue(config["data"]["name"]))]
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--logdir", str(tmp_path), *settings])
    assert train.main() == 0
    run = tmp_path / path.relative_to(ROOT / "configs").with_suffix("")
    assert (run / "model" / "step_1" / "manifest.json").exists()
    assert load_model(run).count_params() > 10_000
    assert f"--config {path.relative_to(ROOT)}" in path.read_text()


@pytest.mark.parametrize("path", TABLE3, ids=name_of)
def test_rows_of_table_3(path):
    """Published widths; CE and SE are where the file's name says."""
    config = read_config(path)
    model = build_model(**config["model"])
    cell, *parts = re.split("_(?=ce|se)", path.stem)
    assert {"conv_lstm": "cms_lstm", "predrnn": "st_lstm"}.get(cell, cell) == config["model"]["cell"]
    assert [cell.filters for cell in model.cells] == [64] * 4
    scales = {"se": (1, 2, 4), "se1": (1,), "se2": (1, 2)}
    for layer in model.cells:
        assert getattr(layer.ce, "steps", 0) == 5 * ("ce" in parts) if hasattr(layer, "ce") else not parts
        assert not hasattr(layer, "se") or getattr(layer.se, "scales", ()) == scales.get((parts or [""])[-1], ())
    assert f"--config {path.relative_to(ROOT)}" in path.read_text()
    assert config["train"]["steps"] == 80000 == 2 * config["model"]["sampling_steps"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", TABLE3, ids=name_of)
def test_rows_of_table_3_learn(path, tmp_path):
    """At full size: the loss on one clip falls, and what was saved is what a fresh process evaluates."""
    config = read_config(path)
    model = build_model(**config["model"])
    clips = next(load_clips(split="train", **{**config["data"], "batch_size": 1}).examples(1))
    model.compile(keras.optimizers.Adam(1e-3, weight_decay=0.01))
    step = tf.function(model.train_step)
    losses = [float(step(tf.constant(clips))["loss"]) for _ in range(50)]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    save_config(config, tmp_path / "config.yml")
    checkpoints.save(tmp_path / "model", 50, checkpoints.model_arrays(model))
    command = [sys.executable, ROOT / "eval_with_LPIPS.py", "--logdir", tmp_path, "--num-examples", "1"]
    subprocess.run(command, cwd=ROOT, check=True)
    (result,) = (tmp_path / "eval").glob("*/curves.npz")
    truth = next(load_clips(split="test", **{**config["data"], "batch_size": 1}).examples(1))
    error = np.square(model.rollout(truth[:, :10], 10)[0].clip(0, 1) - truth[:, 10:]).mean((2, 3, 4))
    np.testing.assert_allclose(np.load(result)["model/mse"][0], error, rtol=1e-3)
