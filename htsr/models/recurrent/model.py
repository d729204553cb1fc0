"""Convolutional recurrent predictors: a stack of cells over patches, fed with its own predictions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import conv
from htsr.models.base import VideoModel
from htsr.models.recurrent.cells import make_cells
from htsr.models.recurrent.patches import PatchOrder, from_patches, to_patches
from htsr.models.training_step import TrainingPass
from htsr.ops import noise as noise_lib
from htsr.ops.scan import scan

Loss = Literal["l2", "l1_l2"]
Sampling = Literal["scheduled", "reverse", "none"]


class RolloutState(NamedTuple):
    """What ``advance`` needs: the states of the layers, and the next input in patches."""

    layers: tuple[Any, ...]
    inputs: tf.Tensor


class RecurrentPredictor(VideoModel):
    """A stack of recurrent cells that predicts the next frame, and further ones from its own predictions.

    Frames are cut into patches, optionally embedded by a 1x1 convolution, taken through the cells, and a 1x1
    convolution of the last hidden state is the prediction of the next frame's patches, without activation. With
    ``cell="cms_lstm"`` this is CMS-LSTM (Chai et al., arXiv 2102.03586), with ``embed=False`` and
    ``conv_lstm`` or ``st_lstm`` the ConvLSTM and PredRNN of OpenSTL, with ``motionrnn`` MotionRNN (Wu et al., arXiv
    2103.02243), with ``gmg`` GMG (Du et al., arXiv 2503.11297).

    In training the first ``context`` inputs are true frames; each later one is the true frame or the previous
    prediction, drawn for every clip and step; gradients pass through fed-back predictions. Outside of training, also in
    validation losses, all later ones are predictions.

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
        dtype: ``float32`` or ``mixed_bfloat16``.

    Deviation: biases start at 0, not uniformly random.
    """

    stochastic = False

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
        context: int = 10,
        loss: Loss = "l2",
        scored_from: int = 2,
        sampling: Sampling = "scheduled",
        sampling_steps: int = 50000,
        time_reversed: bool = True,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype=dtype, name="recurrent")
        height, width, channels = frame_shape
        if patch_size < 1 or height % patch_size or width % patch_size:
            raise InputError(
                f"patch_size must divide the frame's {height}x{width} pixels, received {patch_size}; resize or crop "
                "the frames, or choose another patch size"
            )
        choices = {"patch_order": PatchOrder, "loss": Loss, "sampling": Sampling}
        for (name, known), value in zip(choices.items(), (patch_order, loss, sampling), strict=True):
            if value not in get_args(known):
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, received {value!r}")
        if not isinstance(filters, Sequence) or not filters or min(filters) < 1:
            raise InputError(f"filters must be one number of at least 1 for every layer, received {filters}")
        if context < 1 or sampling_steps < 1:
            raise InputError(f"context and sampling_steps must be at least 1, received {context} and {sampling_steps}")
        if scored_from < 1:
            raise InputError(f"scored_from must be at least 1, received {scored_from}: frame 0 is never predicted")
        self.patch_size, self.patch_order, self.context = patch_size, patch_order, context
        self.loss_name, self.scored_from = loss, scored_from
        self.sampling, self.sampling_steps = sampling, sampling_steps
        self.time_reversed = time_reversed
        self.cells = make_cells(cell, filters, kernel_size, layer_norm, dtype)
        moving = hasattr(self.cells[0].state_type, "highway")
        self.exports = frozenset({"onnx"} if moving else {"onnx", "tflite"})
        self.grid = (height // patch_size, width // patch_size, channels * patch_size**2)
        self.embed = conv(filters[0], 1, True, "embed", self.dtype_policy) if embed else None
        self.highway = conv(filters[0], 1, False, "highway", self.dtype_policy) if moving else None
        self.output_conv = conv(self.grid[-1], 1, embed, "output", "float32")  # its rounding would be fed back

    def build(self, input_shape=None):
        shape = (None, *self.grid)
        if self.highway is not None:
            self.highway.build(shape)
        if self.embed is not None:
            self.embed.build(shape)
            shape = (*shape[:-1], self.embed.filters)
        for cell in self.cells:
            cell.build(shape)
            shape = (*shape[:-1], cell.filters)
        self.output_conv.build(shape)
        self.built = True

    # ---- training

    def training_passes(self, clip):
        return tuple(map(TrainingPass, (clip, clip[:, ::-1]) if self.time_reversed else (clip,)))

    def loss_terms(self, clip, seed, step=None):
        """Terms per clip, summed over pixels and scored frames: ``l2``, half the squared error; with ``l1_l2`` also
        ``l1``, half the absolute error."""
        num_frames = clip.shape[1]
        if num_frames <= max(self.context, self.scored_from):
            raise InputError(
                f"context is {self.context} and scored_from {self.scored_from}, but clips have {num_frames} frames; "
                "set data.seq_len above both"
            )
        frames = self._patches(clip)
        predictions = self._unroll(frames, self._teacher_mask(tf.shape(clip)[0], num_frames - 1, seed, step))
        error = (predictions - frames[1:])[self.scored_from - 1 :]
        terms = {"l2": 0.5 * tf.reduce_sum(tf.square(error), [0, 2, 3, 4])}
        if self.loss_name == "l1_l2":
            terms["l1"] = 0.5 * tf.reduce_sum(tf.abs(error), [0, 2, 3, 4])
        return terms

    def _unroll(self, frames, teacher_mask) -> tf.Tensor:
        """Predictions of the frames after the first.

        Args:
            frames: in patches, ``(time, batch, ...)``.
            teacher_mask: bool ``(batch, time - 1)``, where the true frame is fed and not the prediction of it.

        Returns:
            ``(time - 1, batch, ...)``.
        """

        def predict(state, x):
            frame, is_true = x
            return RolloutState(*self._predict(state.layers, tf.where(is_true, frame, state.inputs)))

        xs = (frames[:-1], tf.transpose(teacher_mask)[:, :, None, None, None])
        first = RolloutState(self._initial_states(frames[0]), tf.zeros_like(frames[0]))
        return scan(predict, xs, first, keep=lambda state: state.inputs)[1]

    def _teacher_mask(self, batch, num_inputs: int, seed, step) -> tf.Tensor:
        """Where the true frame is the input, bool ``(batch, num_inputs)``: a function of seed and step."""
        after = tf.range(num_inputs) >= self.context
        if step is None or self.sampling == "none":
            return tf.repeat(~after[None], batch, 0)
        done = tf.cast(step, tf.float32) / self.sampling_steps  # 1 when the last true frame has been fed
        if self.sampling == "scheduled":
            before, later = tf.ones([]), tf.maximum(1.0 - done, 0.0)
        else:
            # Both one half at first; from the middle on one rises exponentially to 1, the other falls linearly to 0.
            before = tf.where(done < 0.5, 0.5, 1.0 - 0.5 * tf.exp(-10.0 * (done - 0.5)))
            before = tf.where(done < 1.0, before, 1.0)
            later = tf.clip_by_value(1.0 - done, 0.0, 0.5)
        probability = tf.tensor_scatter_nd_update(tf.where(after, later, before), [[0]], [1.0])
        seeds = noise_lib.fold(noise_lib.fold(seed, tf.range(batch))[:, None], tf.range(num_inputs))
        return noise_lib.uniform(seeds) < probability

    # ---- the model

    def _patches(self, clip) -> tf.Tensor:
        """A clip in patches, ``(time, batch, rows, columns, channel)``."""
        return tf.transpose(to_patches(clip, self.patch_size, self.patch_order), [1, 0, 2, 3, 4])

    def _initial_states(self, inputs) -> tuple:
        return tuple(cell.initial_state(tf.cast(inputs, self.compute_dtype)) for cell in self.cells)

    def _predict(self, layers: tuple, inputs) -> tuple[tuple, tf.Tensor]:
        """One step: new states, and the prediction of the next frame, from a frame; both in patches."""
        # What a layer hands to the next one beside its output.
        flow = {"memory": layers[-1].memory} if self.cells[0].zigzag else {}
        if self.highway is not None:
            flow["highway"] = self.highway(inputs)
        x = inputs if self.embed is None else self.embed(inputs)
        new = []
        for cell, old in zip(self.cells, layers, strict=True):
            x, state = cell(x, old._replace(**flow))
            flow = {name: getattr(state, name) for name in flow}
            new.append(state)
        return tuple(new), self.output_conv(x)

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        frames = self._patches(context)
        layers, _ = scan(
            lambda layers, frame: self._predict(layers, frame)[0], frames[:-1], self._initial_states(frames[0])
        )
        return tf.nest.map_structure(lambda x: tf.tile(x, [num_samples, 1, 1, 1]), RolloutState(layers, frames[-1]))

    def advance(self, state, length):
        def predict(state, _):
            return RolloutState(*self._predict(*state))

        state, predictions = scan(predict, tf.range(length), state, keep=lambda state: state.inputs)
        patches = tf.transpose(predictions, [1, 0, 2, 3, 4])
        return state, from_patches(patches, self.patch_size, self.patch_order)

    # ---- frame by frame

    def step_stream(self, state, seeds):
        layers, prediction = self._predict(*state)
        frame = from_patches(prediction[:, None], self.patch_size, self.patch_order)[:, 0]
        return RolloutState(layers, prediction), frame

    def observe_stream(self, state, frame, seeds):
        layers, _ = self._predict(*state)
        return RolloutState(layers, self._patches(frame[:, None])[0])
