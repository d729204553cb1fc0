"""Blocks of convolutions and means: ConvMixer, ConvNeXt, PoolFormer, HorNet."""

import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.layers.group_norm import GroupNorm
from htsr.models.simvp.parts import FAN_OUT, MLP, SMALL, dense, depthwise, gelu, layer_norm
from htsr.models.simvp.translators.block import Block, share


class ConvMixer(Block):
    """A depthwise 11x11 convolution and a 1x1 one, GELU and batch normalisation after each (arXiv 2201.09792).

    The second one has no residual.
    """

    branches = 0

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.norm1, self.norm2 = BatchNorm(name="norm1", dtype=policy), BatchNorm(name="norm2", dtype=policy)
        self.conv = depthwise(11, "conv", policy)
        self.mix = dense(channels, channels, "mix", policy, FAN_OUT)
        for layer in (self.norm1, self.norm2, self.conv, self.mix):
            layer.build(shape)

    def call(self, x, kept=None, training=False):
        x += self.norm1(gelu(self.conv(x)), training=training)
        return self.norm2(gelu(self.mix(x)), training=training)


class ConvNeXt(Block):
    """A depthwise 7x7 convolution, normalisation of channels and an MLP, in one branch (arXiv 2201.03545)."""

    branches = 1

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.conv, self.norm = depthwise(7, "conv", policy), layer_norm(1e-6, "norm", policy)
        self.mlp = MLP(self.mlp_ratio * channels, name="mlp", dtype=policy)
        for layer in (self.conv, self.norm, self.mlp):
            layer.build(shape)
        self.scale1 = self.scale("scale1", channels, 1e-6)

    def call(self, x, kept=None, training=False):
        return x + share(self.scale1 * self.mlp(self.norm(self.conv(x))), kept, 0)


class PoolFormer(Block):
    """Means of 3x3 positions in place of attention (arXiv 2111.11418)."""

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.norm1, self.norm2 = GroupNorm(1, name="norm1", dtype=policy), GroupNorm(1, name="norm2", dtype=policy)
        self.mlp = MLP(self.mlp_ratio * channels, SMALL, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.mlp):
            layer.build(shape)
        self.scale1, self.scale2 = (self.scale(name, channels, 1e-5) for name in ("scale1", "scale2"))

    def call(self, x, kept=None, training=False):
        y = self.norm1(x)
        means = tf.nn.avg_pool2d(y, 3, 1, "SAME")  # of the positions that are there
        x += share(self.scale1 * (means - y), kept, 0)
        return x + share(self.scale2 * self.mlp(self.norm2(x)), kept, 1)


class HorNet(Block):
    """Gated convolutions of four orders (arXiv 2207.14284): products with wider and wider maps, 1x1 ones between."""

    divisor = 8

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.widths = [channels // 8, channels // 4, channels // 2, channels]
        self.norm1, self.norm2 = layer_norm(1e-6, "norm1", policy), layer_norm(1e-6, "norm2", policy)
        self.before = dense(channels, 2 * channels, "before", policy, FAN_OUT)
        self.conv = depthwise(7, "conv", policy)
        self.after = dense(channels, channels, "after", policy, FAN_OUT)
        self.mlp = MLP(self.mlp_ratio * channels, SMALL, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.before, self.after, self.mlp):
            layer.build(shape)
        self.conv.build((*shape[:-1], sum(self.widths)))
        for i, (narrow, wide) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            layer = dense(narrow, wide, f"orders{i}", policy, FAN_OUT)
            layer.build((*shape[:-1], narrow))
            setattr(self, f"orders{i}", layer)
        self.scale1, self.scale2 = (self.scale(name, channels, 1e-6) for name in ("scale1", "scale2"))

    def call(self, x, kept=None, training=False):
        z, gates = tf.split(self.before(self.norm1(x)), [self.widths[0], sum(self.widths)], -1)
        gates = tf.split(self.conv(gates), self.widths, -1)
        z *= gates[0]
        for layer, gate in zip((self.orders0, self.orders1, self.orders2), gates[1:], strict=True):
            z = layer(z) * gate
        x += share(self.scale1 * self.after(z), kept, 0)
        return x + share(self.scale2 * self.mlp(self.norm2(x)), kept, 1)
