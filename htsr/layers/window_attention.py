"""Attention within windows of a map, and the transformer block made of it."""

import keras
import numpy as np
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import fan_in_bias, fan_in_uniform


def dense(fan_in: int, units: int, name: str, dtype, use_bias: bool = True) -> keras.layers.Dense:
    """Return a dense layer from ``fan_in`` channels, initialised as PyTorch's."""
    starts = {"kernel_initializer": fan_in_uniform(), "bias_initializer": fan_in_bias(fan_in)}
    return keras.layers.Dense(units, use_bias=use_bias, name=name, dtype=dtype, **starts)


def channel_norm(name: str, dtype) -> keras.layers.LayerNormalization:
    """Return a normalisation over the channels of every position."""
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name, dtype=dtype)


@keras.saving.register_keras_serializable("htsr")
class WindowAttention(keras.layers.Layer):
    r"""Multi-head attention of the positions of a window to each other (Liu et al., "Swin", arXiv 2103.14030).

    :math:`\mathrm{softmax}(q k^T / \sqrt{d} + B) v` with a bias B for every head and distance. With ``shift`` the
    windows are moved by so many positions; they wrap around the map, and what is not together in it does not attend.
    A map that is not larger than the window is one window, without a shift.

    Args:
        heads: they divide the channels.
        window: side of a window; it divides rows and columns of a larger map.
        shift: by how much windows are moved down and to the right.
        masked: whether what a moved window has from the other side of the map is hidden from the rest of it.

    Call arguments:
        x: ``(batch, rows, columns, channels)``, rows and columns known.

    Returns:
        The same shape.
    """

    def __init__(self, heads: int, window: int, shift: int = 0, masked: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.window, self.shift, self.masked = heads, window, shift, masked

    def build(self, shape):
        _, rows, columns, channels = shape
        if min(rows, columns) <= self.window:
            self.window, self.shift = min(rows, columns), 0
        if rows % self.window or columns % self.window:
            raise InputError(f"windows of {self.window} must divide maps of {rows}x{columns}; choose another window")
        if channels % self.heads:
            raise InputError(f"heads must divide the {channels} channels, received {self.heads}")
        policy = self.dtype_policy
        self.qkv = dense(channels, 3 * channels, "qkv", policy)
        self.output_layer = dense(channels, channels, "output", policy)
        self.qkv.build(shape)
        self.output_layer.build(shape)
        self.bias = self.add_weight(
            name="bias",
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        y, x = np.divmod(np.arange(self.window**2), self.window)
        self._distance = (y[:, None] - y + self.window - 1) * (2 * self.window - 1) + x[:, None] - x + self.window - 1
        self._mask = self._apart(rows, columns) if self.shift and self.masked else None

    def _apart(self, rows: int, columns: int) -> np.ndarray:
        """-100 between positions of a window that are apart in the map, ``(windows, 1, tokens, tokens)``."""
        sides = [np.searchsorted([n - self.window, n - self.shift], np.arange(n), "right") for n in (rows, columns)]
        regions = (3 * sides[0][:, None] + sides[1]).astype(np.float32)
        tokens = self._windows(tf.constant(regions[None, :, :, None])).numpy()[..., 0]
        return np.where(tokens[:, None, :, None] == tokens[:, None, None, :], 0.0, -100.0).astype(np.float32)

    def _windows(self, x):
        """Maps as windows of tokens, ``(batch * windows, tokens, channels)``."""
        _, rows, columns, channels = x.shape
        side = self.window
        x = tf.reshape(x, [-1, rows // side, side, columns // side, side, channels])
        return tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [-1, side * side, channels])

    def call(self, x):
        _, rows, columns, channels = x.shape
        side, size = self.window, channels // self.heads
        x = tf.roll(x, [-self.shift, -self.shift], [1, 2]) if self.shift else x
        tokens = tf.reshape(self.qkv(self._windows(x)), [-1, side * side, 3, self.heads, size])
        q, k, v = tf.unstack(tf.transpose(tokens, [2, 0, 3, 1, 4]))
        logits = tf.cast(tf.matmul(q * size**-0.5, k, transpose_b=True), tf.float32)
        bias = tf.transpose(tf.cast(tf.convert_to_tensor(self.bias), tf.float32))
        logits += tf.gather(bias, self._distance, axis=1)  # along the first axis its gradient would not be a tensor
        if self._mask is not None:
            windows = len(self._mask)
            logits = tf.reshape(logits, [-1, windows, *logits.shape[1:]]) + self._mask
            logits = tf.reshape(logits, [-1, *logits.shape[2:]])
        x = tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)
        x = self.output_layer(tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, side * side, channels]))
        x = tf.reshape(x, [-1, rows // side, columns // side, side, side, channels])
        x = tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [-1, rows, columns, channels])
        return tf.roll(x, [self.shift, self.shift], [1, 2]) if self.shift else x
