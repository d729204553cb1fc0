"""ST-ResNet: the next frame from the last ones, from those a day and from those a week before it."""

import math

import keras
import tensorflow as tf

from htsr.checks import require_int
from htsr.layers.convolution import conv
from htsr.models.block_predictor import BlockPredictor


class STResNet(BlockPredictor):
    """ST-ResNet (Zhang et al., "Deep spatio-temporal residual networks for citywide crowd flows prediction", AAAI 2017;
    arXiv 1610.00081).

    Up to three branches read frames side by side: the last ones, those a number of days before the predicted one, and
    those a number of weeks before it. What they give is weighted, each cell and channel by itself, and added up. A
    hyperbolic tangent makes a frame of the sum, in [-1, 1] within the model. It predicts one frame; longer clips train
    it on its own frames.

    Deviation: clips have no weather, holidays and weekdays. Where ``external`` is not 0 the layers that read them are
    there, for published weights, and read zeros unless ``predict_block`` is given numbers.

    Args:
        frame_shape: height, width, channels.
        closeness: how many of the last frames are read.
        period: how many days back frames are read; 0 for no such branch.
        trend: how many weeks back.
        day, week: frames in a day and in a week.
        filters: channels of the maps.
        units: residual units of a branch. Published: 2, 4 and 12.
        external: numbers that are known beside the frames; 0 for no layers that read them.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (32, 32, 2),
        closeness: int = 3,
        period: int = 1,
        trend: int = 1,
        day: int = 48,
        week: int = 336,
        filters: int = 64,
        units: int = 12,
        external: int = 0,
        dtype: str = "float32",
    ):
        for name, number in {"closeness": closeness, "day": day, "week": week, "filters": filters}.items():
            require_int(name, number, 1)
        for name, number in {"period": period, "trend": trend, "units": units, "external": external}.items():
            require_int(name, number, 0)
        super().__init__(frame_shape, max(closeness, period * day, trend * week), 1, dtype, name="st_resnet")
        steps = {"closeness": (closeness, 1), "period": (period, day), "trend": (trend, week)}
        # How far back the frames of a branch are, the nearest one first.
        self.back = {name: [step * i for i in range(1, n + 1)] for name, (n, step) in steps.items() if n}
        policy = self.dtype_policy
        self.branches = [Branch(frame_shape[-1], filters, units, name=name, dtype=policy) for name in self.back]
        self.external = external
        if external:
            self.embed = keras.layers.Dense(10, "relu", name="embed", dtype=policy)
            self.expand = keras.layers.Dense(math.prod(frame_shape), "relu", name="expand", dtype="float32")

    def build(self, input_shape=None):
        for branch, back in zip(self.branches, self.back.values(), strict=True):
            branch.build((None, *self.frame_shape[:2], len(back) * self.frame_shape[-1]))
        self.shares = self.add_weight(
            name="shares",
            shape=(len(self.branches), *self.frame_shape),
            initializer=keras.initializers.RandomUniform(0, 1),
            autocast=False,
        )
        if self.external:
            self.embed.build((None, self.external))
            self.expand.build((None, 10))
        self.built = True

    def predict_block(self, frames, external=None):
        """Predict the next frame.

        Args:
            frames: ``(batch, inputs, height, width, channel)``.
            external: float32 ``(batch, external)``, or None for zeros.

        Returns:
            ``(batch, 1, height, width, channel)``.
        """
        frames, parts = 2.0 * frames - 1.0, []
        for branch, back in zip(self.branches, self.back.values(), strict=True):
            parts.append(branch(tf.concat([frames[:, -i] for i in back], -1)))
        x = tf.reduce_sum(self.shares * tf.stack(parts, 1), 1)
        if self.external:
            external = tf.zeros([tf.shape(frames)[0], self.external]) if external is None else external
            x += tf.reshape(self.expand(self.embed(external)), [-1, *self.frame_shape])
        return 0.5 * (tf.tanh(x) + 1.0)[:, None]


@keras.saving.register_keras_serializable("htsr")
class Branch(keras.layers.Layer):
    """A 3x3 convolution, residual units of two more, each after a ReLU, and once more a ReLU and a convolution.

    Args:
        channels: out.
        filters: channels within.
        units: residual units.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        float32 ``(batch, rows, columns, channels)``.
    """

    def __init__(self, channels: int, filters: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.filters, policy = channels, filters, self.dtype_policy
        start = keras.initializers.GlorotUniform

        def plain(size: int, name: str, dtype=policy):
            return conv(size, 3, True, name, dtype, start=start())

        self.conv_in, self.conv_out = plain(filters, "conv_in"), plain(channels, "conv_out", "float32")
        self.units = [[plain(filters, f"unit{i}_conv{j}") for j in (1, 2)] for i in range(units)]

    def build(self, shape):
        self.conv_in.build(shape)
        for layer in (*(layer for unit in self.units for layer in unit), self.conv_out):
            layer.build((*shape[:-1], self.filters))

    def call(self, x):
        x = self.conv_in(x)
        for first, second in self.units:
            x += second(tf.nn.relu(first(tf.nn.relu(x))))
        return self.conv_out(tf.nn.relu(x))

    def get_config(self):
        sizes = {"channels": self.channels, "filters": self.filters, "units": len(self.units)}
        return {**super().get_config(), **sizes}
