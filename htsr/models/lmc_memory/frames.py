"""Frames to maps of a quarter of their height and width, and back: frame encoder and decoder of LMC-Memory."""

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import check_conv, conv, fan_in_uniform


@keras.saving.register_keras_serializable("htsr")
class FrameMapEncoder(keras.layers.Layer):
    """Four 3x3 convolutions with ELU; the first and the third halve height and width (LMC-Memory specification).

    Args:
        filters: channels of the map, even; the first two convolutions have half as many.

    Call arguments:
        frames: ``(batch, height, width, channels)``, height and width divisible by 4.

    Returns:
        ``(batch, height / 4, width / 4, filters)``.

    Example:
        >>> import numpy as np
        >>> FrameMapEncoder(16)(np.ones([2, 32, 48, 3], "float32")).shape
        TensorShape([2, 8, 12, 16])
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = check_even(filters)
        self.halvings, self.convs, policy = [], [], self.dtype_policy
        for i, n in enumerate((filters // 2, filters)):
            common = {"kernel_initializer": fan_in_uniform(), "dtype": policy}
            self.halvings.append(keras.layers.Conv2D(n, 3, 2, name=f"halving{i}", **common))
            self.convs.append(conv(n, 3, True, f"conv{i}", policy))

    def build(self, input_shape):
        channels = input_shape[-1]
        for halving, plain in zip(self.halvings, self.convs, strict=True):
            halving.build((None, None, None, channels))
            channels = plain.filters
            plain.build((None, None, None, channels))

    def call(self, frames):
        x = frames
        for halving, plain in zip(self.halvings, self.convs, strict=True):
            # Half of an even size, aligned as in PyTorch: the first windows reach over the edge, not the last ones.
            x = tf.nn.elu(halving(tf.pad(x, [[0, 0], [1, 0], [1, 0], [0, 0]])))
            x = tf.nn.elu(plain(x))
        return x

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("htsr")
class FrameMapDecoder(keras.layers.Layer):
    """Four transposed 3x3 convolutions with ELU between them; the second and the last double height and width.

    Args:
        filters: of the first one, even; the two in the middle have half as many.
        channels: of a frame.
        activation: of the last one, which is computed in float32: None or ``sigmoid``.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, 4 * rows, 4 * columns, channels)``, float32.

    Example:
        >>> import numpy as np
        >>> FrameMapDecoder(16, 3)(np.ones([2, 8, 12, 32], "float32")).shape
        TensorShape([2, 32, 48, 3])
    """

    def __init__(self, filters: int, channels: int, activation: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.channels, self.activation = check_even(filters), channels, activation
        half, policy = filters // 2, self.dtype_policy
        self.convs = [transposed(n, f"conv{i}", policy) for i, n in enumerate((filters, half))]
        self.doublings = [
            doubling(half, "doubling0", policy),
            doubling(channels, "doubling1", "float32"),  # its rounding would be fed back
        ]

    def build(self, input_shape):
        shape = input_shape
        for plain, twice in zip(self.convs, self.doublings, strict=True):
            plain.build(shape)
            twice.build((*shape[:-1], plain.filters))
            shape = (*shape[:-1], twice.filters)

    def call(self, x):
        x = tf.nn.elu(doubled(self.doublings[0], tf.nn.elu(self.convs[0](x))))
        x = doubled(self.doublings[1], tf.nn.elu(self.convs[1](x)))
        return keras.activations.get(self.activation)(x)

    def get_config(self):
        config = {"filters": self.filters, "channels": self.channels, "activation": self.activation}
        return {**super().get_config(), **config}


def transposed(filters: int, name: str, dtype):
    """A transposed 3x3 convolution of stride 1."""
    common = {"kernel_initializer": fan_in_uniform(), "name": name, "dtype": dtype}
    return keras.layers.Conv2DTranspose(filters, 3, padding="same", **common)


def doubling(filters: int, name: str, dtype):
    """A transposed 3x3 convolution of stride 2, to be called by ``doubled``."""
    return keras.layers.Conv2DTranspose(filters, 3, 2, kernel_initializer=fan_in_uniform(), name=name, dtype=dtype)


def doubled(layer, x):
    """Twice the height and width, aligned as with PyTorch's ``padding=1, output_padding=1`` ("same" keeps the first
    rows and columns of 2 n + 1, PyTorch the last ones)."""
    return layer(x)[:, 1:, 1:]


def check_even(filters: int) -> int:
    check_conv(filters, 3)
    if filters % 2:
        raise InputError(f"filters must be even, some layers have half as many, received {filters}")
    return filters
