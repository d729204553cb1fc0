"""The convolution of the recurrent cells, and the layer normalisation that may follow it."""

import keras
import tensorflow as tf

from htsr.errors import InputError


@keras.saving.register_keras_serializable("htsr")
class MapNormalisation(keras.layers.Layer):
    """Layer normalisation over rows, columns and channels of a sample together, with a weight and a bias per element.

    One mean and one variance per sample, epsilon 1e-5, as PyTorch's ``LayerNorm([C, H, W])``; the weights tie it to one
    grid size. The same as ``keras.layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5)``, but its gradient keeps one
    map of each step of a recurrence, the normalised one, where Keras's operations keep three.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def build(self, input_shape):
        shape = input_shape[1:]
        if None in shape:
            raise InputError(f"layer normalisation needs rows and columns that are known, received {tuple(shape)}")
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)

    def call(self, x):
        y = _normalised(tf.cast(x, tf.float32)) * self.gamma + self.beta
        return tf.cast(y, self.compute_dtype)


@tf.custom_gradient
def _normalised(x):
    """Zero mean and unit variance for every sample, float32."""
    mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    scale = tf.math.rsqrt(variance + 1e-5)
    y = (x - mean) * scale

    def gradient(g):
        share = tf.reduce_mean(g * y, [1, 2, 3], keepdims=True)
        return scale * (g - tf.reduce_mean(g, [1, 2, 3], keepdims=True) - share * y)

    return y, gradient


@keras.saving.register_keras_serializable("htsr")
class NormalisedConv(keras.layers.Layer):
    """A convolution, stride 1, "same" padding, then a ``MapNormalisation``.

    Args:
        filters: channels out.
        kernel_size: odd.
        layer_norm: whether to normalise.
        use_bias: whether the convolution has a bias of its own.
        separable: a convolution of each channel, then a 1x1 one.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows, columns, filters)``.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        layer_norm: bool = True,
        use_bias: bool = False,
        separable: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_conv(filters, kernel_size)
        self.separable = separable
        self.conv = conv(filters, kernel_size, use_bias, "conv", self.dtype_policy, separable)
        self.norm = MapNormalisation(name="norm", dtype=self.dtype_policy) if layer_norm else None

    def build(self, input_shape):
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.conv.filters))

    def call(self, x):
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)

    def get_config(self):
        config = {
            "filters": self.conv.filters,
            "kernel_size": self.conv.kernel_size[0],
            "layer_norm": self.norm is not None,
            "use_bias": self.conv.use_bias,
            "separable": self.separable,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("htsr")
class MultiScaleConv(keras.layers.Layer):
    """The sum of convolutions 1x1, 3x3 and 5x5, each with a bias; then a ``MapNormalisation`` if asked for.

    Args:
        filters: channels out.
        layer_norm: whether to normalise.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows, columns, filters)``.
    """

    def __init__(self, filters: int, layer_norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.convs = [conv(filters, size, True, f"conv{size}", self.dtype_policy) for size in (1, 3, 5)]
        self.norm = MapNormalisation(name="norm", dtype=self.dtype_policy) if layer_norm else None

    def build(self, input_shape):
        for layer in self.convs:
            layer.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.filters))

    def call(self, x):
        x = tf.add_n([layer(x) for layer in self.convs])
        return x if self.norm is None else self.norm(x)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "layer_norm": self.norm is not None}


def conv(filters: int, kernel_size: int, use_bias: bool, name: str, dtype, separable: bool = False, start=None):
    """A stride 1 convolution with "same" padding and no activation; ``start`` initialises its kernel, by default
    ``fan_in_uniform``."""
    common = {"padding": "same", "use_bias": use_bias, "name": name, "dtype": dtype}
    if separable:
        bound = 1 / kernel_size  # a depthwise filter sees one channel, which Keras's fan in does not know
        start = keras.initializers.RandomUniform(-bound, bound)
        return keras.layers.SeparableConv2D(
            filters, kernel_size, depthwise_initializer=start, pointwise_initializer=fan_in_uniform(), **common
        )
    return keras.layers.Conv2D(filters, kernel_size, kernel_initializer=start or fan_in_uniform(), **common)


def fan_in_uniform():
    """Uniform in +-1/sqrt(fan in): PyTorch's default for kernels, which the published models start from."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def fan_in_bias(fan_in: int):
    """The same for biases. Where a layer normalisation of channels follows, they may not begin at 0: of a patch that is
    black its gradient would be 300 times as large, in every block."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def check_conv(filters: int, kernel_size: int) -> None:
    if filters < 1:
        raise InputError(f"filters must be at least 1, received {filters}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size must be odd and at least 1, received {kernel_size}")
