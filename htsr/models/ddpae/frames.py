"""What is between frames or objects and codes in DDPAE, and how objects are cut out and placed."""

import functools
import math

import keras
import tensorflow as tf

from htsr.layers.batch_norm import BatchNorm

NARROW = functools.partial(keras.initializers.RandomNormal, stddev=0.02)


@keras.saving.register_keras_serializable("htsr")
class ObjectEncoder(keras.layers.Layer):
    """Convolutions of 4x4 that halve a square picture until it has 4x4 pixels, then a dense layer; leaky ReLUs, and
    batch normalisation after all convolutions but the first.

    Args:
        filters: channels after the first convolution; each further one doubles them.
        units: numbers out.

    Call arguments:
        x: ``(batch, side, side, channels)``, side a power of 2 and at least 8.
        training: whether batch normalisation is by the batch.

    Returns:
        float32 ``(batch, units)``.
    """

    def __init__(self, filters: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.units = filters, units
        self.dense = keras.layers.Dense(
            units, use_bias=False, kernel_initializer=NARROW(), name="dense", dtype="float32"
        )

    def build(self, shape):
        policy, sizes = self.dtype_policy, [self.filters * 2**i for i in range(_halvings(shape[1]))]
        self.convs = [
            keras.layers.Conv2D(
                size, 4, 2, "same", use_bias=False, kernel_initializer=NARROW(), name=f"conv{i}", dtype=policy
            )
            for i, size in enumerate(sizes)
        ]
        self.norms = [BatchNorm(name=f"norm{i}", dtype=policy) for i in range(1, len(sizes))]
        for i, layer in enumerate(self.convs):
            layer.build(shape)
            shape = (None, shape[1] // 2, shape[2] // 2, layer.filters)
            if i:
                self.norms[i - 1].build(shape)
        self.dense.build((None, 16 * shape[-1]))

    def call(self, x, training=False):
        x = tf.nn.leaky_relu(self.convs[0](x), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = tf.nn.leaky_relu(norm(conv(x), training=training), 0.2)
        return self.dense(tf.reshape(x, [-1, 16 * x.shape[-1]]))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "units": self.units}


@keras.saving.register_keras_serializable("htsr")
class ObjectDecoder(keras.layers.Layer):
    """The way back from ``ObjectEncoder``, with transposed convolutions, ReLUs without a slope and a sigmoid at
    the end.

    Args:
        side: of the picture.
        channels: of the picture.
        filters: channels before the last convolution.

    Call arguments:
        x: ``(batch, units)``.
        training: whether batch normalisation is by the batch.

    Returns:
        float32 ``(batch, side, side, channels)``.
    """

    def __init__(self, side: int, channels: int, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.side, self.channels, self.filters, policy = side, channels, filters, self.dtype_policy
        self.sizes = [filters * 2**i for i in reversed(range(_halvings(side)))]
        common = {"use_bias": False, "kernel_initializer": NARROW()}
        self.dense = keras.layers.Dense(16 * self.sizes[0], name="dense", dtype=policy, **common)
        self.norms = [BatchNorm(name=f"norm{i}", dtype=policy) for i in range(len(self.sizes))]
        types = [*[policy] * (len(self.sizes) - 1), "float32"]
        self.convs = [
            keras.layers.Conv2DTranspose(size, 4, 2, "same", name=f"conv{i}", dtype=dtype, **common)
            for i, (size, dtype) in enumerate(zip([*self.sizes[1:], channels], types, strict=True))
        ]

    def build(self, shape):
        self.dense.build(shape)
        shape = (None, 4, 4, self.sizes[0])
        for conv, norm in zip(self.convs, self.norms, strict=True):
            norm.build(shape)
            conv.build(shape)
            shape = (None, 2 * shape[1], 2 * shape[2], conv.filters)

    def call(self, x, training=False):
        x = tf.reshape(self.dense(x), [-1, 4, 4, self.sizes[0]])
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(tf.nn.relu(norm(x, training=training)))
        return tf.sigmoid(x)

    def get_config(self):
        return {**super().get_config(), "side": self.side, "channels": self.channels, "filters": self.filters}


def _halvings(side: int) -> int:
    return int(math.log2(side)) - 2


def place(objects, poses, side: int):
    """Return frames with objects where they are, added up.

    Args:
        objects: ``(batch, component, rows, columns, channel)``.
        poses: scale, x and y, ``(time, batch, component, 3)``. An object has 1 / scale times the sides of the frame;
            its middle is x / scale and y / scale left of and above the frame's, in halves of its sides.
        side: of the frames.

    Returns:
        ``(time, batch, side, side, channel)``.
    """
    scale, x, y = tf.unstack(poses, axis=-1)
    rows = tf.einsum("tbnhi,bnijc->tbnhjc", _taps(scale, y, objects.shape[2], side), objects)
    return tf.einsum("tbnhjc,tbnwj->tbhwc", rows, _taps(scale, x, objects.shape[3], side))


def cut_out(frames, poses, side: int):
    """Return what is where objects are, the inverse of ``place``.

    Args:
        frames: ``(time, batch, rows, columns, channel)``.
        poses: as in ``place``.
        side: of the objects.

    Returns:
        ``(time, batch, component, side, side, channel)``.
    """
    scale, x, y = tf.unstack(poses, axis=-1)
    rows = tf.einsum("tbnih,tbhwc->tbniwc", _taps(1.0 / scale, -y / scale, frames.shape[2], side), frames)
    return tf.einsum("tbniwc,tbnjw->tbnijc", rows, _taps(1.0 / scale, -x / scale, frames.shape[3], side))


def _taps(scale, shift, size: int, out: int):
    """The weights ``(..., out, size)`` with which a line is interpolated: both lines reach from -1 to 1, the point p of
    the new one is at ``scale * p + shift`` of the old one, and there is nothing beyond its ends."""
    points = tf.linspace(-1.0, 1.0, out)
    places = 0.5 * (size - 1) * (scale[..., None] * points + shift[..., None] + 1.0)
    return tf.nn.relu(1.0 - tf.abs(places[..., None] - tf.range(size, dtype=tf.float32)))
