"""Behaviour of the recurrent predictor that no reference array shows: sampling, passes, options, refusals."""

import numpy as np
import pytest
import tensorflow as tf

from htsr import training
from htsr.errors import InputError
from htsr.models import build_model

TINY = {"frame_shape": (16, 16, 1), "filters": [4, 4], "context": 3, "cell": "conv_lstm"}


def tiny(**arguments):
    return build_model("recurrent", **{**TINY, **arguments})


def shares(model, step, num_inputs=8):
    """How often each input is a true frame, over many clips."""
    mask = model._teacher_mask(4000, num_inputs, tf.constant(7), None if step is None else tf.constant(step))
    return mask.numpy().mean(0)


@pytest.mark.parametrize(
    ("sampling", "step", "before", "after"),
    [
        ("scheduled", 0, 1, 1),
        ("scheduled", 25, 1, 0.75),
        ("scheduled", 100, 1, 0),
        ("scheduled", 5000, 1, 0),
        ("scheduled", None, 1, 0),
        # PredRNN-v2: alpha is a tenth of the schedule (5,000 of 50,000 steps).
        ("reverse", 0, 0.5, 0.5),
        ("reverse", 49, 0.5, 0.5),
        ("reverse", 60, 1 - 0.5 * np.exp(-1), 0.4),
        ("reverse", 100, 1, 0),
        ("reverse", None, 1, 0),
        ("none", 0, 1, 0),
    ],
)
def test_share_of_true_frames(sampling, step, before, after):
    found = shares(tiny(sampling=sampling, sampling_steps=100), step)
    assert found[0] == 1  # the first frame is always true
    np.testing.assert_allclose(found[1:3], before, atol=0.03)
    np.testing.assert_allclose(found[3:], after, atol=0.03)
    if before in (0, 1):
        assert set(found[1:3]) == {before}


def test_sampling_is_a_function_of_seed_and_step():
    model = tiny(sampling_steps=100)
    masks = [model._teacher_mask(5, 8, tf.constant(s), tf.constant(50)).numpy() for s in (1, 1, 2)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_validation_loss_is_that_of_the_rollout():
    model = tiny(loss="l1_l2", scored_from=4)
    x = np.random.default_rng(0).random((2, 7, 16, 16, 1), np.float32)
    error = model.rollout(x[:, :3], 4)[0][:, 1:] - x[:, 4:]
    terms = model.loss_terms(tf.constant(x), tf.constant(0))
    np.testing.assert_allclose(terms["l2"], 0.5 * (error**2).sum((1, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(terms["l1"], 0.5 * np.abs(error).sum((1, 2, 3, 4)), rtol=1e-5)


def test_time_reversed_batches_are_trained_on_too():
    clip = tf.constant(np.random.default_rng(0).random((2, 5, 16, 16, 1), np.float32))
    forwards, backwards = tiny().training_passes(clip)
    np.testing.assert_array_equal(backwards, forwards[:, ::-1])
    assert len(tiny(time_reversed=False).training_passes(clip)) == tiny(time_reversed=False).num_passes == 1


def test_learning_rate_counts_training_steps():
    for passes in (1, 2):
        rate = training._learning_rate(1.0, 2, "cosine", 12, passes)
        np.testing.assert_allclose([rate(s * passes) for s in (0, 1, 2, 7, 12)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "lstm"}, "cell must be one of cms_lstm, conv_lstm, .* received 'lstm'"),
        ({"patch_size": 5}, "patch_size must divide the frame's 16x16 pixels, received 5"),
        ({"filters": []}, "filters must have a number for every layer, received none"),
        ({"filters": [4, 8], "cell": "st_lstm"}, r"filters must be equal, received \[4, 8\]"),
        ({"context": 0}, "context and sampling_steps must be at least 1, received 0"),
        ({"scored_from": 0}, "scored_from must be at least 1, received 0"),
        ({"se": [3]}, "SE scales must divide the grid of 4x4, which 3 does not"),
        ({"dtype": "float16"}, "dtype must be float32 or mixed_bfloat16, received 'float16'"),
        ({"patch_order": "rows"}, "patch_order must be one of"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        tiny(**arguments)


def test_short_clips_are_refused():
    with pytest.raises(InputError, match="context is 3 and scored_from 2, but clips have 3 frames"):
        tiny().loss_terms(tf.zeros([2, 3, 16, 16, 1]), tf.constant(0))
