"""Predictions of videos without ground truth: which frames are taken, what is written, what is refused."""

import json
from pathlib import Path

import command
import cv2
import keras
import numpy as np
import pytest
from PIL import Image

from htsr.cli import predict
from htsr.config import save_config
from htsr.data import load_clips
from htsr.data.video.clip import Context, read_context
from htsr.data.video.files import FrameFormat, Video, convert, write_video
from htsr.errors import InputError
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.runs.folder import load_model

pytestmark = pytest.mark.usefixtures("plain_graphs")
FILES = ["predict.json", "prediction.gif", "prediction.mp4", "prediction.npz", "strip.png"]
HTSR = {"name": "htsr", "frame_shape": [64, 64, 1], "levels": 2, "temporal_factor": 2, "stoch": 2, "deter": 4}
HTSR |= {"units": 8, "dense_layers": 1, "dense_units": 8, "channels_mult": 0.05}
RECURRENT = {"name": "recurrent", "frame_shape": [16, 24, 3], "cell": "conv_lstm", "filters": [4], "patch_size": 8}
FORM = FrameFormat(16, 24, 3)
PLAIN = FrameFormat(40, 48, 3)


def save_run(folder, model, data, evaluation, change=lambda arrays: arrays):
    config = {"model": model, "data": data, "train": {}, "eval": evaluation}
    save_config(config, folder / "config.yml")
    arguments = {key: value for key, value in model.items() if key != "name"}
    arrays = checkpoints.model_arrays(build_model(model["name"], **arguments))
    checkpoints.save(folder / "model", 7, change(arrays), score=0.5)
    return folder


@pytest.fixture(scope="module")
def stochastic(tmp_path_factory):
    """A run of an untrained model that samples, but was evaluated with means."""
    keras.utils.set_random_seed(0)
    evaluation = {"context": 4, "horizon": 6, "noise": "mean"}
    return save_run(tmp_path_factory.mktemp("htsr"), HTSR, {"name": "moving_mnist"}, evaluation)


@pytest.fixture(scope="module")
def deterministic(tmp_path_factory):
    """A run on every second frame, cropped, of an untrained model without samples."""
    data = {"name": "videos", "datadir": None, "fit": "crop", "stride": 2}
    return save_run(tmp_path_factory.mktemp("recurrent"), RECURRENT, data, {"context": 3, "horizon": 5})


@pytest.fixture(scope="module")
def frames():
    """Twelve frames, 48 x 40, none like another."""
    return np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    write_video(path, frames, 20, "FFV1")  # lossless, and read from its beginning
    return path


def run_script(*arguments):
    """Run ``htsr predict`` in this process: exit status, stdout, last line of stderr."""
    done = command.run("predict", *arguments)
    return done.returncode, done.stdout, done.line


def expected(run, frames, form, horizon, **arguments):
    """The context and the prediction, made from frames of the input."""
    context = np.stack([convert(frame, form) for frame in frames])
    prediction = load_model(run).rollout(context[None] / np.float32(255), horizon, **arguments)
    return context, np.rint(255 * prediction[:, 0].clip(0, 1)).astype(np.uint8)


def film_length(path):
    film, length = cv2.VideoCapture(str(path)), 0
    while film.read()[0]:
        length += 1
    return length


def test_what_comes_after_the_end(stochastic, clip, frames, tmp_path):
    out = tmp_path / "new" / "out"
    common = ("--logdir", stochastic / "model", "--input", clip, "--num-samples", 2, "--seed", 3)
    status, printed, line = run_script(*common, "--checkpoint", 7, "--out", out)
    assert status == 0
    assert line == (
        "clip.avi has 12 frames (48 x 40, 20 fps): predicting from frames 8 to 11, stretched to 64 x 64, in grey; "
        "--start chooses others"
    )
    assert printed == f"prediction.npz, predict.json, strip.png, prediction.gif, prediction.mp4 are in {out}\n"
    context, prediction = expected(stochastic, frames[8:], FrameFormat(64, 64, 1), 6, num_samples=2, seed=3)
    assert (prediction[0] != prediction[1]).any()
    with np.load(out / "prediction.npz") as arrays:
        assert set(arrays) == {"context", "prediction", "fps"}
        np.testing.assert_array_equal(arrays["context"], context)
        np.testing.assert_array_equal(arrays["prediction"], prediction)
        assert arrays["prediction"].dtype == arrays["context"].dtype == np.uint8
        assert arrays["fps"] == 20

    assert sorted(path.name for path in out.iterdir()) == FILES
    with Image.open(out / "prediction.gif") as animation:
        assert animation.n_frames == 4 + 6
        assert animation.info["duration"] == 50
    assert film_length(out / "prediction.mp4") == 4 + 6
    with Image.open(out / "strip.png") as strip:
        assert strip.width > 10 * 64

    report = json.loads((out / "predict.json").read_text())
    assert report["input"] == "clip.avi"
    assert report["frames"] == {"first": 8, "last": 11, "stride": 1, "count": 4}
    assert (report["total"], report["size"], report["fps"]) == (12, [40, 48, 3], 20)
    assert (report["horizon"], report["num_samples"], report["seed"], report["noise"]) == (6, 2, 3, "sample")
    assert (report["checkpoint"]["step"], report["checkpoint"]["score"]) == (7, 0.5)
    assert len(report["checkpoint"]["files"]["state.npz"]["sha256"]) == 64
    assert report["environment"]["command"][:2] == ["htsr", "predict"]

    assert run_script(*common, "--out", tmp_path / "again")[0] == 0
    for name in FILES[1:]:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_one_future_is_made_of_means_where_the_run_says_so(stochastic, clip, frames, tmp_path):
    common = ("--logdir", stochastic, "--input", clip, "--out", tmp_path, "--context", 1, "--horizon", 4)
    (tmp_path / "notes.txt").write_text("other files are no obstacle")
    status, _, line = run_script(*common, "--start", 2, "--checkpoint", "best")
    assert (status, line) == (
        0,
        "clip.avi (48 x 40, 20 fps): predicting from frame 2, stretched to 64 x 64, in grey, with means in place of "
        "samples (the run's eval.noise)",
    )
    _, prediction = expected(stochastic, frames[2:3], FrameFormat(64, 64, 1), 4, noise="mean")
    with np.load(tmp_path / "prediction.npz") as arrays:
        np.testing.assert_array_equal(arrays["prediction"], prediction)
    assert json.loads((tmp_path / "predict.json").read_text())["noise"] == "mean"

    status, _, line = run_script(*common)
    assert (status, line) == (
        2,
        f"error: --out {tmp_path} holds {', '.join(predict.FILES)} already; give another folder, or --overwrite",
    )
    assert run_script(*common, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "predict.json").read_text())["frames"]["first"] == 11
    assert (tmp_path / "notes.txt").exists()


def test_a_demo_is_a_test_clip_with_its_truth(stochastic, tmp_path, monkeypatch):
    monkeypatch.setattr("htsr.runs.folder.shipped", lambda name: stochastic.parent)
    monkeypatch.chdir(tmp_path)
    status, printed, line = run_script("--pretrained", stochastic.name, "--demo")
    assert status == 0, line
    assert "first test clip of moving_mnist: predicting from frames 0 to 3, with means in place of samples" in line
    assert printed.strip() == f"{', '.join(predict.FILES)} are in demo"
    whole = next(load_clips("moving_mnist", split="test", seq_len=10, batch_size=1).examples(1))
    with np.load(tmp_path / "demo" / "prediction.npz") as saved:
        for name, part in {"context": whole[0, :4], "truth": whole[0, 4:]}.items():
            np.testing.assert_array_equal(saved[name], np.rint(255 * part))
        rolled = load_model(stochastic).rollout(whole[:, :4], 6, noise="mean")
        np.testing.assert_array_equal(saved["prediction"], np.rint(255 * rolled[:, 0].clip(0, 1)))
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--demo", "--start", 3], "error: --start 3 is for --input; --demo shows a clip from its beginning"),
        (["--input", "clip.avi"], "error: --out is missing; give a folder for the results"),
        (["--input", "clip.avi", "--demo"], "htsr predict: error: argument --demo: not allowed with argument --input"),
        (
            ["--demo", "--pretrained", "x"],
            "htsr predict: error: argument --pretrained: not allowed with argument --log",
        ),
    ],
)
def test_what_a_demo_does_not_go_with(deterministic, arguments, message):
    status, printed, line = run_script("--logdir", deterministic, *arguments)
    assert (status, printed) == (2, "")
    assert line.startswith(message)


def test_an_unknown_pretrained_model_is_refused(monkeypatch, tmp_path):
    for name in ("cms", "htsr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yml").touch()
    monkeypatch.setattr("htsr.runs.folder.shipped", lambda name: tmp_path)
    status, _, line = run_script("--pretrained", "htsr-kth", "--demo")
    assert (status, line) == (2, "error: --pretrained must be one of cms, htsr, received 'htsr-kth'")


def test_frames_are_taken_as_in_training(deterministic, frames, tmp_path):
    """Cropped, every second one; from a folder of images, whose speed is not known."""
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "images" / f"{number}.png")
    common = ("--logdir", deterministic, "--input", tmp_path / "images")
    status, _, line = run_script(*common, "--out", tmp_path / "out")
    assert (status, line) == (
        0,
        "images has 12 frames (48 x 40): predicting from frames 7 to 11, 2 apart, cropped to 24 x 16; "
        "--start chooses others",
    )
    context, prediction = expected(deterministic, frames[7::2], FORM._replace(fit="crop"), 5)
    with np.load(tmp_path / "out" / "prediction.npz") as arrays:
        np.testing.assert_array_equal(arrays["context"], context)
        np.testing.assert_array_equal(arrays["prediction"], prediction)
        assert arrays["fps"] == 5
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["noise"] == "none: the model is deterministic"

    status, _, line = run_script(*common, "--out", tmp_path / "x", "--num-samples", 3)
    assert (status, line) == (
        2,
        "error: this model has one future for a context, but --num-samples is 3; set it to 1",
    )
    status, _, line = run_script(*common, "--out", tmp_path / "x", "--start", 12)
    assert (status, line) == (2, "error: --start 12 is beyond the end: images has 12 frames, 0 to 11")
    status, _, line = run_script(*common, "--out", tmp_path / "images")
    assert (status, line) == (2, f"error: --out {tmp_path / 'images'} is the input; give another folder")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["avi", "npy", "gif"])
@pytest.mark.parametrize(
    ("count", "stride", "start", "taken", "words"),
    [
        (4, 1, None, range(8, 12), " has 12 frames (48 x 40): predicting from frames 8 to 11; --start chooses others"),
        (12, 1, None, range(12), " has 12 frames (48 x 40): predicting from frames 0 to 11; --start chooses others"),
        (3, 4, None, range(3, 12, 4), ": predicting from frames 3 to 11, 4 apart; --start chooses others"),
        (4, 1, 2, range(2, 6), " (48 x 40): predicting from frames 2 to 5"),
        (3, 4, 1, range(1, 10, 4), " (48 x 40): predicting from frames 1 to 9, 4 apart"),
        (
            36,
            1,
            None,
            range(12),
            " has 12 frames (48 x 40), fewer than --context 36: all 12 are used, predicting from frames 0 to 11",
        ),
        (
            4,
            5,
            None,
            range(1, 12, 5),
            ", fewer than the 16 that --context 4 takes, 5 apart: 3 are used, predicting from frames 1 to 11, 5 apart",
        ),
        (
            5,
            1,
            9,
            range(9, 12),
            " has 12 frames (48 x 40), 3 of them from --start 9 on, fewer than --context 5: all 3 are used, predicting "
            "from frames 9 to 11",
        ),
        (5, 1, 11, range(11, 12), "all 1 are used, predicting from frame 11"),
    ],
)
def test_which_frames(frames, clip, tmp_path, kind, count, stride, start, taken, words):
    path = clip if kind == "avi" else tmp_path / f"clip.{kind}"
    if kind == "npy":
        np.save(path, frames)
    elif kind == "gif":
        images = [Image.fromarray(frame).quantize(64) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=100)
        frames = np.stack([np.asarray(image.convert("RGB")) for image in images])
    context = read_context(Video(path.name, path), PLAIN, count, stride, start)
    assert context.numbers == taken
    np.testing.assert_array_equal(context.frames, frames[taken.start : taken.stop : stride])
    line = predict.announcement(Video(path.name, path), PLAIN, context._replace(fps=None), count, start, False)
    whole = kind != "avi" or start is None or len(taken) < count
    assert (context.total == 12) == whole
    if start is not None and whole and not words.startswith(" has"):
        words = words.removeprefix(" (48 x 40)")
    assert line.startswith(path.name)
    assert line.endswith(words)


def test_only_what_is_needed_is_read(frames, clip, monkeypatch):
    decoded = []
    monkeypatch.setattr("htsr.data.video.reader.convert", lambda image, form: decoded.append(1) or convert(image, form))
    read_context(Video("clip.avi", clip), PLAIN, 4, 1, start=3)
    assert len(decoded) == 7


@pytest.mark.parametrize(
    ("form", "size", "words"),
    [
        (FrameFormat(20, 24, 3), (40, 48, 3), ", scaled to 24 x 20"),
        (FrameFormat(20, 20, 3, "letterbox"), (40, 48, 3), ", letterboxed to 20 x 20"),
        (FrameFormat(40, 48, 3), (40, 48, 1), ", in three equal channels"),
        (FrameFormat(40, 48, 1), (40, 48, 1), "frames 0 to 1"),
    ],
)
def test_the_line_says_what_becomes_of_frames(form, size, words):
    context = Context(np.zeros((2, *form[:3]), np.uint8), range(2), 5, size, 29.97003, None)
    line = predict.announcement(Video("a.mp4", Path("a.mp4")), form, context, 2, 0, False)
    assert line.startswith(f"a.mp4 has 5 frames ({size[1]} x {size[0]}, 29.97 fps): predicting from frames 0 to 1")
    assert line.endswith(words)


def test_frames_become_what_the_data_of_the_run_became():
    assert predict._format((16, 24, 3), "letterbox") == FORM._replace(fit="letterbox")
    assert predict._format((64, 64, 1), None) == FrameFormat(64, 64, 1)
    with pytest.raises(InputError, match="frames of 2 channels, which no video has"):
        predict._format((32, 32, 2), None)


def test_what_a_model_of_generated_videos_was_trained_on_is_said():
    assert predict._stand_in({"name": "kth", "datadir": None, "stand_in": "generated"}) == "synthetic stand-in for kth"
    assert predict._stand_in({"name": "kth", "datadir": "KTH", "stand_in": None}) is None
    assert predict._stand_in({"name": "moving_mnist", "datadir": None}) is None


def test_the_input_is_not_overwritten(tmp_path):
    (tmp_path / "prediction.mp4").touch()
    video = Video("prediction.mp4", tmp_path / "prediction.mp4")
    with pytest.raises(InputError, match=r"is a file that this writes; give another --out"):
        predict._check_out(tmp_path, video, overwrite=True)


def test_pictures_end_where_memory_and_width_would_grow(tmp_path, monkeypatch):
    monkeypatch.setattr("htsr.report.prediction.GIF_FRAMES", 3)
    monkeypatch.setattr("htsr.report.prediction.PICTURED", 2)
    context = Context(np.zeros((2, 16, 16, 1), np.uint8), range(0, 4, 2), 4, (16, 16, 1), 1000.0, None)
    prediction = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 16, 1), np.uint8)
    predict.save(tmp_path, context, prediction, {})
    with Image.open(tmp_path / "prediction.gif") as animation:
        assert animation.n_frames == 2 + 3
        assert animation.info["duration"] == 20
        assert animation.width < 3 * 128
    assert film_length(tmp_path / "prediction.mp4") == 2 + 5
    with np.load(tmp_path / "prediction.npz") as arrays:
        np.testing.assert_array_equal(arrays["prediction"], prediction)
        assert arrays["fps"] == 500


def test_a_diverged_checkpoint_is_named(clip, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_run(
        run,
        RECURRENT,
        {"name": "videos"},
        {"context": 3, "horizon": 5},
        lambda arrays: {name: array * np.nan for name, array in arrays.items()},
    )
    status, _, line = run_script("--logdir", run, "--input", clip, "--out", tmp_path / "out")
    assert (status, line) == (
        2,
        f"error: step 7 of {run} predicts nan or inf: the training has diverged; choose another --checkpoint",
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--context", 0], "--context must be at least 1, received 0"),
        (["--horizon", 0], "--horizon must be at least 1, received 0"),
        (["--start", -1], "--start must be at least 0, received -1"),
        (["--num-samples", 0], "--num-samples must be at least 1, received 0"),
        (["--seed", 2**31], "--seed must be at most 2147483647, received 2147483648"),
        (["--logdir", "nowhere/model"], "nowhere/model is not a run folder: nowhere/config.yml is missing; give e.g."),
        (["--checkpoint", 9], "no checkpoint 9 in"),
        (["--checkpoint", "newest"], "no checkpoint 'newest' in"),
        (["--input", "missing.mp4"], "--input missing.mp4 does not exist; give a video file, a folder of images, or"),
        (["--input", "empty"], "--input empty has no images (.png, .jpg, .jpeg, .bmp, .tif, .tiff, .webp); give such"),
        (["--input", "text.mp4"], "video text.mp4 cannot be decoded"),
        (["--input", "nothing.mp4"], "video nothing.mp4 is empty or unreadable"),
        (["--out", "text.mp4"], "--out text.mp4 is a file; give a folder"),
    ],
)
def test_bad_input_is_one_line(deterministic, clip, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.mp4").write_text("no video\n" * 100)
    Path("nothing.mp4").touch()
    status, printed, line = run_script("--logdir", deterministic, "--input", clip, "--out", "out", *arguments)
    assert (status, printed) == (2, "")
    assert line.startswith(f"error: {message}")
    assert not Path("out").exists()
