"""A reversible autoencoder, which loses nothing of what it encodes."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.layers.convolution import fan_in_bias, fan_in_uniform
from htsr.layers.group_norm import GroupNorm


def window_conv(
    filters: int, window: int, name: str, dtype, kernel_size: int = 3, stride: int = 1, bias_fan_in: int = 0
) -> keras.layers.Conv3D:
    """Return a convolution over the maps of a window and its frames, with a bias where its fan in is given.

    It goes over as many frames as rows, or over one where a window is one. With a stride it pads nothing.
    """
    return keras.layers.Conv3D(
        filters,
        (min(kernel_size, window), kernel_size, kernel_size),
        (1, stride, stride),
        padding="same" if stride == 1 else "valid",
        use_bias=bias_fan_in > 0,
        kernel_initializer=fan_in_uniform(),
        bias_initializer=fan_in_bias(bias_fan_in) if bias_fan_in else "zeros",
        name=name,
        dtype=dtype,
    )


@keras.saving.register_keras_serializable("htsr")
class StepNorm(BatchNorm):
    """Batch normalisation of the steps of a clip, each for itself, as if one came after the other.

    In training a step is encoded and decoded. The averages move as if all were done in this order.

    Call arguments:
        x: ``(steps * batch, window, rows, columns, channels)``, step by step.
        steps: their number in training; 0 to normalise with the averages.
        decoding: whether this is a step's second turn.

    Returns:
        The same shape.
    """

    def call(self, x, steps=0, decoding=False):
        if not steps:
            return super().call(x)
        values = tf.reshape(tf.cast(x, tf.float32), [steps, -1, x.shape[-1]])
        replica = tf.distribute.get_replica_context()
        several = replica.num_replicas_in_sync > 1
        mean = tf.reduce_mean(values, 1, keepdims=True)
        mean = replica.all_reduce("MEAN", mean) if several else mean
        values -= mean
        variance = tf.reduce_mean(tf.square(values), 1, keepdims=True)
        variance = replica.all_reduce("MEAN", variance) if several else variance
        y = values * (tf.math.rsqrt(variance + 1e-5) * self.gamma) + self.beta
        count = tf.cast(tf.shape(values)[1] * replica.num_replicas_in_sync, tf.float32)
        self._follow(self.moving_mean, mean[:, 0], decoding)
        self._follow(self.moving_variance, variance[:, 0] * count / (count - 1.0), decoding)
        return tf.cast(tf.reshape(y, tf.shape(x)), self.compute_dtype)

    def _follow(self, average, values, decoding):
        turns = 2 * values.shape[0]
        weights = np.float32(0.1 * 0.9 ** np.arange(turns)[::-1][decoding::2])
        kept = 1.0 if decoding else 0.9**turns
        average.assign(kept * average + tf.linalg.matvec(tf.stop_gradient(values), weights, transpose_a=True))


@keras.saving.register_keras_serializable("htsr")
class WindowNorm(GroupNorm):
    """Normalisation of all maps of a window together.

    Call arguments:
        x: ``(batch, window, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def __init__(self, **kwargs):
        super().__init__(1, **kwargs)

    def call(self, x, **_):
        return tf.reshape(super().call(tf.reshape(x, [-1, x.shape[1] * x.shape[2], *x.shape[3:]])), tf.shape(x))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype_policy.name}


@keras.saving.register_keras_serializable("htsr")
class Bottleneck(keras.layers.Layer):
    """What a block of the autoencoder adds to the other half: three convolutions, each after a norm and a ReLU.

    Args:
        filters: channels out; between the convolutions a half of them, or a fourth for windows of one frame.
        window: frames of a window.
        stride: of the first convolution, 1 or 2.
        first: whether it is the first block, which has no norm and no ReLU in front.

    Call arguments:
        x: ``(batch, window, rows, columns, channels)``.
        steps, decoding: as in ``StepNorm``, which is the norm of windows of more than one frame.

    Returns:
        float32 ``(batch, window, rows / stride, columns / stride, filters)``.
    """

    def __init__(self, filters: int, window: int, stride: int = 1, first: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.window, self.stride, policy = filters, window, stride, self.dtype_policy
        narrow, norm = (max(1, filters // 2), StepNorm) if window > 1 else (max(1, filters // 4), WindowNorm)
        self.convs = [
            window_conv(narrow, window, "conv0", policy, stride=stride),
            window_conv(narrow, window, "conv1", policy),
            window_conv(filters, window, "conv2", policy),
        ]
        self.norms = [None if first and i == 0 else norm(name=f"norm{i}", dtype=policy) for i in range(3)]

    def build(self, shape):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            if norm is not None:
                norm.build(shape)
            conv.build(shape)
            shape = (*shape[:-1], conv.filters)

    def call(self, x, steps=0, decoding=False):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x if norm is None else tf.nn.relu(norm(x, steps=steps, decoding=decoding))
            if conv.strides[-1] > 1:  # zeros on all sides, which "same" does not give where sides are even
                x = tf.pad(x, [[0, 0], [self.window // 2] * 2, [1, 1], [1, 1], [0, 0]])
            x = conv(x)
        return tf.cast(x, tf.float32)


@keras.saving.register_keras_serializable("htsr")
class ReversibleAutoencoder(keras.layers.Layer):
    r"""Frames to two halves of maps and back, by the same weights (Jacobsen et al., "i-RevNet", arXiv 1802.07088).

    Pixels of 2x2 become channels, of which each half has its own. A block takes halves :math:`(x_1, x_2)` to
    :math:`(x_2, x_1 + F(x_2))` with a ``Bottleneck`` F; so :math:`x_1 = y_2 - F(y_1)` is the way back. The first block
    of every further stage makes channels of 2x2 elements of both halves. Halves are float32 whatever the dtype of F.

    In training the way back is exact but for the normalisation, which is by another batch.

    Args:
        blocks: of each stage.
        window: frames of a window.
        channels: of frames.
    """

    def __init__(self, blocks: Sequence[int], window: int, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.widths = [2 * channels * 4**stage for stage in range(len(blocks))]
        self.blocks = [
            Bottleneck(
                width, window, 1 + (stage > 0 and i == 0), stage == i == 0, name=f"stage{stage}_block{i}",
                dtype=self.dtype_policy,
            )
            for stage, (width, count) in enumerate(zip(self.widths, blocks, strict=True))
            for i in range(count)
        ]  # fmt: skip

    def build(self, shape):
        *first, rows, columns, channels = shape
        shape = (*first, rows // 2, columns // 2, 2 * channels)
        for block in self.blocks:
            block.build(shape)
            rows, columns = (side // block.stride for side in shape[-3:-1])
            shape = (*first, rows, columns, block.filters)

    def encode(self, frames, steps=0):
        """Map ``(batch, window, height, width, channel)`` to both halves; ``steps`` as in ``StepNorm``."""
        first, second = tf.split(_deeper(tf.cast(frames, tf.float32)), 2, -1)
        for block in self.blocks:
            added = block(second, steps=steps)
            if block.stride == 2:
                first, second = _deeper(first), _deeper(second)
            first, second = second, first + added
        return first, second

    def decode(self, first, second, steps=0):
        """Invert ``encode``."""
        for block in reversed(self.blocks):
            before = _wider(first) if block.stride == 2 else first
            rest = second - block(before, steps=steps, decoding=True)
            first, second = _wider(rest) if block.stride == 2 else rest, before
        return _wider(tf.concat([first, second], -1))


def _deeper(x):
    """Channels of 2x2 pixels."""
    _, window, rows, columns, channels = x.shape
    x = tf.nn.space_to_depth(tf.reshape(x, [-1, rows, columns, channels]), 2)
    return tf.reshape(x, [-1, window, rows // 2, columns // 2, 4 * channels])


def _wider(x):
    """Invert ``_deeper``."""
    _, window, rows, columns, channels = x.shape
    x = tf.nn.depth_to_space(tf.reshape(x, [-1, rows, columns, channels]), 2)
    return tf.reshape(x, [-1, window, 2 * rows, 2 * columns, channels // 4])
