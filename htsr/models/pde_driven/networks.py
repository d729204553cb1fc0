"""What is between frames and codes, and what moves a code."""

import itertools
from typing import Literal

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm

Form = Literal["dcgan", "vgg"]
FACTORS = {"dcgan": 16, "vgg": 8}  # by how much the smallest maps are smaller than frames
# Channels after each convolution, in multiples of the filters, stage by stage; from maps to frames one more follows.
DOWN = {"dcgan": ((1,), (2,), (4,), (8,)), "vgg": ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8))}
UP = {"dcgan": ((4,), (2,), (1,), ()), "vgg": ((8, 8, 4), (4, 4, 2), (2, 1), (1,))}


@keras.saving.register_keras_serializable("htsr")
class Block(keras.layers.Layer):
    """A convolution, batch normalisation, a leaky ReLU of slope 0.2.

    Args:
        conv: the convolution, plain or transposed.
        norm, activation: whether there are the others.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        training: whether normalisation is by the batch.
    """

    def __init__(self, conv: keras.layers.Layer, norm: bool = True, activation: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.activation = conv, activation
        self.norm = BatchNorm(name="norm", dtype=self.dtype_policy) if norm else None

    def build(self, shape):
        self.conv.build(shape)
        if self.norm is not None:
            self.norm.build((*shape[:-1], self.conv.filters))

    def call(self, x, training=False):
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x, training=training)
        return tf.nn.leaky_relu(x, 0.2) if self.activation else x


@keras.saving.register_keras_serializable("htsr")
class Encoder(keras.layers.Layer):
    """Frames to a code: four stages of convolutions, and one over the whole maps that are left.

    Args:
        form: ``dcgan``: a stage is a convolution of 4x4 and stride 2; ``vgg``: two or three of 3x3, from the second
            stage on after the maximum over 2x2.
        filters: of the first stage; later ones have 2, 4 and 8 times as many.
        grid: rows and columns of the smallest maps.
        units: of the code.

    Call arguments:
        x: frames side by side, ``(batch, height, width, channels)``.
        training: whether normalisation is by the batch.

    Returns:
        The code, ``(batch, units)``, and the maps of all stages, the smallest first.
    """

    def __init__(self, form: Form, filters: int, grid: tuple[int, int], units: int, **kwargs):
        super().__init__(**kwargs)
        self.form, policy = form, self.dtype_policy
        self.stages = [
            [
                Block(
                    _conv(keras.layers.Conv2D, form, filters * width, policy),
                    norm=form == "vgg" or i > 0, name=f"stage{i}_{j}", dtype=policy,
                )
                for j, width in enumerate(widths)
            ]
            for i, widths in enumerate(DOWN[form])
        ]  # fmt: skip
        head = keras.layers.Conv2D(units, grid, kernel_initializer=_start(), name="conv", dtype=policy)
        self.head = Block(head, norm=form == "vgg", activation=False, name="head", dtype=policy)

    def build(self, shape):
        for block in (*itertools.chain(*self.stages), self.head):
            block.build(shape)
            shape = (*shape[:-1], block.conv.filters)

    def call(self, x, training=False):
        maps = []
        for i, stage in enumerate(self.stages):
            x = tf.nn.max_pool2d(x, 2, 2, "VALID") if i and self.form == "vgg" else x
            for block in stage:
                x = block(x, training=training)
            maps.insert(0, x)
        return self.head(x, training=training)[:, 0, 0], tuple(maps)


@keras.saving.register_keras_serializable("htsr")
class Decoder(keras.layers.Layer):
    """A code to a frame, the stages of an ``Encoder`` backwards.

    Args:
        form: as in ``Encoder``; ``dcgan`` doubles maps by transposed convolutions, ``vgg`` by repetition.
        filters, grid: as in ``Encoder``.
        channels: of frames.

    Call arguments:
        code: ``(batch, units)``.
        maps: those of an ``Encoder``, which each stage reads beside its own, or none.
        training: whether normalisation is by the batch.

    Returns:
        float32 ``(batch, height, width, channels)``, without an activation.
    """

    def __init__(self, form: Form, filters: int, grid: tuple[int, int], channels: int, **kwargs):
        super().__init__(**kwargs)
        self.form, policy, transposed = form, self.dtype_policy, keras.layers.Conv2DTranspose
        first = transposed(8 * filters, grid, kernel_initializer=_start(), name="conv", dtype=policy)
        self.first = Block(first, name="first", dtype=policy)
        kind = transposed if form == "dcgan" else keras.layers.Conv2D
        self.stages = [
            [
                Block(_conv(kind, form, filters * width, policy), name=f"stage{i}_{j}", dtype=policy)
                for j, width in enumerate(widths)
            ]
            for i, widths in enumerate(UP[form])
        ]
        self.last = _conv(transposed, form, channels, "float32")

    def build(self, shape, maps_channels=(0, 0, 0, 0)):
        self.first.build((shape[0], 1, 1, shape[-1]))
        channels = self.first.conv.filters
        for stage, more in zip(self.stages, maps_channels, strict=True):
            channels += more
            for block in stage:
                block.build((None, None, None, channels))
                channels = block.conv.filters
        self.last.build((None, None, None, channels))

    def call(self, code, maps=(), training=False):
        x = self.first(code[:, None, None], training=training)
        for i, stage in enumerate(self.stages):
            x = tf.concat([x, maps[i]], -1) if maps else x
            for block in stage:
                x = block(x, training=training)
            if self.form == "vgg" and i < len(self.stages) - 1:
                x = tf.repeat(tf.repeat(x, 2, 1), 2, 2)
        return self.last(x)


@keras.saving.register_keras_serializable("htsr")
class ResidualMLP(keras.layers.Layer):
    """What is added to a code in a step: three dense layers with ReLUs between them.

    Args:
        hidden: units of the first two.
        gain: of the orthogonal matrices they begin with.

    Call arguments:
        code: ``(batch, units)``.
    """

    def __init__(self, hidden: int, gain: float, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.gain = hidden, gain

    def build(self, shape):
        self.layers = []
        for i, units in enumerate((self.hidden, self.hidden, shape[-1])):
            start = keras.initializers.Orthogonal(self.gain)
            layer = keras.layers.Dense(units, kernel_initializer=start, name=f"dense{i}", dtype=self.dtype_policy)
            layer.build(shape)
            shape = (*shape[:-1], units)
            self.layers.append(layer)

    def call(self, code):
        first, second, last = self.layers
        return last(tf.nn.relu(second(tf.nn.relu(first(code)))))


def _conv(kind, form: Form, filters: int, dtype):
    """A convolution of a form, plain or transposed; "same" is one pixel of zeros on every side for both of them."""
    size, stride = (4, 2) if form == "dcgan" else (3, 1)
    return kind(filters, size, stride, padding="same", kernel_initializer=_start(), name="conv", dtype=dtype)


def _start():
    return keras.initializers.RandomNormal(stddev=0.02)
