"""Operations are counted as they are computed by hand."""

import pytest
import tensorflow as tf

from htsr.bench.operations import counted
from htsr.ops.scan import scan


def test_products_in_a_loop_and_in_its_gradient():
    weights = tf.Variable(tf.ones([3, 3]))

    def gradient(xs):
        with tf.GradientTape() as tape:
            last, _ = scan(lambda state, x: state @ weights + x, xs, tf.ones([2, 3]))
            loss = tf.reduce_sum(last)
        return tape.gradient(loss, weights)

    once = 2 * (2 * 3 * 3)  # forwards, the gradient of the state, that of the weights
    assert counted(gradient, tf.ones([7, 2, 3])) == {"products": 7 * 3 * once, "convolutions": 0}


@pytest.mark.parametrize(
    ("convolve", "filters", "number"),
    [
        (lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"), [3, 3, 6, 4], 2 * (4 * 4 * 4) * (3 * 3 * 6)),
        (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), [3, 3, 3, 4], 2 * (8 * 8 * 4) * (3 * 3 * 3)),  # in two groups
        (lambda x, w: tf.nn.depthwise_conv2d(x, w, [1] * 4, "SAME"), [3, 3, 6, 2], 2 * (8 * 8 * 12) * (3 * 3)),
        (lambda x, w: tf.nn.conv2d_transpose(x, w, [1, 16, 16, 4], 2), [3, 3, 4, 6], 2 * (8 * 8 * 6) * (3 * 3 * 4)),
    ],
)
def test_convolutions_and_both_gradients(convolve, filters, number):
    weights = tf.Variable(tf.ones(filters))

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(convolve(x, weights))
        return tape.gradient(loss, [x, weights])

    assert counted(gradients, tf.ones([1, 8, 8, 6])) == {"products": 0, "convolutions": 3 * number}


def test_the_costlier_branch_counts():
    square = tf.ones([4, 4])

    def either(x):
        return tf.cond(x[0, 0] > 0, lambda: x @ square @ square, lambda: x @ square)

    assert counted(either, square)["products"] == 2 * 2 * 4**3


def test_what_is_not_known_before_it_runs():
    assert counted(lambda x: tf.while_loop(lambda y: y[0, 0] < 9, lambda y: (y @ y,), (x,)), tf.ones([2, 2])) == {}
