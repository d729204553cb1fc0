"""The one-cycle schedule, and Adam with it, against their published definitions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.data import load_clips
from htsr.errors import InputError
from htsr.models import build_model
from htsr.training import fit as training
from htsr.training.schedules import OneCycle, OneCycleAdam


def test_one_cycle():
    cycle = OneCycle(1.0, 101)
    steps = np.array([0, 14.65, 29.3, 64.65, 100])  # 0.3 * 101 - 1 is the top
    np.testing.assert_allclose([cycle(s) for s in steps], [0.04, 0.52, 1, 0.5, 4e-6], rtol=1e-4)
    np.testing.assert_allclose([cycle.beta_1(s) for s in steps], [0.95, 0.9, 0.85, 0.9, 0.95], rtol=1e-5)
    assert float(cycle(1000)) == float(cycle(100))


def test_adam_with_a_beta_that_changes():
    """PyTorch's: the moment's decay and its bias correction are both of the present beta."""
    cycle, grads = OneCycle(0.1, 10), np.random.default_rng(0).normal(size=(10, 3))
    optimizer, variable = OneCycleAdam(cycle, epsilon=1e-8), keras.Variable(np.zeros(3, np.float32))
    step = tf.function(lambda g: optimizer.apply([g], [variable]))
    optimizer.build([variable])
    x, m, v = np.zeros((3, 3))
    for t, g in enumerate(grads):
        beta, rate = float(cycle.beta_1(t)), float(cycle(t))
        m, v = beta * m + (1 - beta) * g, 0.999 * v + 0.001 * g**2
        x = x - rate * m / (1 - beta ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        step(tf.constant(g, tf.float32))
        np.testing.assert_allclose(variable, x, rtol=0, atol=1e-5)


def test_training_with_it(tmp_path):
    clips = load_clips("moving_mnist", "train", batch_size=2, seq_len=5, image_size=32)
    model = build_model("recurrent", cell="conv_lstm", frame_shape=(32, 32, 1), filters=[4], context=3)
    settings = {"steps": 3, "valid_context": 2, "valid_horizon": 2, "valid_examples": 1, "learning_rate": 0.5}
    training.fit(model, clips, clips, tmp_path, schedule="onecycle", **settings)
    cycle = model.optimizer._one_cycle
    assert (cycle.peak, cycle.steps) == (0.5, 3 * model.num_passes)
    assert float(model.optimizer.learning_rate) == float(cycle(3 * model.num_passes))
    with pytest.raises(InputError, match="warmup_steps must be 0 with schedule onecycle, which warms up by itself"):
        training.fit(model, clips, clips, tmp_path, schedule="onecycle", warmup_steps=1, **settings)
