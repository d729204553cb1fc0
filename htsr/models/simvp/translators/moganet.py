"""The block of MogaNet."""

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.models.simvp.parts import FAN_OUT, dense, depthwise, gelu
from htsr.models.simvp.translators.block import Block, share


class MogaNet(Block):
    """Gated convolutions of three orders, and an MLP that decomposes channels (arXiv 2211.03295)."""

    divisor = 8

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.norm1, self.norm2 = BatchNorm(name="norm1", dtype=policy), BatchNorm(name="norm2", dtype=policy)
        self.attention = MultiOrderGate(name="attention", dtype=policy)
        self.mlp = DecomposingMLP(self.mlp_ratio * channels, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.attention, self.mlp):
            layer.build(shape)
        self.scale1, self.scale2 = (self.scale(name, channels, 1e-5) for name in ("scale1", "scale2"))

    def call(self, x, kept=None, training=False):
        x += share(self.scale1 * self.attention(self.norm1(x, training=training)), kept, 0)
        return x + share(self.scale2 * self.mlp(self.norm2(x, training=training)), kept, 1)


class MultiOrderGate(keras.layers.Layer):
    """Depthwise convolutions of more and more context on an eighth, three eighths and half of the channels, gated.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.widths = [channels // 8, 3 * channels // 8, channels // 2]
        for name in ("before", "gate", "mix", "after"):
            setattr(self, name, dense(channels, channels, name, policy, FAN_OUT))
            getattr(self, name).build(shape)
        self.near, self.wider = depthwise(5, "near", policy), depthwise(5, "wider", policy, 2)
        self.widest = depthwise(7, "widest", policy, 3)
        for layer, width in ((self.near, channels), (self.wider, self.widths[1]), (self.widest, self.widths[2])):
            layer.build((*shape[:-1], width))
        start = keras.initializers.Constant(1e-5)
        self.contrast = self.add_weight(name="contrast", shape=(channels,), initializer=start)

    def call(self, x):
        y = self.before(x)
        y = tf.nn.silu(y + self.contrast * (y - tf.reduce_mean(y, [1, 2], keepdims=True)))
        near, wider, widest = tf.split(self.near(y), self.widths, -1)
        values = self.mix(tf.concat([near, self.wider(wider), self.widest(widest)], -1))
        return x + self.after(tf.nn.silu(self.gate(y)) * tf.nn.silu(values))


class DecomposingMLP(keras.layers.Layer):
    """An MLP with a depthwise 3x3 convolution, whose channels are moved away from what they have in common.

    Args:
        hidden: channels within.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def __init__(self, hidden: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, shape):
        policy, wide = self.dtype_policy, (*shape[:-1], self.hidden)
        self.widen = dense(shape[-1], self.hidden, "widen", policy, FAN_OUT)
        self.conv = depthwise(3, "conv", policy)
        self.common = dense(self.hidden, 1, "common", policy, FAN_OUT)
        self.narrow = dense(self.hidden, shape[-1], "narrow", policy, FAN_OUT)
        self.widen.build(shape)
        for layer in (self.conv, self.common, self.narrow):
            layer.build(wide)
        start = keras.initializers.Constant(1e-5)
        self.contrast = self.add_weight(name="contrast", shape=(self.hidden,), initializer=start)

    def call(self, x):
        x = gelu(self.conv(self.widen(x)))
        return self.narrow(x + self.contrast * (x - gelu(self.common(x))))
