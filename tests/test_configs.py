"""Every config is bound and built; one of every kind trains a step."""

import math
import re
from pathlib import Path

import command
import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.config import check_named, check_section, read_config, save_config
from htsr.data import DATASETS, load_clips
from htsr.data.video.files import write_video
from htsr.evaluation.protocol import check_eval
from htsr.models import MODELS, build_model
from htsr.runs import checkpoints
from htsr.runs.folder import load_model
from htsr.training.fit import fit

pytestmark = pytest.mark.usefixtures("plain_graphs")
ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yml"))
TABLE3 = [path for path in CONFIGS if path.parent.name == "table3"]  # rows of one table: one of them stands for all
SIMVP = [path for path in CONFIGS if path.parent.parent.name == "simvp"]  # of all translators
SPARE = [path for path in SIMVP if path.stem not in ("incep_u", "gsta", "tau")]
RUN = [  # one of every class of models and of every kind of data; all the others are bound and built
    "conv_lstm/cikm2017.yml",
    "conv_lstm/weatherbench.yml",
    "cwvae/mmnist_laptop.yml",
    "gmg/mmnist_laptop.yml",
    "lmc_memory/kth.yml",
    "mazes.yml",
    "ddpae/mmnist_laptop.yml",
    "e3d_lstm/mmnist_laptop.yml",
    "fc_lstm/mmnist_laptop.yml",
    "crevnet/mmnist_laptop.yml",
    "pde_driven/mmnist_laptop.yml",
    "phydnet/mmnist_laptop.yml",
    "simvp/mmnist_laptop.yml",
    "st_resnet/taxibj_4to4.yml",
    "swin_lstm/mmnist_laptop.yml",
    "wast/mmnist_laptop.yml",
    "motionrnn/mmnist_laptop.yml",
    "videos.yml",
]
SHORT = {
    "data.batch_size": 2,
    "train.steps": 1,
    "train.accumulate": 1,
    "train.warmup_steps": 0,
    "train.valid_examples": 1,
    "train.valid_context": 3,
    "train.valid_horizon": 2,
}
SHORT_CLIPS = {
    "htsr": {"data.seq_len": 38},
    "lmc_memory": {"data.seq_len": 12, "model.context": 9, "model.long_frames": 11, "model.warmup_steps": 0}
    | {"train.valid_context": 9},
    "recurrent": {"data.seq_len": 8, "model.context": 4},
    "ddpae": {"data.seq_len": 6, "model.context": 4},
    "e3d_lstm": {"data.seq_len": 6, "model.context": 4},
    "fc_lstm": {"data.seq_len": 6, "model.context": 4},
    "phydnet": {"data.seq_len": 6, "model.context": 4},
    "crevnet": {"data.seq_len": 6},
    "pde_driven": {"data.seq_len": 6, "model.context": 4},
    "simvp": {"data.seq_len": 6, "model.context": 4},
    "st_resnet": {"data.seq_len": 6, "model.closeness": 4},
    "swin_lstm": {"data.seq_len": 6, "model.context": 4},
    "wast": {"data.seq_len": 6, "model.context": 4},
}
NARROW = {
    "htsr": {
        "model.stoch": 4,
        "model.deter": 8,
        "model.units": 8,
        "model.dense_units": 16,
        "model.channels_mult": 0.125,
    },
    "lmc_memory": {"model.filters": 4, "model.layers": 1},
    "recurrent": {"model.filters": "[4, 4]"},
    "ddpae": {"model.filters": 2, "model.units": 8},
    "e3d_lstm": {"model.filters": "[4, 4]"},
    "fc_lstm": {"model.units": "[8]"},
    "phydnet": {"model.lstm_filters": "[4, 32]"},
    "pde_driven": {"model.filters": 2},
    "crevnet": {"model.blocks": "[1, 1]", "model.layers": 2},
    "simvp": {"model.filters": 4, "model.translator": "{name: gsta, filters: 16, depth: 2}"},
    "st_resnet": {"model.filters": 4, "model.units": 1},
    "swin_lstm": {"model.filters": 4},
    "wast": {"model.filters": 2, "model.depths": "[1, 1, 1]"},
}
FRAME_SHAPES = {"taxibj": [32, 32, 2], "weatherbench": [32, 64, 1]}
CHANNELS = {"mazes": 3, "videos": 3}
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


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] * (path in SPARE)) for path in CONFIGS], ids=name_of
)
def test_config_binds(path):
    """Every key is an argument of the right type, and the model can be built: its shapes, not its weights."""
    config = read_config(path)
    data = check_named("data", config["data"], DATASETS, reserved=("split",))
    check_section("train", config["train"], fit, reserved=("model", "clips", "valid_clips", "run"))
    check_eval(config["eval"])
    size = data.get("image_size", 64) or 64
    sides = [size, size] if isinstance(size, int) else list(size)
    shape = FRAME_SHAPES.get(data["name"]) or [*sides, data.get("channels") or CHANNELS.get(data["name"], 1)]
    with keras.StatelessScope(initialize_variables=False):
        model = build_model(**{"frame_shape": shape, **config["model"]})
    assert model.count_params() > 10_000
    if stated := re.search(r"([\d,]{6,}) parameters", path.read_text()):
        trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        assert trained == int(stated[1].replace(",", ""))
    assert re.search(rf"htsr train --config {name_of(path)[:-4]}( |$)", path.read_text(), re.M)


def shrunk(path, logdir, request, *widths):
    """Train one step of a config as a user would, on little data: the run folder."""
    config = read_config(path)
    name, data = config["model"]["name"], config["data"]["name"]
    wanted = {**SHORT, **SHORT_CLIPS[name]}
    for width in widths:
        wanted |= width[name]
    wanted |= {"data.persons": "htsr"} if data == "kth" else {}  # the stand-in lacks others
    wanted |= {"data.stand_in": "generated"} if data in ("kth", "mazes") else {}
    settings = [argument for key, value in wanted.items() for argument in ("--set", f"{key}={value}")]
    if data in READ_FROM_FILES:
        settings += ["--datadir", str(request.getfixturevalue(data))]
    assert command.run("train", "--config", path, "--logdir", logdir, *settings).returncode == 0
    run = logdir / path.relative_to(ROOT / "configs").with_suffix("")
    assert (run / "model" / "step_1" / "manifest.json").exists()
    return run


def test_every_model_and_dataset_has_a_config_that_runs():
    sections = [read_config(ROOT / "configs" / name) for name in RUN]
    ours = {name for name, model in MODELS.items() if model.__module__.startswith("htsr.")}  # not those of tests
    assert {config["model"]["name"] for config in sections} == ours
    assert {config["data"]["name"] for config in sections} == set(DATASETS)


@pytest.mark.parametrize("name", RUN)
@pytest.mark.usefixtures("tiny_stand_ins")
def test_config_runs(name, tmp_path, request):
    assert load_model(shrunk(ROOT / "configs" / name, tmp_path, request, NARROW)).count_params() > 1000


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CONFIGS if path not in (*TABLE3[1:], *SPARE)], ids=name_of)
@pytest.mark.usefixtures("tiny_stand_ins")
def test_config_runs_at_full_width(path, tmp_path, request):
    assert load_model(shrunk(path, tmp_path, request)).count_params() > 10_000


@pytest.mark.parametrize("path", TABLE3, ids=name_of)
def test_rows_of_table_3(path):
    """Published widths; CE and SE are where the file's name says."""
    config = read_config(path)
    model = build_model(**config["model"])
    cell, *parts = re.split("_(?=ce|se)", path.stem)
    made = config["model"]["cell"]
    made = made if isinstance(made, str) else made["name"]
    assert {"conv_lstm": "cms_lstm", "predrnn": "st_lstm"}.get(cell, cell) == made
    assert [cell.filters for cell in model.cells] == [64] * 4
    scales = {"se": (1, 2, 4), "se1": (1,), "se2": (1, 2)}
    for layer in model.cells:
        assert getattr(layer.ce, "steps", 0) == 5 * ("ce" in parts) if hasattr(layer, "ce") else not parts
        assert not hasattr(layer, "se") or getattr(layer.se, "scales", ()) == scales.get((parts or [""])[-1], ())
    assert re.search(rf"htsr train --config {name_of(path)[:-4]}( |$)", path.read_text(), re.M)
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
    assert command.run_child("evaluate", "--logdir", tmp_path, "--num-examples", 1).returncode == 0
    (result,) = (tmp_path / "eval").glob("*/curves.npz")
    truth = next(load_clips(split="test", **{**config["data"], "batch_size": 1}).examples(1))
    error = np.square(model.rollout(truth[:, :10], 10)[0].clip(0, 1) - truth[:, 10:]).mean((2, 3, 4))
    np.testing.assert_allclose(np.load(result)["model/mse"][0], error, rtol=1e-3)
