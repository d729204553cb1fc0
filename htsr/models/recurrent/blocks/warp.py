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

    The gradient reads the four pixels around a point again, laid side by side, in one gathering, and takes theirs back
    in one scattering. Of a step of a recurrence, places and weights stay in memory, but no pixels that were gathered.

    At whole coordinates, where the slope jumps, its gradient is the one towards the next higher coordinate, as in the
    published code, which rounds down.

    Args:
        x: float32 ``(batch, rows, columns, channels)``.
        rows, columns: coordinates, float32 ``(batch, rows, columns, points)``, finite or not; 1 is the first pixel.

    Returns:
        ``(batch, rows, columns, points, channels)``.
    """
    _, height, width, channels = x.shape
    width += 2  # with the zeros around

    # A point outside lies in the first square and has no weight there.
    inside = (rows >= 0.0) & (rows < height + 1.0) & (columns >= 0.0) & (columns < width - 1.0)
    rows, columns = tf.where(inside, rows, 0.0), tf.where(inside, columns, 0.0)
    inside = tf.cast(inside, tf.float32)
    top, left = tf.floor(rows), tf.floor(columns)
    down, right = rows - top, columns - left
    padded = tf.reshape(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1, channels])
    first = tf.range(tf.shape(x)[0])[:, None, None, None] * ((height + 2) * width)
    first += tf.cast(top * width + left, tf.int32)
    steps = (0, 1, width, width + 1)  # to the upper left, upper right, lower left and lower right
    upper, lower = (1.0 - down) * inside, down * inside
    weights = [upper * (1.0 - right), upper * right, lower * (1.0 - right), lower * right]

    def gradient(g):
        pixels = tf.shape(padded)[0]
        longer = tf.pad(padded, [[0, width + 1], [0, 0]])
        squares = tf.concat([longer[step : pixels + step] for step in steps], -1)
        corners = tf.reshape(tf.gather(squares, first), [-1, *first.shape[1:], 4, channels])
        products = tf.reduce_sum(g[..., None, :] * corners, -1)
        upper_left, upper_right, lower_left, lower_right = tf.unstack(products, axis=-1)
        to_down = (1.0 - right) * (lower_left - upper_left) + right * (lower_right - upper_right)
        to_right = (1.0 - down) * (upper_right - upper_left) + down * (lower_right - lower_left)
        to_corners = tf.reshape(g[..., None, :] * tf.stack(weights, -1)[..., None], [-1, 4 * channels])
        to_squares = tf.math.unsorted_segment_sum(to_corners, tf.reshape(first, [-1]), pixels)
        parts = tf.reshape(to_squares, [-1, height + 2, width, 4, channels])
        # A pixel is the upper left corner of the square that it begins, and another corner of three before that.
        to_x = parts[:, 1:-1, 1:-1, 0] + parts[:, 1:-1, :-2, 1] + parts[:, :-2, 1:-1, 2] + parts[:, :-2, :-2, 3]
        return to_x, inside * to_down, inside * to_right

    read = [weight[..., None] * tf.gather(padded, first + step) for weight, step in zip(weights, steps, strict=True)]
    return tf.add_n(read), gradient
