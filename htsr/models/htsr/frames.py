"""Frame encoder and decoder of HTSR and Clockwork VAE, applied to every frame on its own.

Convolutions of 4x4 stride 2 down to 2x2 and transposed ones back up (Ha & Schmidhuber, "World models", 2018), with a
squeeze-and-excite residual cell at full width after the first convolution and before the last one in HTSR.
"""

import math

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.models.htsr.residual import SqueezeExciteResidual

_SIZES = (64, 128)


def leaky_relu(x):
    """Leaky ReLU with slope 0.2, TensorFlow's default and the published models' (Keras layers default to 0.3)."""
    return tf.nn.leaky_relu(x, 0.2)


def feature_size(image_size: int, channels_mult: float) -> int:
    """Units of a frame's feature vector: 1024 at 64x64, 2048 at 128x128, times ``channels_mult``."""
    return 4 * _filters(image_size, channels_mult)[-1]


@keras.saving.register_keras_serializable("htsr")
class FrameEncoder(keras.layers.Layer):
    """Frames to feature vectors (HTSR specification: four convolutions 4x4, stride 2, valid, leaky ReLU).

    Args:
        image_size: 64 or 128 (a fifth convolution), the height and width of the frames.
        channels_mult: scales the filters 32, 64, 128, 256 (, 512).
        residual: the residual cell after the first convolution (HTSR) or none (Clockwork VAE).

    Call arguments:
        frames: ``(batch, image_size, image_size, channel)``.

    Returns:
        ``(batch, feature_size(image_size, channels_mult))``, the last map flattened row by row.
    """

    def __init__(self, image_size: int = 64, channels_mult: float = 1.0, residual: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.image_size, self.channels_mult, self.residual = image_size, channels_mult, residual
        filters = _filters(image_size, channels_mult)
        self.convs = [
            keras.layers.Conv2D(n, 4, 2, activation=leaky_relu, name=f"conv{i}", dtype=self.dtype_policy)
            for i, n in enumerate(filters, 1)
        ]
        if residual:
            self.residual_cell = SqueezeExciteResidual(filters[0], name="residual", dtype=self.dtype_policy)

    def build(self, input_shape):
        shape = (None, *input_shape[1:])
        for i, conv in enumerate(self.convs):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            if i == 0 and self.residual:
                self.residual_cell.build(shape)

    def call(self, frames):
        x = self.convs[0](frames)
        if self.residual:
            x = self.residual_cell(x)
        for conv in self.convs[1:]:
            x = conv(x)
        return tf.reshape(x, [-1, feature_size(self.image_size, self.channels_mult)])

    def get_config(self):
        config = {"image_size": self.image_size, "channels_mult": self.channels_mult, "residual": self.residual}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("htsr")
class FrameDecoder(keras.layers.Layer):
    """Feature vectors to frames in (-1, 1): a dense layer and four transposed convolutions, stride 2, valid.

    Kernels 5, 5, 6, 6 give 1 → 5 → 13 → 30 → 64 pixels; 128x128 frames take a fifth, 2x2, with 16 filters before it.
    The first one sees a single pixel, where a transposed convolution is a matrix product: it is computed as one (about
    five times faster), with the variables of the convolution.

    Args:
        image_size: 64 or 128.
        channels: channels of a frame.
        channels_mult: scales the filters 1024, 128, 64, 32.
        residual: the residual cell after the third transposed convolution (HTSR) or none (Clockwork VAE).

    Call arguments:
        features: ``(batch, units)``.

    Returns:
        ``(batch, image_size, image_size, channels)`` in (-1, 1): a tanh, although frames lie in [0, 1].
    """

    def __init__(
        self, image_size: int = 64, channels: int = 1, channels_mult: float = 1.0, residual: bool = True, **kwargs
    ):
        super().__init__(**kwargs)
        self.image_size, self.channels = image_size, channels
        self.channels_mult, self.residual = channels_mult, residual
        policy = self.dtype_policy
        upper = _filters(image_size, channels_mult)
        filters = [int(n * channels_mult) for n in (128, 64, 32, 16)[: len(upper) - 1]] + [channels]
        kernels = (5, 5, 6, 6, 2)[: len(filters)]
        self.dense = keras.layers.Dense(int(1024 * channels_mult), name="dense", dtype=policy)
        self.convs = [
            keras.layers.Conv2DTranspose(n, k, 2, activation=leaky_relu, name=f"conv{i}", dtype=policy)
            for i, (n, k) in enumerate(zip(filters, kernels, strict=True), 1)
        ]
        self.convs[-1].activation = keras.activations.tanh
        if residual:
            self.residual_cell = SqueezeExciteResidual(filters[2], name="residual", dtype=policy)

    def build(self, input_shape):
        self.dense.build(input_shape)
        shape = (None, 1, 1, self.dense.units)
        for i, conv in enumerate(self.convs):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            if i == 2 and self.residual:
                self.residual_cell.build(shape)

    def call(self, features):
        x = self._first(self.dense(features))
        for conv in self.convs[1:3]:
            x = conv(x)
        if self.residual:
            x = self.residual_cell(x)
        for conv in self.convs[3:]:
            x = conv(x)
        return x

    def _first(self, x):
        """The transposed convolution of a 1x1 map: its kernel ``(5, 5, filters, units)`` as a matrix."""
        conv = self.convs[0]
        kernel = tf.cast(tf.convert_to_tensor(conv.kernel), x.dtype)
        size, _, filters, units = kernel.shape
        matrix = tf.transpose(tf.reshape(kernel, [size * size * filters, units]))
        x = tf.reshape(tf.matmul(x, matrix), [-1, size, size, filters])
        return leaky_relu(x + tf.cast(tf.convert_to_tensor(conv.bias), x.dtype))

    def get_config(self):
        config = {"image_size": self.image_size, "channels": self.channels}
        return {**super().get_config(), **config, "channels_mult": self.channels_mult, "residual": self.residual}


def _filters(image_size: int, channels_mult: float) -> list[int]:
    if image_size not in _SIZES:
        raise InputError(
            f"frames must be 64x64 or 128x128 pixels, received {image_size}; resize them or set data.image_size"
        )
    narrowest = 32 if image_size == 64 else 16
    if not (math.isfinite(channels_mult) and narrowest * channels_mult >= 1):
        raise InputError(f"channels_mult must be at least 1/{narrowest}, received {channels_mult}")
    return [int(n * channels_mult) for n in (32, 64, 128, 256, 512)[: 4 if image_size == 64 else 5]]
