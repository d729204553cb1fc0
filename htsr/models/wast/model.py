"""WaST: a block of frames from a block of frames, by way of their wavelets."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.layers.batch_norm import BatchNorm
from htsr.layers.convolution import conv, fan_in_bias, fan_in_uniform
from htsr.models.block_predictor import BlockPredictor
from htsr.models.simvp.parts import gelu
from htsr.models.simvp.translators.block import draw_kept
from htsr.models.wast.blocks import FrequencyBlock
from htsr.models.wast.wavelets import BANDS, haar, high_frequency_loss, inverse_haar

_KERNELS = (51, 21, 51)
_FREQUENCY_WEIGHT = 1e-3


class WaST(BlockPredictor):
    """WaST (Nie et al., "Wavelet-driven spatiotemporal predictive learning", AAAI 2024), as OpenSTL builds it.

    Blocks of large kernels work on all frames of the context side by side: at full size, then at half of it, on the
    low bands of a three-dimensional Haar transform, and again at full size after the inverse, which gets the other
    bands of the context back. ``l2`` is the squared error, ``frequency`` the focal loss on high frequencies. Clips
    that are longer than two blocks train it on its own frames, with the gradient through all blocks.

    Deviation: each branch of a block has its own scale; in OpenSTL both have the first one. Paths are dropped from the
    stated step on; OpenSTL drops some in its first step, too.

    Args:
        frame_shape: height, width, channels; height and width even.
        context: frames of a block, read and predicted, even.
        filters: channels of the maps of a frame.
        depths: blocks at full size, at half size and at full size.
        drop_path: share of clips for which a branch of the last block is dropped in training; of the first one it is
            0, in between on the line.
        drop_from: training steps before a branch is dropped. Published: 20 epochs.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (32, 32, 2),
        context: int = 4,
        filters: int = 20,
        depths: Sequence[int] = (2, 8, 2),
        drop_path: float = 0.25,
        drop_from: int = 25_560,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, context, context, dtype, name="wast")
        require_int("filters", filters, 1)
        require_int("drop_from", drop_from, 0)
        if not isinstance(depths, Sequence) or len(depths) != 3 or min(depths) < 1:
            raise InputError(f"depths must be three numbers of at least 1, received {depths}")
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must be at least 0 and below 1, received {drop_path}")
        if any(size % 2 for size in (context, *frame_shape[:2])):
            raise InputError(
                f"context, height and width must be even, received {context} and {tuple(frame_shape[:2])}; read one "
                "frame more or less, and resize or crop the frames"
            )
        self.context, self.filters, self.drop_from = context, filters, drop_from
        channels, policy = frame_shape[-1], self.dtype_policy
        self.conv_in = NormalisedConv3D(filters, name="conv_in", dtype=policy)
        self.before, self.between, self.after = (
            [FrequencyBlock(size, name=f"{name}{i}", dtype=policy) for i in range(depth)]
            for name, size, depth in zip(("before", "between", "after"), _KERNELS, depths, strict=True)
        )
        self.embed_frames = conv3d(2 * filters, 4 * channels, "embed_frames")
        self.to_bands = NormalisedConv3D(filters, name="to_bands", dtype=policy)
        self.embed_maps = NormalisedConv3D(2 * filters, name="embed_maps", dtype=policy)
        self.from_low = NormalisedConv3D(filters, name="from_low", dtype=policy)
        self.from_high = NormalisedConv3D(6 * filters, groups=6, name="from_high", dtype=policy)
        self.join = conv(context * filters, 3, True, "join", policy)
        self.join.bias_initializer = fan_in_bias(9 * 2 * context * filters)
        self.norm_out = BatchNorm(name="norm_out", dtype=policy)
        self.conv_out = conv3d(channels, filters, "conv_out")
        self.drop_rates = np.repeat(np.linspace(0, drop_path, sum(depths)), 2).astype(np.float32)

    def build(self, input_shape=None):
        height, width, channels = self.frame_shape
        maps, half = (None, self.context, height, width), (None, self.context, height // 2, width // 2)
        size = self.filters
        self.conv_in.build((*maps, channels))
        self.embed_frames.build((*half, 4 * channels))
        for layer in (self.to_bands, self.norm_out, self.conv_out):
            layer.build((*maps, size))
        self.embed_maps.build((*half, size))
        self.from_low.build((*half, 2 * size))
        self.from_high.build((*half, 6 * size))
        self.join.build((None, height, width, 2 * self.context * size))
        for block in (*self.before, *self.after):
            block.build((None, height, width, self.context * size))
        for block in self.between:
            block.build((None, height // 2, width // 2, 2 * self.context * size))
        self.built = True

    def predict_block(self, frames, kept=None, training=False):
        """Predict the next frames.

        Args:
            frames: ``(batch, context, height, width, channel)``.
            kept: float32 ``(batch, branches)`` by which the branches of all blocks are multiplied, or None for 1.
            training: whether batch normalisation is by the batch.
        """
        depths = [2 * len(blocks) for blocks in (self.before, self.between, self.after)]
        parts = [None] * 3 if kept is None else tf.split(kept, depths, -1)
        frames = tf.cast(frames, self.compute_dtype)
        skip = _run(self.before, _side_by_side(self.conv_in(frames, training=training)), parts[0], training)
        x, high = self._embed(frames, self._apart(skip), training)
        x = self._apart(_run(self.between, _side_by_side(x), parts[1], training))
        x = self.join(tf.concat([_side_by_side(self._reconstruct(x, high, training)), skip], -1))
        x = self._apart(_run(self.after, x, parts[2], training))
        return self.conv_out(gelu(_norm3d(self.norm_out, x, training)))

    def _embed(self, frames, maps, training):
        """Low bands of frames and maps as maps of half the size, twice the channels, and as many frames; and the other
        bands of the maps side by side."""
        of_frames, of_maps = haar(frames), haar(self.to_bands(maps, training=training))
        # Those high along columns take the second half of the time.
        halves = [tf.concat([of_frames[f"{name}{end}"] for name in ("LL", "LH", "HL", "HH")], -1) for end in "LH"]
        low = tf.concat([of_maps["LLL"], of_maps["LLH"]], 1)
        x = tf.cast(self.embed_frames(tf.concat(halves, 1)), self.compute_dtype)
        return x + self.embed_maps(low, training=training), tf.concat([of_maps[name] for name in BANDS[2:]], -1)

    def _reconstruct(self, x, high, training):
        """Invert ``_embed``, as to the maps."""
        low = tf.split(self.from_low(x, training=training), 2, 1)
        high = tf.split(self.from_high(high, training=training), 6, -1)
        return inverse_haar(dict(zip(BANDS, [*low, *high], strict=True)))

    def _apart(self, x):
        """Invert ``_side_by_side``."""
        rows, columns, channels = x.shape[1:]
        x = tf.reshape(x, [-1, rows, columns, channels // self.context, self.context])
        return tf.transpose(x, [0, 4, 1, 2, 3])

    def loss_terms(self, clip, seed, step=None):
        """Return ``l2``, the squared error per clip, its mean over pixels and predicted frames, and ``frequency``, of
        ``high_frequency_loss``; outside of training for averages of batch normalisation and without dropped paths."""
        training = step is not None

        def predict(block, number):
            kept = draw_kept(self.drop_rates, clip, seed, number) if training else None
            kept = kept if kept is None else tf.where(step < self.drop_from, 1.0, kept)
            return self.predict_block(block, kept, training)

        frames, truth = self._unrolled(clip, predict)
        l2 = tf.reduce_mean(tf.square(frames - truth), [1, 2, 3, 4])
        return {"l2": l2, "frequency": high_frequency_loss(frames, truth)}

    def total_loss(self, terms, num_frames, step=None):
        """``l2`` and a thousandth of ``frequency``."""
        return terms["l2"] + _FREQUENCY_WEIGHT * terms["frequency"]


def _run(blocks, x, kept, training: bool):
    for i, block in enumerate(blocks):
        x = block(x, None if kept is None else kept[:, 2 * i : 2 * i + 2], training=training)
    return x


def _side_by_side(x):
    """Maps of frames as maps, ``(batch, rows, columns, channels * time)``, the frames of a channel together."""
    time, rows, columns, channels = x.shape[1:]
    return tf.reshape(tf.transpose(x, [0, 2, 3, 4, 1]), [-1, rows, columns, channels * time])


def _norm3d(norm: BatchNorm, x, training: bool):
    """Batch normalisation over time, too."""
    return tf.reshape(norm(tf.reshape(x, [-1, *x.shape[2:]]), training=training), [-1, *x.shape[1:]])


def conv3d(filters: int, fan_in: int, name: str, groups: int = 1) -> keras.layers.Conv3D:
    """Return a 3x3x3 convolution, "same" padding, that begins as PyTorch's; ``fan_in`` channels go into a filter.

    It is of float32: in bfloat16, on processors, TensorFlow's gradient for the kernel is not finite at times.
    """
    return GroupedConv3D(
        filters, 3, padding="same", groups=groups, name=name, dtype="float32",
        kernel_initializer=fan_in_uniform(), bias_initializer=fan_in_bias(27 * fan_in),
    )  # fmt: skip


class GroupedConv3D(keras.layers.Conv3D):
    """A convolution of groups of channels, one after the other: processors have no kernel for them together."""

    def call(self, x):
        if self.groups == 1:
            return super().call(x)
        kernels = tf.split(tf.convert_to_tensor(self.kernel), self.groups, -1)
        parts = zip(tf.split(x, self.groups, -1), kernels, strict=True)
        return tf.concat([tf.nn.conv3d(part, kernel, [1] * 5, "SAME") for part, kernel in parts], -1) + self.bias


@keras.saving.register_keras_serializable("htsr")
class NormalisedConv3D(keras.layers.Layer):
    """A 3x3x3 convolution, batch normalisation, GELU.

    Args:
        filters: channels out.
        groups: of channels, each of which is convolved by itself.

    Call arguments:
        x: ``(batch, time, rows, columns, channels)``.
        training: whether batch normalisation is by the batch.

    Returns:
        ``(batch, time, rows, columns, filters)``.
    """

    def __init__(self, filters: int, groups: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.groups = filters, groups

    def build(self, shape):
        self.conv = conv3d(self.filters, shape[-1] // self.groups, "conv", self.groups)
        self.norm = BatchNorm(name="norm", dtype="float32")
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, x, training=False):
        return tf.cast(gelu(_norm3d(self.norm, self.conv(x), training)), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "groups": self.groups}
