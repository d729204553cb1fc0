"""Every model compiled with XLA computes what it computes without: training steps and rollouts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.models import build_model
from htsr.models.training_step import gradients


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "htsr")) for name in ROWS])
def model(request):
    keras.utils.set_random_seed(1)
    return build_model(**ROWS[request.param])


def clips(model, time):
    """A square that moves over a background, in both clips of a batch."""
    height, width, _ = model.frame_shape
    rows, columns, place = np.arange(height)[:, None], np.arange(width), np.arange(time)[:, None, None]
    square = (abs(rows - height / 3 - 0.5 * place) < height / 5) & (abs(columns - width / 4 - place) < width / 6)
    noise = np.random.default_rng(0).random((2, 1, *model.frame_shape))
    return tf.constant(0.6 * square[None, ..., None] + 0.3 * noise, tf.float32)


def assert_same(model, job, *arguments, rtol):
    """Each of the results of a job is the same compiled, by its norm; a nest of results has one norm.

    Graphs are optimised here: without that TensorFlow 2.21 gives wrong gradients for the last biases of ST-ResNet.
    """
    plain, compiled = (tf.function(job, autograph=False, jit_compile=jit)(*arguments) for jit in (False, True))
    for results in zip(plain, compiled, strict=True):
        a, b = (np.concatenate([np.ravel(x) for x in tf.nest.flatten(result)]) for result in results)
        assert np.isfinite(a).all()
        # bfloat16 is rounded elsewhere, and normalisations amplify that.
        amplified = 1 if model.dtype_policy.name == "float32" else 5000
        assert np.linalg.norm(b - a) <= amplified * rtol * np.linalg.norm(a)


def test_a_training_step(model):
    """Loss, terms and gradients of every pass."""

    def check(clip, frozen, arguments):
        trained = [v for v in model.trainable_variables if v.path not in {v.path for v in frozen}]

        def step(clip, seed, step):
            return gradients(model, clip, trained, seed, step, **arguments)

        assert_same(model, step, clip, tf.constant(3), tf.constant(10), rtol=1e-4)

    for part in model.training_passes(clips(model, max(10, model.min_context + 1))):
        check(*part)


def test_a_rollout(model):
    """In chunks of static lengths, in one of which a slow level does not tick at all."""

    def predict(context, seeds):
        state, first = model.advance(model.start(context, 1, seeds, tf.constant(True)), 4)
        return first, model.advance(state, 3)[1]

    assert_same(model, predict, clips(model, max(5, model.min_context)), tf.range(2), rtol=2e-4)
