"""Behaviour of the recurrent predictor that no reference array shows: sampling, passes, options, refusals."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.data import load_clips
from htsr.errors import InputError
from htsr.models import build_model
from htsr.training import fit as training
from htsr.training import schedules

TINY = {"frame_shape": (16, 16, 1), "filters": [4, 4], "context": 3, "cell": "conv_lstm"}


def tiny(**arguments):
    return build_model("recurrent", **{**TINY, **arguments})


def shares(model, step, num_inputs=8):
    """How often each input is a true frame, over many clips."""
    mask = model.teacher_mask(4000, num_inputs, tf.constant(7), None if step is None else tf.constant(step))
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
    masks = [model.teacher_mask(5, 8, tf.constant(s), tf.constant(50)).numpy() for s in (1, 1, 2)]
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
    np.testing.assert_array_equal(backwards.clip, forwards.clip[:, ::-1])
    assert len(tiny(time_reversed=False).training_passes(clip)) == tiny(time_reversed=False).num_passes == 1


def test_weight_decay_is_decoupled(tmp_path):
    """It takes its share of the weights before the gradient's step, once in every pass, and is no part of the loss."""
    clips = load_clips("moving_mnist", "train", batch_size=2, seq_len=5, image_size=32)
    found = []
    for decay in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        model = tiny(frame_shape=(32, 32, 1), time_reversed=False)
        before = [v.numpy() for v in model.trainable_variables]
        settings = {"valid_context": 2, "valid_horizon": 2, "valid_examples": 1, "learning_rate": 0.1}
        training.fit(model, clips, clips, tmp_path / str(decay), steps=1, weight_decay=decay, **settings)
        found.append([v.numpy() for v in model.trainable_variables])
    for start, plain, decayed in zip(before, *found, strict=True):
        np.testing.assert_allclose(plain - decayed, 0.05 * start, rtol=0, atol=1e-6)


def test_a_resumed_run_ends_as_one_that_was_not(tmp_path):
    """Sampling, passes and schedule are functions of the step."""
    clips = load_clips("moving_mnist", "train", batch_size=2, seq_len=5, image_size=32)
    settings = {"valid_context": 2, "valid_horizon": 2, "valid_examples": 1, "schedule": "cosine", "steps": 6}

    def run(folder):
        keras.utils.set_random_seed(0)
        model = tiny(frame_shape=(32, 32, 1), sampling_steps=6)
        training.fit(model, clips, clips, folder, checkpoint_every=3, log_every=1, **settings)
        return model.get_weights()

    whole = run(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "model" / "step_3", tmp_path / "resumed" / "model" / "step_3")
    log = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "resumed" / "metrics.jsonl").write_text("".join(log[:3]))
    for a, b in zip(whole, run(tmp_path / "resumed"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "resumed" / "metrics.jsonl").read_text() == "".join(log)


def test_learning_rate_counts_training_steps():
    for passes in (1, 2):
        rate = schedules.learning_rate(1.0, 2, "cosine", 12, passes)
        np.testing.assert_allclose([rate(s * passes) for s in (0, 1, 2, 7, 12)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "lstm"}, "unknown cell 'lstm'; did you mean"),
        ({"patch_size": 5}, "patch_size must divide the frame's 16x16 pixels, received 5"),
        ({"filters": []}, r"filters must be one number of at least 1 for every layer, received \[\]"),
        ({"filters": [4, 8], "cell": "st_lstm"}, r"filters must be equal, received \[4, 8\]"),
        ({"context": 0}, "context and sampling_steps must be at least 1, received 0"),
        ({"scored_from": 0}, "scored_from must be at least 1, received 0"),
        ({"cell": {"name": "conv_lstm", "se": [3]}}, "SE scales must divide the grid of 4x4, which 3 does not"),
        ({"dtype": "float16"}, "dtype must be float32, mixed_bfloat16 or mixed_float16, received 'float16'"),
        ({"patch_order": "rows"}, "patch_order must be one of"),
        ({"sampling": "Scheduled"}, "sampling must be one of scheduled, reverse, none, received 'Scheduled'"),
        ({"loss": "mse"}, "loss must be one of l2, l1_l2, received 'mse'"),
        ({"filters": 4}, "filters must be one number of at least 1 for every layer, received 4"),
        ({"filters": [4, 0]}, r"filters must be one number of at least 1 for every layer, received \[4, 0\]"),
        ({"cell": {"name": "conv_lstm", "ce": -1}}, "ce must be a whole number of at least 0, not -1"),
        ({"cell": {"name": "conv_lstm", "key_filters": 2}}, "cell conv_lstm has no argument 'key_filters'; it takes"),
        ({"cell": {"name": "sa_conv_lstm", "key_filters": "two"}}, "cell sa_conv_lstm cannot be made with"),
        ({"cell": {"name": "conv_lstm", "forget": 3}}, "has no argument 'forget'; did you mean 'forget_bias'?"),
        ({"cell": {"name": "sa_conv_lstm", "memory_kernel_size": 2}}, "kernel_size must be odd"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        tiny(**arguments)


def test_short_clips_are_refused():
    with pytest.raises(InputError, match="context is 3 and scored_from 2, but clips have 3 frames"):
        tiny().loss_terms(tf.zeros([2, 3, 16, 16, 1]), tf.constant(0))
