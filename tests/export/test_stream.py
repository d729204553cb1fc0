"""Predictions frame by frame: a state that is kept, and what init, step and observe have to do with rollouts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.errors import InputError
from htsr.export.stream import Stream
from htsr.models import build_model
from htsr.models.lmc_memory import stream as motion_stream
from htsr.models.lmc_memory.memory import MotionEncoder
from htsr.ops import noise

FRAMES = 20
KINDS = (
    "htsr",
    "htsr with layers",
    "cms_lstm",
    "lmc_memory",
    "gmg with blocks",
    "tiny_blocks",
    "ddpae",
)  # of states; test_export_everywhere.py has all models


@pytest.fixture(scope="module", params=KINDS)
def stream(request):
    keras.utils.set_random_seed(1)
    model = build_model(**ROWS[request.param])
    return model, Stream(model)


@pytest.fixture(scope="module")
def htsr():
    keras.utils.set_random_seed(1)
    model = build_model(**{**ROWS["htsr"], "levels": 2})
    return model, Stream(model)


def video(model, batch=2, frames=FRAMES):
    return np.random.default_rng(0).random((batch, frames, *model.frame_shape), np.float32)


def close(a, b, atol=1e-5):
    tf.nest.map_structure(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


def rounding(model):
    return 1e-2 if model.compute_dtype == "bfloat16" else 1e-5


def steps(stream, state, count, seed):
    frames = []
    for _ in range(count):
        state, frame = stream.step(state, seed)
        frames.append(frame.numpy())
    return state, np.stack(frames, 1)


def test_steps_are_the_rollout(stream):
    model, functions = stream
    x = video(model)[:, : model.min_context + 2]
    _, frames = steps(functions, functions.init(x, seed=5), 7, seed=5)
    expected = model.rollout(x, 7, seed=5)[0]
    close(frames, expected, rounding(model))
    assert np.abs(expected[0] - expected[1]).max() > 1e-4  # clips differ, so that the comparison says something


def test_observing_is_reading_a_longer_context(stream):
    model, functions = stream
    x, first = video(model), model.min_context
    state = functions.init(x[:, :first], seed=5)
    for t in range(first, FRAMES):
        state = functions.observe(state, x[:, t], seed=5)
        if t in (first, first + 1, first + 3, FRAMES - 1):
            close(state, functions.init(x[:, : t + 1], seed=5), rounding(model))


def test_a_state_is_a_value(stream):
    """Futures that are tried change nothing for the state that is kept."""
    model, functions = stream
    x = video(model)
    state = functions.init(x[:, :-1])
    before = [tensor.numpy().copy() for tensor in tf.nest.flatten(state)]
    _, first = steps(functions, state, 3, seed=1)
    _, second = steps(functions, state, 3, seed=1)
    functions.observe(state, x[:, -1])
    np.testing.assert_array_equal(first, second)
    for old, new in zip(before, tf.nest.flatten(state), strict=True):
        np.testing.assert_array_equal(old, new)
    _, other = steps(functions, state, 3, seed=2)
    assert (other != first).any() == model.stochastic


def test_observing_after_steps(stream):
    """Predicted frames are history, and in HTSR frames that nobody saw."""
    model, functions = stream
    x = video(model)
    state, frames = steps(functions, functions.init(x[:, :-2]), 2, seed=0)
    state = functions.observe(state, x[:, -1])
    if model.name == "htsr":
        assert int(state.frame) == FRAMES + 1
        window = model.periods[-1]
        np.testing.assert_array_equal(state.window.seen, [1] + [0] * (window - 1))  # the first of a window
    else:
        history = np.concatenate([x[:, :-2], frames, x[:, -1:]], 1)
        close(state, functions.init(history), rounding(model))


def test_wrong_frames_are_refused(stream):
    model, functions = stream
    x = video(model)
    state = functions.init(x)
    height, width, channels = model.frame_shape
    for wrong in (x[:1, 0], x[:, :1], x[:, 0, 1:], (255 * x[:, 0]).astype(np.uint8)):
        with pytest.raises(InputError, match=rf"floats in \[0, 1\] of shape \(2, {height}, {width}, {channels}\)"):
            functions.observe(state, wrong)
    with pytest.raises(InputError, match="context must be floats in"):
        functions.init((255 * x).astype(np.uint8))


# ---- HTSR


def test_a_frame_that_nobody_saw_keeps_its_windows_on_priors(htsr):
    model, stream = htsr  # windows of 2 frames
    x = video(model)
    lost, _ = stream.step(stream.init(x[:, :2], seed=3), seed=3)
    after = stream.observe(lost, x[:, 3], seed=3)
    # The same by hand: the slow level's tick on its prior, the fast one's first too, the second on its posterior.
    embeds = [embed[:, 2 // period :] for embed, period in zip(model.encode(x[:, :4]), model.periods, strict=True)]
    seeds = noise.fold(noise.fold(3, tf.range(2)), 0)
    before = stream.init(x[:, :2], seed=3).levels
    by_hand = model.observe(embeds, seeds, tf.constant(True), tf.constant([0.0, 1.0]), before, 2)
    close(after.levels, tuple(type(s.states)(*(v[:, -1] for v in s.states)) for s in by_hand))
    complete = stream.init(x[:, :4], seed=3).levels
    assert np.abs(after.levels[1].stoch - complete[1].stoch).max() > 1e-3
    later = stream.observe(stream.observe(after, x[:, 4], seed=3), x[:, 5], seed=3)
    assert np.isfinite(later.levels[0].stoch).all()
    np.testing.assert_array_equal(later.window.seen, [0, 0])


def test_the_open_window_is_drawn_with_the_seed_of_the_last_observation(htsr):
    model, stream = htsr
    x = video(model)
    state = stream.init(x[:, :2], seed=1)
    mixed = stream.observe(stream.observe(state, x[:, 2], seed=7), x[:, 3], seed=9)
    close(mixed, stream.observe(stream.observe(state, x[:, 2], seed=9), x[:, 3], seed=9))


@pytest.mark.parametrize("frame", [2**31 - 2, 2**40])
def test_a_stream_may_go_on_for_years(htsr, frame):
    model, stream = htsr
    x = video(model)
    state = stream.init(x[:, :4])._replace(frame=tf.constant(frame, tf.int64))
    drawn = set()
    for t in range(4):
        ahead, _ = stream.step(state)
        drawn.add(float(ahead.levels[0].stoch[0, 0]))
        state = stream.observe(state, x[:, t])
    assert int(state.frame) == frame + 4
    assert len(drawn) == 4
    assert np.isfinite(state.levels[0].stoch).all()


# ---- LMC-Memory


def test_motion_of_a_stream_is_that_of_the_whole_clip():
    keras.utils.set_random_seed(0)
    encoder = MotionEncoder(4)
    x = np.random.default_rng(0).random((2, 80, 16, 32, 1), np.float32)
    encoder.build((None, None, 16, 32, 1))
    for variable in encoder.weights:
        variable.assign(2.0 * variable)  # so that maps are far from equal
    for start in (9, 40, 51):
        motion = motion_stream.begin(encoder, x[:, :start])
        for t in range(start, 80):
            motion = motion_stream.add(encoder, motion, tf.constant(x[:, t]), tf.constant(t, tf.int64))
            whole = encoder(x[:, 1 : t + 1] - x[:, :t])
            close(motion_stream.mean(encoder, motion, tf.constant(t + 1, tf.int64)), whole)
        close(motion, motion_stream.begin(encoder, x))
    longer, shorter = encoder(x[:, 1:] - x[:, :-1]), encoder(x[:, 1:72] - x[:, :71])
    assert np.abs(longer - shorter).max() > 1e-3
