"""PhyDNet: frames to a latent map, on which a physical cell and convolutional LSTMs run side by side."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.conv_lstm import ConvLSTMCell, ConvLSTMState
from htsr.layers.convolution import conv
from htsr.layers.group_norm import GroupNorm
from htsr.layers.resampling import DoublingConv, HalvingConv
from htsr.models.next_frame import NextFramePredictor
from htsr.models.phydnet.physics import PhyCell, moment_penalty
from htsr.ops import noise as noise_lib

GROUPS = 16  # of the normalisations


class PhyDNetState(NamedTuple):
    """The hidden state of the physical cell, and the states of the LSTMs."""

    physical: tf.Tensor
    lstm: tuple[ConvLSTMState, ...]


class PhyDNet(NextFramePredictor):
    """PhyDNet (Le Guen & Thome, CVPR 2020; arXiv 2003.01460), as its authors' code builds it.

    An encoder makes a map of a frame. One branch of two convolutions takes it to a ``PhyCell``, another one to a stack
    of convolutional LSTMs; two branches lead back, the decoder makes a frame of their sum, and a sigmoid ends it.

    In training, true frames are fed after the context, too, or predictions: drawn once for a batch. ``l2`` is half the
    squared error, summed over pixels and frames; ``moments`` ties the filters of the ``PhyCell`` to derivatives.

    Args:
        frame_shape: height, width, channels.
        filters: channels of the map, a multiple of 32.
        lstm_filters: of the LSTMs; the last number is ``filters``.
        patch_size: how much smaller the map is than a frame: 4, or 2.
        context: true frames at the beginning of a training clip.
        sampling_steps: training steps over which the probability of true frames after the context falls from 1 to 0.
            Published: 333 epochs.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.

    Deviation: OpenSTL minimises the squared difference of this loss from the frames, by mistake; biases start at 0, not
    uniformly random; the probability falls at every step, not after every epoch.
    """

    exports = frozenset({"tflite"})

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        filters: int = 64,
        lstm_filters: Sequence[int] = (128, 128, 64),
        patch_size: int = 4,
        context: int = 10,
        sampling_steps: int = 208_333,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, context=context, sampling_steps=sampling_steps, name="phydnet")
        if patch_size not in (2, 4):
            raise InputError(f"patch_size must be 2 or 4, received {patch_size}")
        if filters < 1 or filters % (2 * GROUPS):
            raise InputError(f"filters must be a multiple of {2 * GROUPS}, received {filters}")
        if not lstm_filters or min(lstm_filters) < 1 or lstm_filters[-1] != filters:
            raise InputError(f"lstm_filters must be numbers of which the last is {filters}, received {lstm_filters}")
        if any(side % patch_size for side in frame_shape[:2]):
            raise InputError(
                f"height and width must be multiples of {patch_size}, received {tuple(frame_shape[:2])}; resize or "
                "crop the frames"
            )
        self.filters, self.patch_size, policy = filters, patch_size, self.dtype_policy
        half, deep = filters // 2, patch_size == 4

        def plain(units: int, name: str):
            return conv(units, 3, True, name, policy)

        def halving(units: int, name: str):
            return HalvingConv(units, name=name, dtype=policy)

        last = halving(filters, "conv2") if deep else plain(filters, "conv2")
        self.encoder = NormalisedStack(
            [halving(half, "conv0"), plain(half, "conv1"), last], name="encoder", dtype=policy
        )
        branches = ("to_physical", "to_lstm", "from_physical", "from_lstm")
        self.to_physical, self.to_lstm, self.from_physical, self.from_lstm = (
            NormalisedStack([plain(filters, "conv0"), plain(filters, "conv1")], name=name, dtype=policy)
            for name in branches
        )
        self.decoder = NormalisedStack(
            [DoublingConv(half, name="conv0", dtype=policy), plain(half, "conv1")], name="decoder", dtype=policy
        )
        self.output_conv = (
            DoublingConv(frame_shape[-1], name="output", dtype="float32")
            if deep
            else conv(frame_shape[-1], 3, True, "output", "float32")
        )
        self.physical = PhyCell(filters, name="physical", dtype=policy)
        self.cells = [
            ConvLSTMCell(n, 3, use_bias=True, name=f"lstm{i}", dtype=policy) for i, n in enumerate(lstm_filters)
        ]

    def build(self, input_shape=None):
        height, width, channels = self.frame_shape
        size, rows, columns = self.filters, height // self.patch_size, width // self.patch_size
        self.encoder.build((None, height, width, channels))
        shape = (None, rows, columns, size)
        for layer in (self.to_physical, self.to_lstm, self.from_physical, self.from_lstm, self.physical, self.decoder):
            layer.build(shape)
        for cell in self.cells:
            cell.build(shape)
            shape = (*shape[:-1], cell.filters)
        self.output_conv.build((None, height // 2, width // 2, size // 2))
        self.built = True

    def initial_states(self, inputs):
        maps = tf.cast(inputs[:, :: self.patch_size, :: self.patch_size], self.compute_dtype)
        physical = tf.repeat(tf.zeros_like(maps[..., :1]), self.filters, -1)
        return PhyDNetState(physical, tuple(cell.initial_state(maps) for cell in self.cells))

    def predict_next(self, layers, inputs):
        maps = self.encoder(inputs)
        physical = self.physical(self.to_physical(maps), layers.physical)
        x, states = self.to_lstm(maps), []
        for cell, old in zip(self.cells, layers.lstm, strict=True):
            x, new = cell(x, old)
            states.append(new)
        both = self.from_physical(physical) + self.from_lstm(x)
        return PhyDNetState(physical, tuple(states)), tf.sigmoid(self.output_conv(self.decoder(both)))

    def teacher_mask(self, batch, num_inputs, seed, step):
        """As in ``NextFramePredictor``, but a batch is fed with true frames throughout, or not."""
        true = tf.range(num_inputs) < self.context
        if step is not None:
            share = 1.0 - tf.cast(step, tf.float32) / self.sampling_steps
            true |= noise_lib.uniform(noise_lib.fold(seed, 0)) < share
        return tf.repeat(true[None], batch, 0)

    def loss_terms(self, clip, seed, step=None):
        terms = super().loss_terms(clip, seed, step)
        penalty = moment_penalty(tf.convert_to_tensor(self.physical.derivatives.kernel))
        return {**terms, "moments": tf.repeat(penalty, tf.shape(clip)[0])}

    def total_loss(self, terms, num_frames, step=None):
        # The published penalty is beside means over pixels of squares; l2 is half of their sum.
        moments = 0.5 * math.prod(self.frame_shape) * terms["moments"]
        return super().total_loss({**terms, "moments": moments}, num_frames, step)


@keras.saving.register_keras_serializable("htsr")
class NormalisedStack(keras.layers.Layer):
    """Convolutions, each with a group normalisation and a leaky ReLU of slope 0.2.

    Args:
        convs: the convolutions, with ``filters`` of their own.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
    """

    def __init__(self, convs: Sequence[keras.layers.Layer], **kwargs):
        super().__init__(**kwargs)
        self.convs = list(convs)
        self.norms = [GroupNorm(GROUPS, name=f"norm{i}", dtype=self.dtype_policy) for i in range(len(convs))]

    def build(self, shape):
        for layer, norm in zip(self.convs, self.norms, strict=True):
            layer.build(shape)
            shape = (*shape[:-1], layer.filters)
            norm.build(shape)

    def call(self, x):
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = tf.nn.leaky_relu(norm(layer(x)), 0.2)
        return x
