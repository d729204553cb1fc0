import numpy as np
import pytest
import tensorflow as tf

from htsr.errors import InputError
from htsr.ops.recompute import of_frames, recomputing
from htsr.ops.scan import scan


def recurrence(frames, matrix, variable, xs, state):
    """A count, states and their sum, of a step that reads a tensor and a variable beside its arguments."""
    scale = tf.sin(variable)

    def step(state, x):
        count, values = state
        x, index = x
        return count + 1, tf.tanh(values @ matrix + scale * x * tf.cast(index, tf.float32) + variable)

    with recomputing(frames):
        return scan(step, (xs, tf.range(xs.shape[0])), (tf.constant(0), state), keep=lambda state: state[1])


def value_and_gradients(frames, matrix, variable, xs, state):
    with tf.GradientTape() as tape:
        tape.watch([matrix, xs, state])
        (count, last), kept = recurrence(frames, matrix, variable, xs, state)
        total = tf.reduce_sum(last) + tf.reduce_sum(tf.sin(3.0 * kept)) * tf.cast(count, tf.float32)
    return count, last, kept, tape.gradient(total, [matrix, variable, xs, state])


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    matrix, xs, state = (tf.constant(rng.normal(size=size), tf.float32) for size in ((3, 3), (7, 2, 3), (2, 3)))
    return matrix, tf.Variable([0.3, -0.2, 0.1]), xs, state


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_a_recurrence_in_segments_is_the_same_in_values_and_gradients(inputs, frames, mode):
    ours = value_and_gradients if mode == "eager" else tf.function(value_and_gradients, jit_compile=mode == "xla")
    want = value_and_gradients(None, *inputs)
    assert all(np.abs(gradient).max() > 0.01 for gradient in want[-1])
    for a, b in zip(tf.nest.flatten(ours(frames, *inputs)), tf.nest.flatten(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_only_what_is_between_segments_is_kept():
    """Compiled, a program says what memory it needs: of a wide layer in 50 steps, or in the 5 of a segment."""
    wide, back = tf.ones([3, 1024]) / 1024, tf.ones([1024, 3])

    def program(frames):
        def gradient(xs):
            with tf.GradientTape() as tape:
                tape.watch(xs)
                with recomputing(frames):
                    last, _ = scan(lambda state, x: tf.sin(tf.sin((state + x) @ wide) @ back), xs, tf.zeros([2, 3]))
            return tape.gradient(last, xs)

        compiled = tf.function(gradient, jit_compile=True)
        return compiled.experimental_get_compiler_ir(tf.ones([50, 2, 3]))(stage="optimized_hlo")

    assert "f32[50,2,1024]" in program(None)
    assert "f32[50,2,1024]" not in program(5)
    assert "f32[5,2,1024]" in program(5)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_function_of_frames(batch):
    """Also where the batch is not known, which is not cut into segments."""
    frames = tf.reshape(tf.range(2.0 * 7 * 3), [2, 7, 3])

    @tf.function(input_signature=[tf.TensorSpec([batch, 7, 3])])
    def compute(frames):
        with tf.GradientTape() as tape:
            tape.watch(frames)
            doubled, sums = of_frames(lambda x: (2.0 * x, tf.reduce_sum(x**2, -1, keepdims=True)), frames)
        return doubled, sums, tape.gradient(sums, frames)

    if batch is None:
        results = compute(frames)
    else:
        with recomputing(3):
            results = compute(frames)
    for a, b in zip(results, (2 * frames, tf.reduce_sum(frames**2, -1, keepdims=True), 2 * frames), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_where_nothing_is_cut_into_segments_the_option_is_refused(inputs):
    with pytest.raises(InputError, match=r"train\.recompute is 7, but there is nothing to recompute"):
        recurrence(7, *inputs)
