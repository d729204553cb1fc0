import numpy as np
import pytest
import tensorflow as tf

from htsr.ops.scan import scan


def loop(w, xs, state):
    """The recurrence of the tests as a Python loop."""
    ys = []
    for x in tf.unstack(xs):
        state = tf.tanh(state @ w + x)
        ys.append((state * 2, tf.reduce_sum(state)))
    return state, (tf.stack([y[0] for y in ys]), tf.stack([y[1] for y in ys]))


def step(w):
    def one(state, x):
        new = tf.tanh(state["h"] @ w + x)
        return {"h": new, "kept": (new * 2, tf.reduce_sum(new))}

    return one


def scanned(w, xs, state):
    first = {"h": state, "kept": (tf.zeros_like(state), 0.0)}
    state, ys = scan(step(w), xs, first, keep=lambda state: state["kept"])
    return state["h"], ys


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    shapes = ((3, 3), (7, 2, 3), (2, 3))
    return [tf.constant(rng.standard_normal(shape), tf.float32) for shape in shapes]


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_scan_equals_a_python_loop_in_values_and_gradients(inputs, mode):
    def both(run):
        def value(w, xs, state):
            with tf.GradientTape() as tape:
                tape.watch([w, xs, state])
                last, (ys, sums) = run(w, xs, state)
                total = tf.reduce_sum(tf.sin(ys)) + tf.reduce_sum(sums**2) + tf.reduce_sum(last)
            return last, ys, sums, tape.gradient(total, [w, xs, state])

        return value

    ours = both(scanned) if mode == "eager" else tf.function(both(scanned), jit_compile=mode == "xla")
    for a, b in zip(tf.nest.flatten(ours(*inputs)), tf.nest.flatten(both(loop)(*inputs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_scan_takes_any_length_and_batch(inputs):
    w, xs, state = inputs
    signature = (tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, 3]))
    graph = tf.function(lambda xs, s: scanned(w, xs, s), input_signature=signature)
    for length, batch in ((7, 2), (1, 1)):
        last, (ys, _) = graph(xs[:length, :batch], state[:batch])
        expected = loop(w, xs[:length, :batch], state[:batch])
        np.testing.assert_allclose(last, expected[0], rtol=1e-6)
        np.testing.assert_allclose(ys, expected[1][0], rtol=1e-6)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_scan_of_no_steps_returns_the_state(inputs, mode):
    w, xs, state = inputs
    run = scanned if mode == "eager" else tf.function(scanned, jit_compile=mode == "xla")
    last, (ys, sums) = run(w, xs[:0], state)
    np.testing.assert_array_equal(last, state)
    assert (ys.shape, sums.shape) == ((0, 2, 3), (0,))


def test_scan_traces_its_step_once(inputs):
    calls = []

    def counted(total, x):
        calls.append(x)
        return total + tf.reduce_sum(x)

    tf.function(lambda xs: scan(counted, xs, 0.0, keep=lambda total: total)).get_concrete_function(inputs[1])
    assert len(calls) == 1
