"""The translator of the first SimVP."""

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.layers.convolution import fan_in_bias, fan_in_uniform
from htsr.layers.group_norm import GroupNorm
from htsr.models.simvp.parts import dense

_SIZES = (3, 5, 7, 11)


class GroupedConv(keras.layers.Conv2D):
    """A convolution of groups of channels, "same" padding.

    ``keras.layers.Conv2D`` compiles one with XLA on processors, which is some 20 times slower.
    """

    def call(self, x):
        # On processors groups have a gradient in float32 alone.
        dtype = x.dtype if tf.config.list_physical_devices("GPU") else tf.float32
        y = tf.nn.conv2d(tf.cast(x, dtype), tf.cast(tf.convert_to_tensor(self.kernel), dtype), 1, "SAME")
        return tf.cast(y, x.dtype) + tf.cast(tf.convert_to_tensor(self.bias), x.dtype)


class Inception(keras.layers.Layer):
    """A 1x1 convolution, then the sum of grouped ones of 3x3 to 11x11, each with normalisation and leaky ReLU.

    Args:
        hidden: channels after the 1x1 convolution; groups are eight, or one where eight do not divide them.
        filters: channels out.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows, columns, filters)``.
    """

    def __init__(self, hidden: int, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.filters = hidden, filters

    def build(self, shape):
        policy, groups = self.dtype_policy, 1 if self.hidden % 8 else 8
        self.narrow = dense(shape[-1], self.hidden, "narrow", policy)
        self.narrow.build(shape)
        self.convs, self.norms = [], []
        for size in _SIZES:
            starts = {"kernel_initializer": fan_in_uniform()}
            starts["bias_initializer"] = fan_in_bias(size**2 * self.hidden // groups)
            self.convs.append(
                GroupedConv(
                    self.filters, size, padding="same", groups=groups, name=f"conv{size}", dtype=policy, **starts
                )
            )
            self.convs[-1].build((*shape[:-1], self.hidden))
            self.norms.append(GroupNorm(groups, name=f"norm{size}", dtype=policy))
            self.norms[-1].build((*shape[:-1], self.filters))

    def call(self, x):
        x = self.narrow(x)
        pairs = zip(self.convs, self.norms, strict=True)
        return tf.add_n([tf.nn.leaky_relu(norm(conv(x)), 0.2) for conv, norm in pairs])


class IncepU(keras.layers.Layer):
    """The translator of SimVP (Gao et al., CVPR 2022; arXiv 2206.05099): ``Inception`` blocks down and up, of one size.

    Blocks on the way up, all but the first, read the output of the block of the same depth on the way down, too.

    Args:
        channels: in and out.
        filters: channels within.
        depth: blocks on the way down, and as many on the way up.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        kept, training: those of ``Chain``; nothing is dropped, and nothing depends on the batch.

    Returns:
        The same shape.
    """

    def __init__(self, channels: int, filters: int = 512, depth: int = 8, **kwargs):
        super().__init__(**kwargs)
        require_int("translator filters", filters, 2)
        require_int("translator depth", depth, 2)
        policy, hidden = self.dtype_policy, filters // 2
        self.filters = filters
        self.down = [Inception(hidden, filters, name=f"down{i}", dtype=policy) for i in range(depth)]
        widths = [*[filters] * (depth - 1), channels]
        self.up = [Inception(hidden, width, name=f"up{i}", dtype=policy) for i, width in enumerate(widths)]
        self.drop_rates = np.zeros(0, np.float32)

    def build(self, shape):
        for i, block in enumerate(self.down):
            block.build(shape if i == 0 else (*shape[:-1], self.filters))
        for i, block in enumerate(self.up):
            block.build((*shape[:-1], self.filters * (1 if i == 0 else 2)))

    def call(self, x, kept=None, training=False):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.up[0](x)
        for block, skip in zip(self.up[1:], skips[-2::-1], strict=True):
            x = block(tf.concat([x, skip], -1))
        return x
