"""Parts that the blocks of several translators have in common."""

import functools

import keras
import tensorflow as tf

from htsr.layers.convolution import fan_in_bias, fan_in_uniform

NARROW = functools.partial(keras.initializers.RandomNormal, stddev=0.02)
DEFAULT, FAN_OUT, SMALL = "default", "fan_out", "small"  # how kernels begin: PyTorch's way, or normal


def dense(fan_in: int, units: int, name: str, dtype, start: str = DEFAULT, use_bias: bool = True) -> keras.layers.Dense:
    """Return a dense layer over channels, which is a 1x1 convolution.

    Args:
        fan_in: channels in.
        units: channels out.
        name: of the layer.
        dtype: of the layer.
        start: ``DEFAULT``: PyTorch's; ``FAN_OUT``: normal, variance 2 / channels out; ``SMALL``: normal, stddev 0.02.
        use_bias: whether it has a bias.
    """
    if start == DEFAULT:
        starts = {"kernel_initializer": fan_in_uniform(), "bias_initializer": fan_in_bias(fan_in)}
    else:
        stddev = 0.02 if start == SMALL else (2 / units) ** 0.5
        starts = {"kernel_initializer": keras.initializers.RandomNormal(stddev=stddev)}
    return keras.layers.Dense(units, use_bias=use_bias, name=name, dtype=dtype, **starts)


def depthwise(kernel_size: int, name: str, dtype, dilation: int = 1, start: str = FAN_OUT):
    """Return a convolution of every channel by itself, "same" padding; ``start`` as in ``dense``."""
    if start == DEFAULT:
        starts = {"depthwise_initializer": fan_in_bias(kernel_size**2), "bias_initializer": fan_in_bias(kernel_size**2)}
    else:
        stddev = 0.02 if start == SMALL else 2**0.5 / kernel_size
        starts = {"depthwise_initializer": keras.initializers.RandomNormal(stddev=stddev)}
    return keras.layers.DepthwiseConv2D(
        kernel_size, dilation_rate=dilation, padding="same", name=name, dtype=dtype, **starts
    )


def gelu(x):
    """The exact form, by the error function."""
    return tf.nn.gelu(x, approximate=False)


def layer_norm(epsilon: float, name: str, dtype) -> keras.layers.LayerNormalization:
    """Return a normalisation over the channels of every position."""
    return keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=dtype)


@keras.saving.register_keras_serializable("htsr")
class MLP(keras.layers.Layer):
    """A dense layer, a depthwise 3x3 convolution where asked for, GELU, a dense layer; over channels.

    Args:
        hidden: channels between the dense layers.
        start: of kernels, as in ``dense``.
        conv: whether there is the convolution.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def __init__(self, hidden: int, start: str = FAN_OUT, conv: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.start, self.has_conv = hidden, start, conv

    def build(self, shape):
        policy, wide = self.dtype_policy, (*shape[:-1], self.hidden)
        self.widen = dense(shape[-1], self.hidden, "widen", policy, self.start)
        self.conv = depthwise(3, "conv", policy, start=self.start) if self.has_conv else None
        self.narrow = dense(self.hidden, shape[-1], "narrow", policy, self.start)
        self.widen.build(shape)
        self.narrow.build(wide)
        if self.conv is not None:
            self.conv.build(wide)

    def call(self, x):
        x = self.widen(x)
        return self.narrow(gelu(x if self.conv is None else self.conv(x)))

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "start": self.start, "conv": self.has_conv}
