"""Every model has the same gradients where what they need is computed again, segment by segment."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.training_step import gradients
from htsr.ops.recompute import recomputing

WITHOUT_RECURRENCE = ("tiny_blocks", "simvp", "gsta", "swin", "wast", "st_resnet", "pde_driven")
WITHOUT_RECURRENCE += ("pde_driven with skips",)
QUICK = ("htsr", "conv_lstm", "tiny_blocks")


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("name", [pytest.param(row, marks=[pytest.mark.slow] * (row not in QUICK)) for row in ROWS])
def test_loss_and_gradients_in_segments(name):
    """And running averages, which a segment that is computed twice must not move twice."""
    keras.utils.set_random_seed(1)
    model = build_model(**ROWS[name])
    clip = np.random.default_rng(0).random((2, max(12, model.min_context + 1), *model.frame_shape), np.float32)
    part = model.training_passes(tf.constant(clip))[-1]
    before = model.get_weights()

    def computed(frames):
        model.set_weights(before)

        def step(clip):
            with recomputing(frames):
                return gradients(model, clip, model.trainable_variables, 3, tf.constant(10), **part.arguments)

        found = tf.nest.flatten(tf.function(step, autograph=False)(part.clip))
        return [np.concatenate([np.ravel(x) for x in arrays]) for arrays in (found, model.get_weights())]

    if name in WITHOUT_RECURRENCE:
        with pytest.raises(InputError, match=r"train\.recompute is 4, but there is nothing to recompute"):
            computed(4)
        return
    for a, b in zip(computed(4), computed(None), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("recompute", [0, 2.5])
def test_a_wrong_number_is_refused(recompute):
    with pytest.raises(InputError, match="recompute must be a whole number of at least 1"):
        build_model(**ROWS["conv_lstm"]).compile(keras.optimizers.SGD(), recompute=recompute)
