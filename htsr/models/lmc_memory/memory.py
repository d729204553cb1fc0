"""The memory of LMC-Memory: long-term motion, written through one encoder of clips and recalled through another."""

import keras
import tensorflow as tf

from htsr.layers.convolution import fan_in_uniform
from htsr.models.lmc_memory.frames import check_even, doubled, doubling

MIN_FRAMES = 9  # eight differences are what three halvings of time need

_POOLS = (1, 2, 0, 2, 0, 2)  # frames of the maxima behind each convolution, 0 for none


@keras.saving.register_keras_serializable("htsr")
class MotionEncoder(keras.layers.Layer):
    """Differences of frames to a map of a sixteenth of their height and width.

    Six 3x3x3 convolutions with ReLU, maxima over 2x2 pixels behind four of them and over pairs of differences behind
    the last three of these (a last odd one is dropped), then the mean over what is left of time.

    Args:
        filters: half as many in the first convolution, then once, twice, twice, four and four times as many.

    Call arguments:
        differences: ``(batch, time, height, width, channels)``, at least 8 of them.

    Returns:
        ``(batch, height / 16, width / 16, 4 * filters)``.

    Example:
        >>> import numpy as np
        >>> MotionEncoder(4)(np.ones([2, 9, 32, 48, 1], "float32")).shape
        TensorShape([2, 2, 3, 16])
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = check_even(filters)
        widths = [filters // 2, filters, 2 * filters, 2 * filters, 4 * filters, 4 * filters]
        common = {"kernel_size": 3, "padding": "same", "dtype": self.dtype_policy}
        self.convs = [
            keras.layers.Conv3D(n, kernel_initializer=fan_in_uniform(), name=f"conv{i}", **common)
            for i, n in enumerate(widths)
        ]

    def build(self, input_shape):
        channels = input_shape[-1]
        for conv in self.convs:
            conv.build((None, None, None, None, channels))
            channels = conv.filters

    def call(self, differences):
        return keras.ops.mean(self.maps(differences), axis=1)

    def maps(self, differences):
        """The maps that the result is the mean of, ``(batch, time / 8, height / 16, width / 16, 4 * filters)``."""
        x = differences
        for conv, frames in zip(self.convs, _POOLS, strict=True):
            x = conv(x)
            # ReLU and maximum may change places; on the smaller map it costs less.
            x = tf.nn.relu(_maxima(x, frames) if frames else x)
        return x

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("htsr")
class MotionMemory(keras.layers.Layer):
    r"""What a memory holds about the motion in a clip (Lee et al., "Video prediction recalling long-term motion
    context via memory alignment learning", CVPR 2021, arXiv 2104.00924).

    Every position of the ``MotionEncoder``'s map is a query q; the slots m of the memory are read by

    .. math::
        a = \mathrm{softmax}_k \cos(q, m_k), \qquad r = \sum_k a_k m_k

    and the map of r is brought to a quarter of the frames' size by two transposed convolutions with ReLU. As cosines
    have no temperature, weights differ at most by a factor of e^2, and r is never far from the mean of the slots.

    There are two encoders, which begin alike: ``context_encoder`` for long clips, with which the memory is learnt, and
    ``matching_encoder`` for the short ones there are at prediction.

    Args:
        filters: of the result; a slot has four times as many units.
        slots: of the memory.

    Call arguments:
        clip: ``(batch, time, height, width, channels)``, at least ``MIN_FRAMES`` frames, height and width divisible
            by 16.
        long: whether the context encoder reads it.

    Returns:
        ``(batch, height / 4, width / 4, filters)``.

    Deviation: a query of zeros, as a clip without motion may give, hands no gradient to its encoder; the original's
    floor of 1e-12 under the norm multiplies it by 1e12.

    Example:
        >>> import numpy as np
        >>> MotionMemory(4, slots=10)(np.ones([2, 9, 32, 48, 1], "float32")).shape
        TensorShape([2, 8, 12, 4])
    """

    def __init__(self, filters: int, slots: int = 100, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.num_slots = filters, slots
        policy = self.dtype_policy
        self.context_encoder = MotionEncoder(filters, name="context_encoder", dtype=policy)
        self.matching_encoder = MotionEncoder(filters, name="matching_encoder", dtype=policy)
        self.embedder = [doubling(2 * filters, "embed0", policy), doubling(filters, "embed1", policy)]

    def build(self, clip_shape):
        for encoder in (self.matching_encoder, self.context_encoder):
            encoder.build(clip_shape)
        for ours, theirs in zip(self.context_encoder.weights, self.matching_encoder.weights, strict=True):
            ours.assign(theirs)
        units = 4 * self.filters
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.slots = self.add_weight(name="slots", shape=(self.num_slots, units), initializer=normal, autocast=False)
        for layer in self.embedder:
            layer.build((None, None, None, units))
            units = layer.filters

    def call(self, clip, long: bool = False):
        encoder = self.context_encoder if long else self.matching_encoder
        return self.recall(encoder(clip[:, 1:] - clip[:, :-1]))

    def recall(self, queries):
        """The result for a map of queries, which an encoder gives."""
        x = self.read(queries)
        for layer in self.embedder:
            x = tf.nn.relu(doubled(layer, x))
        return x

    def read(self, queries):
        """What the memory has at a map of queries ``(batch, rows, columns, 4 * filters)``: the same shape."""
        positions = queries.shape[1] * queries.shape[2]
        rows = tf.reshape(tf.cast(queries, tf.float32), [-1, positions, queries.shape[-1]])
        found = tf.matmul(self.address(rows), tf.convert_to_tensor(self.slots)[None])
        return tf.cast(tf.reshape(found, [-1, *queries.shape[1:]]), self.compute_dtype)

    def address(self, rows):
        """The weight of every slot for queries ``(batch, positions, 4 * filters)``: ``(batch, positions, slots)``.

        One product a clip: the bits of a product of all rows together depend on their number.
        """
        slots = _unit(tf.convert_to_tensor(self.slots))
        return tf.nn.softmax(tf.matmul(_unit(rows), slots[None], transpose_b=True))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "slots": self.num_slots}


@keras.saving.register_keras_serializable("htsr")
class ChannelAttention(keras.layers.Layer):
    """A weight in (0, 1) for every channel, from the mean of a map: dense layers with ReLU, then a sigmoid.

    Args:
        filters: channels that are weighted.
        units: of the layer between.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, 1, 1, filters)``.
    """

    def __init__(self, filters: int, units: int = 16, **kwargs):
        super().__init__(**kwargs)

        def dense(units: int, activation: str, name: str):
            policy = self.dtype_policy
            return keras.layers.Dense(units, activation, kernel_initializer=fan_in_uniform(), name=name, dtype=policy)

        self.squeeze, self.excite = dense(units, "relu", "squeeze"), dense(filters, "sigmoid", "excite")

    def build(self, input_shape):
        self.squeeze.build((None, input_shape[-1]))
        self.excite.build((None, self.squeeze.units))

    def call(self, x):
        return self.excite(self.squeeze(keras.ops.mean(x, axis=(1, 2))))[:, None, None]

    def get_config(self):
        return {**super().get_config(), "filters": self.excite.units, "units": self.squeeze.units}


def _maxima(x, frames: int):
    """Maxima over ``frames`` frames and 2x2 pixels.

    Not ``tf.nn.max_pool3d``: on a CPU its gradient goes, whole, to each of several equal maxima, of which there are
    many where a clip stands still.
    """
    height, width, channels = x.shape[2] // 2, x.shape[3] // 2, x.shape[4]
    y = tf.nn.max_pool2d(tf.reshape(x, [-1, *x.shape[2:]]), 2, 2, "VALID")
    y = tf.reshape(y, [-1, tf.shape(x)[1], height * width, channels])
    y = tf.nn.max_pool2d(y, [frames, 1], [frames, 1], "VALID") if frames > 1 else y
    return tf.reshape(y, [-1, tf.shape(y)[1], height, width, channels])


def _unit(rows):
    """Rows scaled to length 1, rows of zeros left as they are, without a gradient."""
    squares = tf.reduce_sum(tf.square(rows), -1, keepdims=True)
    floor = 1e-24  # of the squared norm
    # Square root and quotient are exact; the bits of a reciprocal root depend on how many are computed together.
    return tf.where(squares > floor, rows / tf.sqrt(tf.maximum(squares, floor)), 0.0)
