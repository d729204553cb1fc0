"""Deformable sampling: a 3x3 convolution whose nine taps are taken wherever an offset says."""

import keras
import tensorflow as tf

from htsr.layers.convolution import conv, fan_in_uniform

POINTS = 9  # of a 3x3 kernel, row by row


@keras.saving.register_keras_serializable("htsr")
class Warp(keras.layers.Layer):
    r"""A gated deformable 3x3 convolution (the warp of MotionRNN, Wu et al., arXiv 2103.02243, and of GMG).

    For output position p, tap n of the kernel reads the map, which is zero outside, between pixels:

    .. math::
        y_p = \sum_{n=1}^{9} W_n \, \sigma(W_m \star x)_{n, p} \; x(p + p_n + o_{n, p}), \qquad
        x(r, c) = \sum_{k, l} [1 - |r - k|]_+ \, [1 - |c - l|]_+ \; x_{k, l}

    It computes in float32, whatever its policy: offsets are fractions of a pixel.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        offset: ``(batch, rows, columns, 18)`` in pixels: nine offsets down, then nine to the right.

    Returns:
        float32, the shape of ``x``.

    Example:
        >>> import numpy as np
        >>> Warp()(np.ones([2, 4, 6, 8], "float32"), np.zeros([2, 4, 6, 18], "float32")).shape
        TensorShape([2, 4, 6, 8])
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, x_shape, offset_shape=None):
        channels = x_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(3, 3, channels, channels), initializer=fan_in_uniform())
        self.gate = conv(POINTS, 3, True, "gate", "float32", start="zeros")
        self.gate.build(x_shape)

    def call(self, x, offset):
        _, rows, columns, channels = x.shape
        taps = sample(x, *tap_coordinates(offset)) * tf.sigmoid(self.gate(x))[..., None]
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [POINTS * channels, channels])
        return tf.tensordot(tf.reshape(taps, [-1, rows, columns, POINTS * channels]), kernel, 1)


def tap_coordinates(offset):
    """Where the taps of every position lie: rows and columns, ``(batch, rows, columns, 9)`` each, from offsets
    ``(batch, rows, columns, 18)``; row 1 and column 1 are those of the first pixel."""
    _, rows, columns, _ = offset.shape
    tap = tf.range(POINTS)
    down = tf.range(1, rows + 1)[:, None, None] + tap // 3 - 1
    right = tf.range(1, columns + 1)[:, None] + tap % 3 - 1
    down, right = tf.cast(down, tf.float32), tf.cast(right, tf.float32)
    return down + offset[..., :POINTS], right + offset[..., POINTS:]


@tf.custom_gradient
def sample(x, rows, columns):
    """Bilinear interpolation of maps that are zero outside, at ``points`` points for every position.

    Without gathering: a point's value is a product of its weights for all pixels, of which four are not zero, and the
    map. Maps are small where this is used (a sixteenth of the patches' attention), and matrix products are what every
    device does best, also backwards, where gathering would scatter. The weights are made again for the gradient, so
    that a recurrence keeps none of them.

    At whole coordinates, where the slope jumps, its gradient is the one towards the next higher coordinate, as in the
    published code, which rounds down.

    Args:
        x: float32 ``(batch, rows, columns, channels)``.
        rows, columns: coordinates, float32 ``(batch, rows, columns, points)``; 1 is the first pixel.

    Returns:
        ``(batch, rows, columns, points, channels)``.
    """

    def gradient(g):
        with tf.GradientTape() as tape:
            tape.watch([x, rows, columns])
            values = _interpolated(x, rows, columns)
        return tape.gradient(values, [x, rows, columns], g)

    return _interpolated(x, rows, columns), gradient


def _interpolated(x, rows, columns):
    _, height, width, channels = x.shape
    points = rows.shape[-1]
    weights_down = _hat(rows[..., None] - tf.range(1.0, height + 1.0))
    weights_right = _hat(columns[..., None] - tf.range(1.0, width + 1.0))
    weights = weights_down[..., None] * weights_right[..., None, :]
    weights = tf.reshape(weights, [-1, height * width * points, height * width])
    values = tf.matmul(weights, tf.reshape(x, [-1, height * width, channels]))
    return tf.reshape(values, [-1, height, width, points, channels])


@tf.custom_gradient
def _hat(distance):
    """``max(0, 1 - |distance|)`` with the slope to the right."""

    def gradient(g):
        slope = tf.where(distance < 0.0, g, -g)
        return tf.where((distance >= -1.0) & (distance < 1.0), slope, 0.0)

    return tf.nn.relu(1.0 - tf.abs(distance)), gradient
