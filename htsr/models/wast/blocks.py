"""The blocks of WaST, on maps of all frames side by side."""

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.layers.convolution import fan_in_bias
from htsr.models.simvp.parts import dense
from htsr.models.simvp.translators.block import share


@keras.saving.register_keras_serializable("htsr")
class FrequencyBlock(keras.layers.Layer):
    """Two branches of batch-normalised maps, each scaled and added: long and short kernels of single channels, both
    with an ``AxialAttention``; then a ``Mixer``.

    Args:
        kernel_size: the longer side of the long kernels; the other one is 5.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        kept: float32 ``(batch, 2)`` by which the branches are multiplied, or None for 1.
        training: whether batch normalisation is by the batch.

    Returns:
        The same shape.
    """

    def __init__(self, kernel_size: int, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size, policy = kernel_size, self.dtype_policy
        sizes = {"tall": (kernel_size, 5), "wide": (5, kernel_size), "small": (5, 5)}
        self.convs = [depthwise(size, name, policy) for name, size in sizes.items()]
        names = ("norm1", "norm2", *[f"{name}_norm" for name in sizes])
        self.norm1, self.norm2, *self.norms = (BatchNorm(name=name, dtype=policy) for name in names)
        self.low, self.high = (AxialAttention(name=name, dtype=policy) for name in ("low", "high"))
        self.mixer = Mixer(name="mixer", dtype=policy)

    def build(self, shape):
        for layer in (*self.convs, *self.norms, self.norm1, self.norm2, self.low, self.high, self.mixer):
            layer.build(shape)
        start = keras.initializers.Constant(0.01)
        self.scale1, self.scale2 = (
            self.add_weight(name=name, shape=shape[-1:], initializer=start) for name in ("scale1", "scale2")
        )

    def call(self, x, kept=None, training=False):
        y = self.norm1(x, training=training)
        tall, wide, small = (
            norm(conv(y), training=training) for conv, norm in zip(self.convs, self.norms, strict=True)
        )
        y = self.low(tall + wide, training=training) + self.high(small, training=training)
        x += share(self.scale1 * y, kept, 0)
        return x + share(self.scale2 * self.mixer(self.norm2(x, training=training), training=training), kept, 1)

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("htsr")
class AxialAttention(keras.layers.Layer):
    """Weights for rows and for columns, both from means over the other axis (coordinate attention, arXiv 2103.02907).

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        training: whether batch normalisation is by the batch.

    Returns:
        The same shape.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        hidden = max(8, channels // 4)
        self.narrow, self.norm = dense(channels, hidden, "narrow", policy), BatchNorm(name="norm", dtype=policy)
        self.to_rows, self.to_columns = (dense(hidden, channels, name, policy) for name in ("to_rows", "to_columns"))
        self.narrow.build(shape)
        for layer in (self.norm, self.to_rows, self.to_columns):
            layer.build((*shape[:-1], hidden))

    def call(self, x, training=False):
        rows, columns = x.shape[1:3]
        means = tf.concat([tf.reduce_mean(x, 2), tf.reduce_mean(x, 1)], 1)[:, :, None]
        y = self.norm(self.narrow(means), training=training)
        of_rows, of_columns = tf.split(y * tf.nn.relu6(y + 3.0) / 6.0, [rows, columns], 1)
        of_columns = tf.sigmoid(self.to_columns(tf.transpose(of_columns, [0, 2, 1, 3])))
        return x * tf.sigmoid(self.to_rows(of_rows)) * of_columns


@keras.saving.register_keras_serializable("htsr")
class Mixer(keras.layers.Layer):
    """An inverted residual block without its residual: four times the channels, a 7x7 convolution of each, weights a
    channel from means over the map (squeeze and excitation), the channels there were.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        training: whether batch normalisation is by the batch.

    Returns:
        The same shape.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        wide = 4 * channels
        self.widen = dense(channels, wide, "widen", policy, use_bias=False)
        self.conv = depthwise((7, 7), "conv", policy, use_bias=False)
        self.squeeze, self.excite = dense(wide, channels, "squeeze", policy), dense(channels, wide, "excite", policy)
        self.narrow = dense(wide, channels, "narrow", policy, use_bias=False)
        self.norms = [BatchNorm(name=f"norm{i}", dtype=policy) for i in range(3)]
        for layer in (self.widen, self.excite, self.norms[2]):
            layer.build(shape)
        for layer in (self.conv, self.squeeze, self.narrow, *self.norms[:2]):
            layer.build((*shape[:-1], wide))

    def call(self, x, training=False):
        x = tf.nn.relu(self.norms[0](self.widen(x), training=training))
        x = tf.nn.relu(self.norms[1](self.conv(x), training=training))
        weight = self.excite(tf.nn.relu(self.squeeze(tf.reduce_mean(x, [1, 2], keepdims=True))))
        return self.norms[2](self.narrow(x * tf.sigmoid(weight)), training=training)


def depthwise(kernel_size: tuple[int, int], name: str, dtype, use_bias: bool = True) -> keras.layers.DepthwiseConv2D:
    """Return a convolution of every channel by itself, "same" padding, that begins as PyTorch's."""
    start = fan_in_bias(kernel_size[0] * kernel_size[1])
    return keras.layers.DepthwiseConv2D(
        kernel_size, padding="same", use_bias=use_bias, depthwise_initializer=start, bias_initializer=start,
        name=name, dtype=dtype,
    )  # fmt: skip
