"""Behaviour of the parts of GMG and MotionRNN that no reference array shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.warp_speed import gathered
from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.recurrent.blocks.motion import MotionBlock, MotionGuided, MotionState, TrendGrowth
from htsr.models.recurrent.blocks.warp import Warp, sample, tap_coordinates
from htsr.ops.scan import scan

SIZES = {"filters": [16] * 3, "frame_shape": (16, 24, 2), "patch_size": 2, "context": 3, "embed": False}
TINY = {**SIZES, "layer_norm": False, "time_reversed": False}
rng = np.random.default_rng(0)


def coordinates(height=4, width=6, batch=2):
    """Far outside, on the border, between pixels and exactly on them."""
    offset = rng.normal(scale=3, size=(batch, height, width, 18)).astype(np.float32)
    offset[0, :, :, ::2] = np.round(offset[0, :, :, ::2])
    offset[1, 0, 0] = np.repeat([-0.5, 0.5, 20], 6)
    return tap_coordinates(tf.constant(offset))


def test_sampling_is_interpolation():
    """Against a sum over all pixels, in values; against the naive formulation, in gradients too."""
    x, (rows, columns) = tf.constant(rng.normal(size=(2, 4, 6, 3)), tf.float32), coordinates()
    down = np.maximum(0, 1 - np.abs(rows.numpy()[..., None] - np.arange(1, 5)))
    right = np.maximum(0, 1 - np.abs(columns.numpy()[..., None] - np.arange(1, 7)))
    expected = np.einsum("bijnk,bijnl,bklc->bijnc", down, right, x)
    np.testing.assert_allclose(sample(x, rows, columns), expected, rtol=0, atol=1e-5)
    cotangent, found = tf.constant(rng.normal(size=expected.shape), tf.float32), []
    for function in (sample, gathered):
        with tf.GradientTape() as tape:
            tape.watch([x, rows, columns])
            y = function(x, rows, columns)
        found.append([y, *tape.gradient(y, [x, rows, columns], cotangent)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_sampling_in_a_loop(mode):
    x, (rows, columns) = tf.constant(rng.normal(size=(2, 4, 6, 9)), tf.float32), coordinates()

    def run(function):
        with tf.GradientTape() as tape:
            tape.watch([x, rows, columns])
            last, _ = scan(lambda x, _: tf.sin(tf.reduce_mean(function(x, rows, columns), -2)), tf.range(3), x)
            loss = tf.reduce_sum(last * tf.range(9, dtype=tf.float32))
        return [loss, *tape.gradient(loss, [x, rows, columns])]

    ours = tf.function(lambda: run(sample), jit_compile=mode == "xla")()
    for a, b in zip(ours, tf.function(lambda: run(gathered))(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max())


def test_a_point_infinitely_far_away_reads_zero():
    x, rows = tf.ones([1, 2, 2, 1]), tf.constant(np.inf, shape=[1, 2, 2, 1])
    with tf.GradientTape() as tape:
        tape.watch([x, rows])
        y = sample(x, rows, -rows)
    for value in (y, *tape.gradient(y, [x, rows])):
        np.testing.assert_array_equal(value, tf.zeros_like(value))


def test_motion_is_float32_within_mixed_precision():
    """Offsets between whole pixels, which bfloat16 would round to eighths at 20."""
    block, h = MotionBlock(3, dtype="mixed_bfloat16"), tf.ones([1, 8, 8, 16], tf.bfloat16)
    out, state = block(h, block.initial_state(h))
    assert out.dtype == tf.bfloat16
    assert {value.dtype for value in state} == {tf.float32}
    assert Warp(dtype="mixed_bfloat16").compute_dtype == "float32"


def test_without_offsets_the_warp_is_a_gated_convolution():
    x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    warp = Warp()
    y = warp(x, np.zeros((2, 4, 6, 18), np.float32))
    np.testing.assert_allclose(y, 0.5 * tf.nn.conv2d(x, warp.kernel, 1, "SAME"), rtol=0, atol=1e-5)


def started_as_published(layer, x_shape):
    """Kernels of gates at zero and biases uniform, as PyTorch has them."""
    keras.utils.set_random_seed(0)
    layer.build(x_shape)
    for part in (layer.gates, layer.candidate):
        bound = 1 / np.sqrt(9 * part.kernel.shape[2])
        part.bias.assign(rng.uniform(-bound, bound, part.bias.shape))
    return layer


@pytest.mark.parametrize("growth", [False, True])
def test_bounded_offsets_stay_while_the_published_ones_diverge(growth):
    x, zeros = tf.constant(rng.normal(size=(1, 4, 6, 8)), tf.float32), tf.zeros([1, 4, 6, 18])

    def run(offsets, steps):
        layer = started_as_published(MotionGuided(offsets, growth), x.shape)

        def step(state, _):
            y, motion = layer(x, state[0])
            return motion, tf.reduce_max(tf.abs(motion.offset)) + tf.reduce_max(tf.abs(y) * 0)

        first = MotionState(zeros, zeros, zeros[:, :1, :1, :1]), 0.0
        (motion, _), sizes = tf.function(lambda: scan(step, tf.range(steps), first, keep=lambda state: state[1]))()
        return motion, sizes

    state, sizes = run("bounded", 3000)
    assert sizes.numpy().max() < 1
    assert np.abs(state.trend).max() < 1
    assert abs(sizes[-1] - sizes[-2]) < 1e-6  # come to rest
    state, sizes = run("published", 400)
    assert not np.isfinite(sizes[-1])
    sizes = sizes[:20].numpy()
    assert (sizes[10:20] > 1.2 * sizes[9:19]).all()


def test_of_one_state_both_forms_make_the_same_displacement():
    """Without growth: what differs is which part of it is carried on."""
    x, offset, trend = (rng.normal(size=(2, 4, 6, n)).astype(np.float32) for n in (8, 18, 18))
    published, bounded = (started_as_published(MotionGuided(form, False), x.shape) for form in ("published", "bounded"))
    bounded.set_weights(published.get_weights())
    state = MotionState(offset, trend, np.zeros((2, 1, 1, 1), np.float32))
    (y, after), (y_bounded, after_bounded) = published(x, state), bounded(x, state)
    np.testing.assert_allclose(y_bounded, y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(after_bounded.offset + after_bounded.trend, after.offset, rtol=0, atol=1e-6)
    np.testing.assert_allclose(after_bounded.trend, after.trend, rtol=0, atol=1e-6)


def test_decay_of_the_trend():
    x = np.repeat(rng.normal(size=(1, 4, 6, 8)).astype(np.float32), 3, 0)
    steps = np.full((3, 1, 1, 1), 4, np.float32)
    keras.utils.set_random_seed(0)
    layers = {decay: TrendGrowth(decay) for decay in ("none", "step", "batch")}
    for layer in layers.values():
        layer.build(x.shape)
    layers["step"].set_weights(layers["batch"].get_weights())
    layers["none"].set_weights([layers["batch"].kernel[:, :2], layers["batch"].bias[:1], layers["batch"].start[:1]])
    none, step, batch = (layer(x, steps).numpy().ravel() for layer in layers.values())
    beta = -np.log(batch[1] - none[0] + 1)
    assert 0.45 < beta < 0.95  # (0.9 + sigmoid) / 2
    np.testing.assert_allclose(batch, none - 1 + np.exp(-beta * np.arange(3)), rtol=1e-5)
    np.testing.assert_allclose(step, none - 1 + np.exp(-beta * 4), rtol=1e-5)
    np.testing.assert_array_equal(none, none[0])


def test_a_trend_that_shrinks_to_less_than_nothing_is_none():
    """The learnt start of its growth may become negative; the bounded form stays one."""
    layer = MotionGuided("bounded", trend_decay="step")
    x, ones = np.ones((1, 2, 2, 4), np.float32), np.ones((1, 2, 2, 18), np.float32)
    layer.build(x.shape)
    layer.growth.start.assign([-50.0, 0.9])
    _, state = layer(x, MotionState(0.5 * ones, ones, np.full((1, 1, 1, 1), 9, np.float32)))
    np.testing.assert_array_equal(state.trend, 0.5 * ones)


@pytest.mark.parametrize("cell", ["gmg", "motionrnn"])
def test_bits_of_a_prediction_do_not_depend_on_its_batch(cell):
    keras.utils.set_random_seed(0)
    model = build_model("recurrent", cell=cell, **TINY)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(scale=0.05, size=variable.shape))
    x = rng.random((9, 4, 16, 24, 2), np.float32)
    whole = model.rollout(x, 3, rows=1)[0]
    for chosen in ([0], [8], [3, 5], [0, 1, 2], range(1, 9), rng.permutation(9)):
        np.testing.assert_array_equal(model.rollout(x[list(chosen)], 3, rows=1)[0], whole[list(chosen)])
    others = np.concatenate([x[:1], rng.random((8, 4, 16, 24, 2), np.float32)])
    np.testing.assert_array_equal(model.rollout(others, 3, rows=1)[0, 0], whole[0])


def test_the_trend_over_the_batch_is_what_the_released_code_has():
    """A clip at another place in the batch is predicted otherwise, in that mode alone."""
    keras.utils.set_random_seed(0)
    model = build_model("recurrent", cell={"name": "gmg", "trend_decay": "batch"}, **TINY)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(scale=0.1, size=variable.shape))
    x = np.repeat(rng.random((1, 4, 16, 24, 2), np.float32), 2, 0)
    first, second = model.rollout(x, 3)[0]
    assert (first != second).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": [8]}, r"gmg needs at least two layers, received filters \[8\]"),
        ({"filters": [8, 4]}, r"filters must be equal, received \[8, 4\]"),
        ({"frame_shape": (18, 24, 1)}, "needs an even grid, received 9x12; choose another patch size"),
        ({"cell": {"name": "gmg", "offsets": "free"}}, "offsets must be one of bounded, published, received 'free'"),
        (
            {"cell": {"name": "gmg", "trend_decay": "time"}},
            "trend_decay must be one of none, step, batch, received",
        ),
        ({"cell": {"name": "motionrnn", "trend_decay": "step"}}, "cell motionrnn has no argument 'trend_decay'"),
        ({"cell": {"name": "motionrnn", "key_filters": 4}}, "cell motionrnn has no argument 'key_filters'"),
        ({"cell": {"name": "st_lstm", "offsets": "bounded"}}, "cell st_lstm has no argument 'offsets'"),
        ({"cell": {"name": "gmg", "memory_kernel_size": 1}}, "cell gmg has no argument 'memory_kernel_size'"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("recurrent", **{**TINY, "cell": "gmg", **arguments})
