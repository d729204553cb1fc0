"""Blocks that mix positions with dense layers or attention: MLP-Mixer, ViT, Swin, UniFormer."""

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm
from htsr.layers.window_attention import WindowAttention
from htsr.models.simvp.parts import FAN_OUT, MLP, NARROW, SMALL, dense, depthwise, layer_norm
from htsr.models.simvp.translators.block import Block, share

HEADS = 8


class MLPMixer(Block):
    """An MLP over positions, of half as many units as there are channels, and one over channels (arXiv 2105.01601)."""

    def build(self, shape):
        _, rows, columns, channels = shape
        policy = self.dtype_policy
        self.norm1, self.norm2 = layer_norm(1e-6, "norm1", policy), layer_norm(1e-6, "norm2", policy)
        self.mix = MLP(channels // 2, SMALL, name="mix", dtype=policy)
        self.mlp = MLP(self.mlp_ratio * channels, SMALL, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.mlp):
            layer.build(shape)
        self.mix.build((None, channels, rows * columns))

    def call(self, x, kept=None, training=False):
        _, rows, columns, channels = x.shape
        positions = tf.transpose(tf.reshape(self.norm1(x), [-1, rows * columns, channels]), [0, 2, 1])
        mixed = tf.transpose(self.mix(positions), [0, 2, 1])
        x += share(tf.reshape(mixed, [-1, rows, columns, channels]), kept, 0)
        return x + share(self.mlp(self.norm2(x)), kept, 1)


class Attention(keras.layers.Layer):
    """Attention of all positions of a map to each other, eight heads.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.qkv = dense(channels, 3 * channels, "qkv", policy, SMALL)
        self.output_layer = dense(channels, channels, "output", policy, SMALL)
        self.qkv.build(shape)
        self.output_layer.build(shape)

    def call(self, x):
        _, rows, columns, channels = x.shape
        size = channels // HEADS
        tokens = tf.reshape(self.qkv(x), [-1, rows * columns, 3, HEADS, size])
        q, k, v = tf.unstack(tf.transpose(tokens, [2, 0, 3, 1, 4]))
        logits = tf.cast(tf.matmul(q * size**-0.5, k, transpose_b=True), tf.float32)
        values = tf.transpose(tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v), [0, 2, 1, 3])
        return self.output_layer(tf.reshape(values, [-1, rows, columns, channels]))


class ViT(Block):
    """Attention of all positions and an MLP, without positions' embedding (arXiv 2010.11929)."""

    divisor = HEADS

    def build(self, shape):
        policy = self.dtype_policy
        self.norm1, self.norm2 = layer_norm(1e-5, "norm1", policy), layer_norm(1e-5, "norm2", policy)
        self.attention = self.make_attention(shape)
        self.mlp = MLP(self.mlp_ratio * shape[-1], SMALL, name="mlp", dtype=policy)
        for layer in (self.norm1, self.norm2, self.attention, self.mlp):
            layer.build(shape)

    def make_attention(self, shape):
        """Return the attention for maps of this shape."""
        del shape
        return Attention(name="attention", dtype=self.dtype_policy)

    def call(self, x, kept=None, training=False):
        x += share(self.attention(self.norm1(x)), kept, 0)
        return x + share(self.mlp(self.norm2(x)), kept, 1)


class Swin(ViT):
    """Attention within windows, moved by half of one in every second block (arXiv 2103.14030).

    What a moved window has from the other side of the map is not hidden, as in OpenSTL. Windows are of 7 where that
    divides the rows, else of a sixteenth of the rows, at least 4 and at most 8.
    """

    def make_attention(self, shape):
        window = 7 if shape[1] % 7 == 0 else min(8, max(4, shape[1] // 16))
        shift = window // 2 if self.index % 2 else 0
        return WindowAttention(
            HEADS, window, shift, masked=False, start=NARROW(), name="attention", dtype=self.dtype_policy
        )


class UniFormer(Block):
    """Convolutions in the first block and where the number of channels changes, attention in the others (arXiv
    2201.09450); a depthwise 3x3 convolution before both."""

    divisor = HEADS

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.local = self.index == 0 or self.widens
        start = FAN_OUT if self.local else SMALL
        self.position = depthwise(3, "position", policy, start=FAN_OUT if self.local else "default")
        self.mlp = MLP(self.mlp_ratio * channels, start, name="mlp", dtype=policy)
        layers = [self.position, self.mlp]
        if self.local:
            self.norm1, self.norm2 = BatchNorm(name="norm1", dtype=policy), BatchNorm(name="norm2", dtype=policy)
            self.before = dense(channels, channels, "before", policy, FAN_OUT)
            self.conv = depthwise(5, "conv", policy)
            self.after = dense(channels, channels, "after", policy, FAN_OUT)
            layers += [self.before, self.conv, self.after]
        else:
            self.norm1, self.norm2 = layer_norm(1e-5, "norm1", policy), layer_norm(1e-5, "norm2", policy)
            self.attention = Attention(name="attention", dtype=policy)
            self.scale1, self.scale2 = (self.scale(name, channels, 1e-6) for name in ("scale1", "scale2"))
            layers.append(self.attention)
        for layer in (self.norm1, self.norm2, *layers):
            layer.build(shape)

    def call(self, x, kept=None, training=False):
        x += self.position(x)
        if self.local:
            mixed = self.after(self.conv(self.before(self.norm1(x, training=training))))
            x += share(mixed, kept, 0)
            return x + share(self.mlp(self.norm2(x, training=training)), kept, 1)
        x += share(self.scale1 * self.attention(self.norm1(x)), kept, 0)
        return x + share(self.scale2 * self.mlp(self.norm2(x)), kept, 1)
