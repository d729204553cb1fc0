"""Training in float16: small gradients are kept, large ones skip a step, and both go on from a checkpoint."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS
from stub_model import Noise, Stub

from htsr.data.clips import Clips
from htsr.models import build_model
from htsr.models.training_step import LossScale
from htsr.runs import checkpoints
from htsr.training.fit import fit

pytestmark = pytest.mark.usefixtures("plain_graphs")


def test_small_gradients_do_not_vanish():
    """Of a loss of 1e-7, whose gradients are below the smallest number of float16."""
    row = {name: value for name, value in ROWS["conv_lstm"].items() if name != "dtype"}
    wide, narrow = build_model(**row), build_model(**row, dtype="mixed_float16")
    narrow.set_weights(wide.get_weights())
    clip = tf.constant(np.random.default_rng(0).random((2, 9, *wide.frame_shape), np.float32))
    norms = {}
    for name, model in (("wide", wide), ("narrow", narrow), ("unscaled", narrow)):
        model.total_loss = lambda terms, num_frames, step: 1e-7 * tf.add_n(list(terms.values()))
        model.compile(keras.optimizers.Adam(0.0))
        if name == "unscaled":
            model.training_step.loss_scale.factor.assign(1.0)
        norms[name] = float(model.train_step(clip)["grad_norm"])
    assert abs(norms["narrow"] / norms["wide"] - 1.0) < 0.02
    assert abs(norms["unscaled"] / norms["wide"] - 1.0) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_every_model(row):
    """It begins with float32's loss, finds a scale that its gradients bear, and predicts."""
    settings = {name: value for name, value in ROWS[row].items() if name != "dtype"}
    wide, narrow = build_model(**settings), build_model(**settings, dtype="mixed_float16")
    narrow.set_weights(wide.get_weights())
    time = max(10, wide.min_context + 1)
    clip = tf.constant(np.random.default_rng(0).random((2, time, *wide.frame_shape), np.float32))
    for model in (wide, narrow):
        model.compile(keras.optimizers.Adam(1e-4))
    want, step = wide.train_step(clip), tf.function(narrow.train_step, autograph=False)
    logs = [{name: float(value) for name, value in step(clip).items()} for _ in range(20)]
    assert abs(logs[0]["loss"] / float(want["loss"]) - 1.0) < 0.1
    assert np.isfinite([log["loss"] for log in logs]).all()
    assert np.isfinite([log["grad_norm"] for log in logs[-3:]]).any()
    assert np.isfinite(narrow.rollout(clip[:, : time - 1], 3)).all()


def test_the_scale_follows_what_overflows():
    scale = LossScale()
    scale.update(finite=False)
    assert (scale.factor.numpy(), scale.steps.numpy()) == (2.0**14, 0)
    for _ in range(2000):
        scale.update(finite=True)
    assert (scale.factor.numpy(), scale.steps.numpy()) == (2.0**15, 0)
    for _ in range(20):
        scale.update(finite=False)
    assert scale.factor.numpy() == 1.0


class Half(Stub):
    """A stub whose gradient goes through float16, where 5e4 times the loss scale is too much at first."""

    def loss_terms(self, clip, seed, step=None):
        return {
            name: tf.cast(tf.cast(x, tf.float16), tf.float32) * 50.0
            for name, x in super().loss_terms(clip, seed).items()
        }


def train(run, steps, **settings):
    model = Half((16, 16, 1), dtype="mixed_float16")
    model.build()
    clips = Clips(Noise((4, 16, 16, 1), 6), 2)
    every = {"log_every": 1, "valid_every": 100, "valid_examples": 1, "valid_context": 2, "valid_horizon": 2}
    fit(model, clips, clips, run, steps=steps, learning_rate=0.1, **every, **settings)
    return checkpoints.load(run / "model")[1]


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9, "accumulate": 2}])
def test_steps_that_overflow_are_skipped_until_they_fit(tmp_path, capsys, settings):
    whole = train(tmp_path / "whole", 12, **settings)
    said = capsys.readouterr().err
    skipped = said.count("is skipped: its gradient overflowed; the loss scale is halved")
    assert 0 < skipped < 12
    assert whole["loss_scale/factor"] == 2.0**15 / 2.0**skipped
    assert whole["loss_scale/steps"] == 12 - skipped
    assert (whole["model/scale"] != 1.0).any()
    assert all(np.isfinite(array).all() for array in whole.values())
    train(tmp_path / "parts", 7, **settings)
    parts = train(tmp_path / "parts", 12, **settings)
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)
