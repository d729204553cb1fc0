"""Convolutions around a stack of cells: to maps that are smaller than frames, and back."""

import keras
import tensorflow as tf

from htsr.layers.convolution import conv
from htsr.layers.resampling import DoublingConv, HalvingConv


@keras.saving.register_keras_serializable("htsr")
class MapEncoder(keras.layers.Layer):
    """The encoder of MAU: a 1x1 convolution, then 3x3 ones of stride 2, each with a leaky ReLU of slope 0.2.

    Args:
        filters: channels out.
        halvings: convolutions of stride 2.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows / 2**halvings, columns / 2**halvings, filters)``.
    """

    def __init__(self, filters: int, halvings: int, **kwargs):
        super().__init__(**kwargs)
        self.filters, policy = filters, self.dtype_policy
        self.convs = [conv(filters, 1, True, "conv", policy)]
        self.convs += [HalvingConv(filters, name=f"halve{i}", dtype=policy) for i in range(halvings)]

    def build(self, shape):
        for layer in self.convs:
            layer.build(shape)
            shape = (*shape[:-1], self.filters)

    def call(self, x):
        for layer in self.convs:
            x = tf.nn.leaky_relu(layer(x), 0.2)
        return x


@keras.saving.register_keras_serializable("htsr")
class MapDecoder(keras.layers.Layer):
    """The decoder of MAU: transposed 3x3 convolutions of stride 2, leaky ReLUs between them, and a 1x1 convolution.

    Args:
        channels: out.
        filters: of the transposed convolutions.
        doublings: how many there are.

    Call arguments:
        x: ``(batch, rows, columns, filters)``.

    Returns:
        float32 ``(batch, rows * 2**doublings, columns * 2**doublings, channels)``.
    """

    def __init__(self, channels: int, filters: int, doublings: int, **kwargs):
        super().__init__(**kwargs)
        self.convs = [DoublingConv(filters, name=f"double{i}", dtype=self.dtype_policy) for i in range(doublings)]
        self.output_conv = conv(channels, 1, True, "output", "float32")  # its rounding would be fed back

    def build(self, shape):
        for layer in self.convs:
            layer.build(shape)
            shape = (*shape[:-1], layer.filters)
        self.output_conv.build(shape)

    def call(self, x):
        for i, layer in enumerate(self.convs):
            x = layer(x if i == 0 else tf.nn.leaky_relu(x, 0.2))
        return self.output_conv(x)
