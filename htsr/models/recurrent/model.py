"""Convolutional recurrent predictors: a stack of cells over patches, fed with its own predictions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import conv
from htsr.models.next_frame import Loss, NextFramePredictor, Sampling
from htsr.models.recurrent.cells import make_cells
from htsr.models.recurrent.encoder import MapDecoder, MapEncoder
from htsr.models.recurrent.patches import PatchOrder, from_patches, to_patches


class RecurrentPredictor(NextFramePredictor):
    """A stack of recurrent cells that predicts the next frame, and further ones from its own predictions.

    Frames are cut into patches, optionally embedded by a 1x1 convolution, taken through the cells, and a 1x1
    convolution of the last output is the prediction of the next frame's patches, without activation. With
    ``cell="cms_lstm"`` this is CMS-LSTM (Chai et al., arXiv 2102.03586), with ``motionrnn`` MotionRNN (Wu et al., arXiv
    2103.02243), with ``gmg`` GMG (Du et al., arXiv 2503.11297). With ``embed=False`` and ``conv_lstm``, ``st_lstm``,
    ``causal_lstm`` or ``mim`` it is the ConvLSTM, PredRNN, PredRNN++ or MIM of OpenSTL; with ``mau`` and a
    ``reduction`` its MAU.

    Args:
        frame_shape: height, width, channels; ``patch_size`` divides height and width.
        cell: the name of one of ``CELLS``, or a mapping of ``name`` and further arguments of the cell, and ``ce`` and
            ``se`` for the blocks around it (see ``make_cells``).
        filters: of the layers, one number each, first layer first.
        kernel_size: of the cells' convolutions (those inside the SE block are 5x5).
        layer_norm: in cells and blocks. It ties the model to the frame size it was built for.
        patch_size: side of a patch; 1 for none.
        patch_order: ``row_column_channel`` or ``channel_column_row``; CMS-LSTM's weights need ``channel_column_row``.
        embed: a 1x1 convolution of patches to the first layer's filters, and a bias in the output convolution
            (CMS-LSTM); otherwise neither (OpenSTL).
        reduction: how many times smaller than the grid of patches the maps of the cells are, a power of two: above 1, a
            ``MapEncoder`` and a ``MapDecoder`` are around the cells, as in MAU, in place of ``embed`` and the output
            convolution.
        context: true frames at the beginning of a training clip.
        loss: ``l2``, half the squared error, or ``l1_l2``, half the sum of absolute and squared error; summed over
            pixels and frames, the mean over clips. Deviation: the published losses are sums over clips, ``l1_l2`` is
            half of that; Adam takes the same steps.
        scored_from: index of the first frame whose prediction counts in the loss: 2 in CMS-LSTM, which leaves out the
            prediction from a single frame, 1 in OpenSTL.
        sampling: how true frames become rarer: ``scheduled`` (Bengio et al., arXiv 1506.03099): the probability of one
            falls linearly from 1 to 0; ``reverse`` (Wang et al., "PredRNNv2", arXiv 2103.09504): predictions are also
            fed during the context, less and less; ``none``: never a true frame after the context.
        sampling_steps: training steps after which no true frame is fed after the context any more.
        time_reversed: each batch is trained on twice, forwards and reversed in time, with one optimiser step each, as
            CMS-LSTM was.
        decoupling: weight of the decoupling loss of PredRNN-V2 (Wang et al., arXiv 2103.09504, Eq. 5), for ``st_lstm``:
            how alike what a layer adds to its cell and to its memory is, the absolute cosine over space of both after a
            1x1 convolution that the layers share, means over channels, layers and steps; beside a mean squared error.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.

    Deviation: biases start at 0, not uniformly random.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        cell: str | Mapping[str, Any] = "cms_lstm",
        filters: Sequence[int] = (64, 64, 64, 64),
        kernel_size: int = 3,
        layer_norm: bool = True,
        patch_size: int = 4,
        patch_order: PatchOrder = "channel_column_row",
        embed: bool = True,
        reduction: int = 1,
        context: int = 10,
        loss: Loss = "l2",
        scored_from: int = 2,
        sampling: Sampling = "scheduled",
        sampling_steps: int = 50000,
        time_reversed: bool = True,
        decoupling: float = 0.0,
        dtype: str = "float32",
    ):
        super().__init__(
            frame_shape, dtype, context=context, loss=loss, scored_from=scored_from, sampling=sampling,
            sampling_steps=sampling_steps, time_reversed=time_reversed, name="recurrent",
        )  # fmt: skip
        height, width, channels = frame_shape
        if patch_size < 1 or height % patch_size or width % patch_size:
            raise InputError(
                f"patch_size must divide the frame's {height}x{width} pixels, received {patch_size}; resize or crop "
                "the frames, or choose another patch size"
            )
        if patch_order not in get_args(PatchOrder):
            raise InputError(f"patch_order must be one of {', '.join(get_args(PatchOrder))}, received {patch_order!r}")
        if not isinstance(filters, Sequence) or not filters or min(filters) < 1:
            raise InputError(f"filters must be one number of at least 1 for every layer, received {filters}")
        height, width = height // patch_size, width // patch_size
        if reduction < 1 or reduction & (reduction - 1) or height % reduction or width % reduction:
            raise InputError(
                f"reduction must be a power of two that divides the grid of {height}x{width} patches, "
                f"received {reduction}"
            )
        if reduction > 1 and not embed:
            raise InputError(f"embed must be true with a reduction, received {embed}; or set reduction to 1")
        if not decoupling >= 0:
            raise InputError(f"decoupling must be at least 0, received {decoupling}")
        self.patch_size, self.patch_order, self.decoupling = patch_size, patch_order, decoupling
        self.cells = make_cells(cell, filters, kernel_size, layer_norm, dtype, decoupled=decoupling > 0)
        moving = "highway" in self.cells[0].handed
        self.exports = frozenset({"onnx"} if moving else {"onnx", "tflite"})
        self.grid, self.reduction = (height, width, channels * patch_size**2), reduction
        self.embed = conv(filters[0], 1, True, "embed", self.dtype_policy) if embed else None
        self.highway = conv(filters[0], 1, False, "highway", self.dtype_policy) if moving else None
        self.adapter = conv(filters[0], 1, False, "adapter", "float32") if decoupling else None
        self.output_conv = conv(self.grid[-1], 1, embed, "output", "float32")  # its rounding would be fed back
        if reduction > 1:
            halvings = reduction.bit_length() - 1
            self.embed = MapEncoder(filters[0], halvings, name="encoder", dtype=self.dtype_policy)
            self.output_conv = MapDecoder(self.grid[-1], filters[-1], halvings, name="decoder", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        shape = (None, *self.grid)
        if self.highway is not None:
            self.highway.build(shape)
        if self.embed is not None:
            self.embed.build(shape)
            rows, columns, _ = self.grid
            shape = (None, rows // self.reduction, columns // self.reduction, self.embed.filters)
        for cell in self.cells:
            cell.build(shape)
            shape = (*shape[:-1], cell.filters)
        self.output_conv.build(shape)
        if self.adapter is not None:
            self.adapter.build(shape)
        self.built = True

    def patches(self, clip):
        return tf.transpose(to_patches(clip, self.patch_size, self.patch_order), [1, 0, 2, 3, 4])

    def frames(self, patches):
        return from_patches(tf.transpose(patches, [1, 0, 2, 3, 4]), self.patch_size, self.patch_order)

    def initial_states(self, inputs):
        maps = tf.cast(inputs[:, :: self.reduction, :: self.reduction], self.compute_dtype)
        return tuple(cell.initial_state(maps) for cell in self.cells)

    def predict_next(self, layers, inputs):
        # What a layer hands to the next one beside its output.
        flow = {name: getattr(layers[-1], name) for name in self.cells[0].handed}
        if self.highway is not None:
            flow["highway"] = self.highway(inputs)
        x = inputs if self.embed is None else self.embed(inputs)
        new = []
        for cell, old in zip(self.cells, layers, strict=True):
            x, state = cell(x, old._replace(**flow))
            flow = {name: getattr(state, name) for name in flow}
            new.append(state)
        return tuple(new), self.output_conv(x)

    def step_terms(self, layers):
        if self.adapter is None:
            return {}
        alike = [self._alike(state.added_to_cell, state.added_to_memory) for state in layers]
        return {"decoupling": tf.add_n(alike) / len(alike)}

    def _alike(self, *increments) -> tf.Tensor:
        """The absolute cosine over space of two maps, its mean over channels, ``(batch,)``."""
        a, b = (tf.math.l2_normalize(self.adapter(tf.cast(x, tf.float32)), [1, 2], 1e-24) for x in increments)
        return tf.reduce_mean(tf.abs(tf.reduce_sum(a * b, [1, 2])), 1)

    def total_loss(self, terms, num_frames, step=None):
        terms = dict(terms)
        if self.adapter is not None:  # its weight is beside a mean of squares; l2 is half of their sum
            squares = (num_frames - self.scored_from) * math.prod(self.frame_shape)
            terms["decoupling"] *= 0.5 * squares * self.decoupling
        return super().total_loss(terms, num_frames, step)
