"""The benchmark of predicted digits: its parts, models of known quality, and the script on an untrained run."""

import json
import sys

import numpy as np
import pytest

from benchmarks import digit_identity
from benchmarks.digit_identity import augment, centred, crop, locate, measure, percentiles, table, wilson
from htsr import checkpoints, evaluation
from htsr.config import save_config
from htsr.data import load_clips
from htsr.data.mnist_digits import load_digits
from htsr.errors import InputError
from htsr.models import build_model

CONTEXT, HORIZONS, EXAMPLES = 5, [1, 3, 60], 40


@pytest.fixture(scope="module")
def nearest():
    """A classifier that needs no training: the class of the nearest training digit."""
    digits = load_digits("train")
    known = centred(digits.images).reshape(len(digits.images), -1)

    def classify(images):
        images = images.reshape(len(images), -1)
        distances = (known**2).sum(1) - 2 * images @ known.T
        return digits.labels[distances.argmin(axis=1)]

    return classify


def load(num_digits=1):
    return load_clips("moving_mnist", "test", batch_size=16, seq_len=CONTEXT + 60, num_digits=num_digits)


class Fake:
    """Predicts ``change(truth, context)`` of the clip that begins with the context."""

    def __init__(self, clips, change):
        self.clips = np.concatenate(list(clips.examples(EXAMPLES)))
        self.change = change
        self.seeds = []

    def rollout_chunks(self, context, horizon, seed, noise, chunk):
        length = context.shape[1]
        found = [next(c for c in self.clips if np.array_equal(c[:length], clip)) for clip in context]
        truth = np.stack(found)[:, length : length + horizon]
        future = self.change(truth, context)
        self.seeds += [*seed]
        for begin in range(0, horizon, chunk):
            yield future[None, :, begin : begin + chunk]


def result(change, classify, num_digits=1):
    clips = load(num_digits)
    return measure(Fake(clips, change), clips, classify, CONTEXT, HORIZONS, EXAMPLES)


def copy_last(truth, context):
    return np.broadcast_to(context[:, -1:], truth.shape)


def test_a_digit_is_cut_out_as_the_classifier_knows_it_wherever_it_is():
    images = load_digits("test").images[:20]
    frames = np.zeros((20, 64, 64), np.float32)
    corners = np.random.default_rng(0).integers(0, 37, (20, 2))
    corners[:4] = [[0, 0], [0, 36], [36, 0], [36, 36]]
    for frame, image, (top, left) in zip(frames, images, corners, strict=True):
        frame[top : top + 28, left : left + 28] = image / np.float32(255)
    centres, ink = locate(frames)
    np.testing.assert_array_equal(crop(frames, centres), centred(images))
    assert np.abs(centres - corners - 14).max() <= 1
    assert (ink > digit_identity.EMPTY).all()


def test_centre_is_the_centre_of_mass_of_the_ink():
    image = np.full((1, 9, 12), 0.05)
    image[0, 2, 3], image[0, 6, 11] = 0.75, 0.25
    centres, ink = locate(image)
    np.testing.assert_allclose(centres, [[3, 5]])
    np.testing.assert_allclose(ink, [1])


def test_a_perfect_model_reaches_the_ceiling(nearest):
    found = result(lambda truth, _: truth, nearest)
    for row in found["rows"]:
        assert row["accuracy"] == row["true_accuracy"] == found["context_accuracy"] > 0.9
        assert (row["distance_median"], row["distance_90"], row["empty"]) == (0, 0, 0)
        low, high = row["interval"]
        assert low < row["accuracy"] <= high


def test_copying_the_last_frame_keeps_identity_but_not_place(nearest):
    found = result(copy_last, nearest)
    medians = [row["distance_median"] for row in found["rows"]]
    assert 1 < medians[0] < 4 < medians[1] < 12 < medians[2]
    assert medians == [row["copy_last_median"] for row in found["rows"]]
    assert all(row["accuracy"] == found["context_accuracy"] > 0.9 for row in found["rows"])


def test_every_horizon_is_the_frame_of_that_number(nearest):
    """A model that is right except at one horizon, on either side of a border between pieces of a rollout."""

    def wrong_once(truth, _):
        frames = truth.copy()
        frames[:, 49] = 0
        return frames

    clips = load()
    rows = measure(Fake(clips, wrong_once), clips, nearest, CONTEXT, [51, 49, 50], EXAMPLES)["rows"]
    assert [(row["horizon"], row["empty"]) for row in rows] == [(49, 0), (50, 1), (51, 0)]
    assert [row["distance_median"] for row in rows] == [0, None, 0]


def test_every_clip_has_the_seed_it_has_in_the_evaluation(nearest):
    clips = load()
    model = Fake(clips, lambda truth, _: truth)
    measure(model, clips, nearest, CONTEXT, [1], EXAMPLES, seed=3)
    np.testing.assert_array_equal(model.seeds, evaluation.clip_seeds(3, range(EXAMPLES)))
    assert len(set(model.seeds)) == EXAMPLES


@pytest.mark.parametrize("value", [0.0, 0.05, np.nan])
def test_frames_without_ink_are_wrong(nearest, value):
    found = result(lambda truth, _: np.full_like(truth, value), nearest)
    assert {(row["accuracy"], row["empty"], row["distance_90"]) for row in found["rows"]} == {(0, 1, None)}
    assert found["context_accuracy"] > 0.9


def test_another_digit_is_wrong(nearest):
    """Every clip's prediction is that of its neighbour: right by chance only."""
    found = result(lambda truth, _: np.roll(truth, 1, axis=0), nearest)
    assert all(row["accuracy"] < 0.4 < row["true_accuracy"] for row in found["rows"])


def test_several_digits_must_be_themselves_and_in_place(nearest):
    perfect = result(lambda truth, _: truth, nearest, num_digits=2)
    still = result(copy_last, nearest, num_digits=2)
    for row in perfect["rows"]:
        assert row["accuracy"] == row["true_accuracy"]
        assert 0.6 < row["accuracy"] < 0.95  # overlaps cost something
        assert "distance_median" not in row
    assert still["rows"][-1]["accuracy"] < 0.4 < still["rows"][-1]["true_accuracy"]
    report = {"digits_per_clip": 2, "examples": EXAMPLES, "context": CONTEXT, "checkpoint": 7}
    assert "at their true places" in table({**report, "classifier_accuracy": 1.0, **still})


def test_wilson_interval():
    np.testing.assert_allclose(wilson(0, 10), [0, 0.2775], atol=1e-4)  # 1.96**2 / (10 + 1.96**2)
    np.testing.assert_allclose(wilson(10, 10), [0.7225, 1], atol=1e-4)
    assert sum(wilson(50, 100)) == pytest.approx(1)


def test_percentiles_with_infinite_values():
    assert percentiles(np.array([np.inf, 3.0, 1.0, 2.0, np.inf]), 50, 90) == [3.0, None]


def test_augmentation_is_mild_and_seeded():
    images = centred(load_digits("train").images[:50])
    warped = augment(images, np.random.default_rng(0))
    np.testing.assert_array_equal(warped, augment(images, np.random.default_rng(0)))
    assert warped.shape == images.shape
    assert warped.dtype == np.float32
    shift = np.abs(locate(warped)[0] - locate(images)[0])
    assert 1 < shift.max() < 4


def test_training_teaches_the_classifier():
    classify, accuracy = digit_identity.train_classifier(epochs=3)
    assert accuracy > 0.5
    assert classify(np.zeros((2, 28, 28), np.float32)).shape == (2,)


@pytest.fixture
def script(tmp_path, monkeypatch, capsys, nearest):
    """Runs the script on an untrained run, with a classifier of the given accuracy: status, stdout, stderr, run."""
    model = {"name": "htsr", "frame_shape": [64, 64, 1], "levels": 2, "temporal_factor": 2, "stoch": 2, "deter": 4}
    model |= {"units": 8, "dense_layers": 1, "dense_units": 8, "channels_mult": 0.05}
    data = {"name": "moving_mnist", "num_digits": 1, "seq_len": 8, "batch_size": 2}
    checkpoints.save(tmp_path / "model", 7, checkpoints.model_arrays(build_model(**model)))

    def run_script(*arguments, accuracy=0.99, **changes):
        save_config({"model": model, "data": {**data, **changes}, "train": {}, "eval": {}}, tmp_path / "config.yml")
        monkeypatch.setattr(digit_identity, "train_classifier", lambda: (nearest, accuracy))
        command = ["digit_identity.py", "--logdir", tmp_path, "--context", 4, "--examples", 20, *arguments]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        try:
            status = digit_identity.main()
        except SystemExit as end:
            status = end.code
        output = capsys.readouterr()
        return status, output.out, output.err, tmp_path

    return run_script


def test_the_script_prints_a_table_and_writes_it(script):
    status, printed, _, run = script("--horizons", 2, 55, 1)
    assert status == 0
    report = json.loads((run / "eval" / "digits.json").read_text())
    assert [row["horizon"] for row in report["rows"]] == [1, 2, 55]
    assert (report["checkpoint"], report["examples"], report["context"]) == (7, 20, 4)
    assert all(row["true_accuracy"] > 0.8 > row["accuracy"] for row in report["rows"])  # it was never trained
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["horizon", "1", "2", "55"]
    assert lines[2].split()[1] == f"{report['rows'][0]['true_accuracy']:.1%}"


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ([], {"accuracy": 0.96}, "reads only 96.0% of the test digits, expected at least 97%"),
        (["--horizons", 0], {}, "context and horizons must be at least 1, received 4 and 0"),
        (["--examples", 1001], {}, "num_examples is 1001, but there are only 1000 clips"),
        (["--checkpoint", 3], {}, "no checkpoint 3 in"),
        (["--logdir", "nowhere"], {}, "nowhere is not a run folder: nowhere/config.yml is missing"),
    ],
)
def test_what_cannot_be_measured_is_one_line(script, arguments, settings, message):
    status, _, errors, run = script("--horizons", 1, *arguments, **settings)
    assert status == 2
    assert message in errors.splitlines()[-1]
    assert not (run / "eval").exists()


def test_clips_that_do_not_know_their_digits_are_refused():
    clips = load()
    clips.source = object()
    with pytest.raises(InputError, match=r"do not say which digits they show; use a run with data.source=generated"):
        digit_identity.check(clips, 4, [1], 1)
