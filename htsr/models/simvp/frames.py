"""What is between frames and maps in SimVP."""

import keras
import tensorflow as tf

from htsr.layers.convolution import conv
from htsr.layers.group_norm import GroupNorm
from htsr.layers.resampling import HalvingConv
from htsr.models.simvp.parts import NARROW, dense


@keras.saving.register_keras_serializable("htsr")
class Stage(keras.layers.Layer):
    """A 3x3 convolution, group normalisation of two groups, SiLU; it may halve or double rows and columns.

    Args:
        filters: channels out.
        resample: "half", "double", or "" for neither.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows, columns, filters)``, rows and columns halved or doubled.
    """

    def __init__(self, filters: int, resample: str = "", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.resample, policy = filters, resample, self.dtype_policy
        if resample == "half":
            self.conv = HalvingConv(filters, NARROW(), name="conv", dtype=policy)
        else:
            size = 4 * filters if resample == "double" else filters
            self.conv = conv(size, 3, True, "conv", policy, start=NARROW())
        self.norm = GroupNorm(2, name="norm", dtype=policy)

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, x):
        x = self.conv(x)
        return tf.nn.silu(self.norm(tf.nn.depth_to_space(x, 2) if self.resample == "double" else x))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "resample": self.resample}


@keras.saving.register_keras_serializable("htsr")
class Encoder(keras.layers.Layer):
    """Stages from frames to maps; every second one halves rows and columns.

    Args:
        filters: channels of maps.
        depth: number of stages, even.

    Call arguments:
        x: ``(batch, height, width, channels)``.

    Returns:
        Maps ``(batch, height / 2**(depth / 2), width / 2**(depth / 2), filters)``, and those of the first stage, which
        have the frames' size.
    """

    def __init__(self, filters: int, depth: int, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.depth = filters, depth
        self.stages = [
            Stage(filters, "half" if i % 2 else "", name=f"stage{i}", dtype=self.dtype_policy) for i in range(depth)
        ]

    def build(self, shape):
        for stage in self.stages:
            stage.build(shape)
            shape = (*shape[:-1], self.filters)

    def call(self, x):
        first = x = self.stages[0](x)
        for stage in self.stages[1:]:
            x = stage(x)
        return x, first

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "depth": self.depth}


@keras.saving.register_keras_serializable("htsr")
class Decoder(keras.layers.Layer):
    """Stages from maps to frames, in the order that is the reverse of ``Encoder``'s; then a 1x1 convolution.

    Args:
        channels: of frames.
        filters: channels of maps.
        depth: number of stages, even.

    Call arguments:
        x: maps, the first result of ``Encoder``.
        first: its second result, added to what the last stage reads.

    Returns:
        float32 ``(batch, height, width, channels)``.
    """

    def __init__(self, channels: int, filters: int, depth: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.filters, self.depth = channels, filters, depth
        self.stages = [
            Stage(filters, "" if i % 2 else "double", name=f"stage{i}", dtype=self.dtype_policy) for i in range(depth)
        ]
        self.output_layer = dense(filters, channels, "output", "float32")  # its rounding would be fed back

    def build(self, shape):
        for stage in self.stages:
            stage.build(shape)
        self.output_layer.build(shape)

    def call(self, x, first):
        for stage in self.stages[:-1]:
            x = stage(x)
        return self.output_layer(self.stages[-1](x + first))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "filters": self.filters, "depth": self.depth}
