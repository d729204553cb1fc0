"""Blocks of large-kernel attention: gSTA, VAN and TAU."""

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.models.simvp.parts import DEFAULT, FAN_OUT, MLP, dense, depthwise, gelu
from htsr.models.simvp.translators.block import Block, share


class LargeKernelAttention(keras.layers.Layer):
    """Values times a gate from a depthwise 5x5 convolution and a 7x7 one of dilation 3, which see 21x21 positions.

    Between a 1x1 convolution with GELU and another one, in a residual branch:

    - ``gsta``: a 1x1 convolution gives values and their gate, a sigmoid of the second half.
    - ``van``: it gives the gate of what was read.
    - ``tau``: the same, times a gate a channel from the means over the map.

    Args:
        gate: ``gsta``, ``van`` or ``tau``.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def __init__(self, gate: str, **kwargs):
        super().__init__(**kwargs)
        self.gate = gate

    def build(self, shape):
        # OpenSTL builds TAU's once more after it has initialised all.
        channels, policy, start = shape[-1], self.dtype_policy, DEFAULT if self.gate == "tau" else FAN_OUT
        self.before = dense(channels, channels, "before", policy, start)
        self.after = dense(channels, channels, "after", policy, start)
        self.near = depthwise(5, "near", policy, start=start)
        self.far = depthwise(7, "far", policy, 3, start)
        self.mix = dense(channels, (2 if self.gate == "gsta" else 1) * channels, "mix", policy, start)
        for layer in (self.before, self.after, self.near, self.far, self.mix):
            layer.build(shape)
        if self.gate == "tau":
            size = channels // max(channels // 16, 4)
            self.squeeze = dense(channels, size, "squeeze", policy, use_bias=False)
            self.excite = dense(size, channels, "excite", policy, use_bias=False)
            self.squeeze.build((None, 1, 1, channels))
            self.excite.build((None, 1, 1, size))

    def call(self, x):
        read = gelu(self.before(x))
        mixed = self.mix(self.far(self.near(read)))
        if self.gate == "gsta":
            values, gate = tf.split(mixed, 2, -1)
            return x + self.after(tf.sigmoid(gate) * values)
        if self.gate == "tau":
            means = tf.reduce_mean(read, [1, 2], keepdims=True)
            mixed *= tf.sigmoid(self.excite(tf.nn.relu(self.squeeze(means))))
        return x + self.after(mixed * read)


class GSTA(Block):
    """Gated spatiotemporal attention (SimVP v2; Tan et al., arXiv 2211.12509), and an MLP with a convolution in it."""

    gate = "gsta"

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.norm1, self.norm2 = BatchNorm(name="norm1", dtype=policy), BatchNorm(name="norm2", dtype=policy)
        self.attention = LargeKernelAttention(self.gate, name="attention", dtype=policy)
        self.mlp = MLP(self.mlp_ratio * channels, conv=True, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.attention, self.mlp):
            layer.build(shape)
        self.scale1, self.scale2 = (self.scale(name, channels, 1e-2) for name in ("scale1", "scale2"))

    def call(self, x, kept=None, training=False):
        x += share(self.scale1 * self.attention(self.norm1(x, training=training)), kept, 0)
        return x + share(self.scale2 * self.mlp(self.norm2(x, training=training)), kept, 1)


class VAN(GSTA):
    """Large-kernel attention (Guo et al., arXiv 2202.09741)."""

    gate = "van"


class TAU(GSTA):
    """The temporal attention unit (Tan et al., CVPR 2023; arXiv 2206.12126)."""

    gate = "tau"
