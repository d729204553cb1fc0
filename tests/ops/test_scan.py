import numpy as np
import pytest
import tensorflow as tf

from htsr.ops.scan import scan, scan_states


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
        return {"h": new}, (new * 2, tf.reduce_sum(new))

    return one


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

    def scanned(w, xs, state):
        state, ys = scan(step(w), xs, {"h": state})
        return state["h"], ys

    ours = both(scanned) if mode == "eager" else tf.function(both(scanned), jit_compile=mode == "xla")
    for a, b in zip(tf.nest.flatten(ours(*inputs)), tf.nest.flatten(both(loop)(*inputs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_scan_takes_any_length_and_batch(inputs):
    w, xs, state = inputs
    signature = (tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, 3]))
    graph = tf.function(lambda xs, s: scan(step(w), xs, {"h": s}), input_signature=signature)
    for length, batch in ((7, 2), (1, 1)):
        last, (ys, _) = graph(xs[:length, :batch], state[:batch])
        expected = loop(w, xs[:length, :batch], state[:batch])
        np.testing.assert_allclose(last["h"], expected[0], rtol=1e-6)
        np.testing.assert_allclose(ys, expected[1][0], rtol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 5])
def test_scan_states_keeps_the_first_state(inputs, length):
    w, xs, state = inputs
    graph = tf.function(lambda n, xs: scan_states(lambda s, x: step(w)(s, x)[0], xs, {"h": state}, n))
    states = graph(tf.constant(length), xs[:length])["h"]
    assert states.shape == (length + 1, 2, 3)
    np.testing.assert_array_equal(states[0], state)
    for t in range(length):
        np.testing.assert_allclose(states[t + 1], tf.tanh(states[t] @ w + xs[t]), rtol=1e-6)
