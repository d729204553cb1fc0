"""What predictors of the next frame share, which go on from their own predictions: training, rollouts and streams."""

from abc import abstractmethod
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.models.training_step import TrainingPass
from htsr.ops import noise as noise_lib
from htsr.ops.scan import scan

Loss = Literal["l2", "l1_l2"]
Sampling = Literal["scheduled", "reverse", "none"]


class RolloutState(NamedTuple):
    """What ``advance`` needs: the states of the layers, and the next input."""

    layers: Any
    inputs: tf.Tensor


class NextFramePredictor(VideoModel):
    """A model that steps from frame to frame.

    A subclass writes ``initial_states`` and ``predict_next``, and ``patches`` and ``frames`` where its inputs and
    predictions are not frames.

    In training the first ``context`` inputs are true frames; each later one is the true frame or the previous
    prediction, drawn for every clip and step; gradients pass through fed-back predictions. Outside of training, also in
    validation losses, all later ones are predictions.

    Args:
        frame_shape, dtype: as in ``VideoModel``.
        context, loss, scored_from, sampling, sampling_steps, time_reversed: as in ``RecurrentPredictor``.
    """

    stochastic = False

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        dtype: str,
        *,
        context: int = 10,
        loss: Loss = "l2",
        scored_from: int = 1,
        sampling: Sampling = "none",
        sampling_steps: int = 50000,
        time_reversed: bool = False,
        **kwargs,
    ):
        super().__init__(frame_shape, dtype=dtype, **kwargs)
        choices = {"loss": Loss, "sampling": Sampling}
        for (name, known), value in zip(choices.items(), (loss, sampling), strict=True):
            if value not in get_args(known):
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, received {value!r}")
        if context < 1 or sampling_steps < 1:
            raise InputError(f"context and sampling_steps must be at least 1, received {context} and {sampling_steps}")
        if scored_from < 1:
            raise InputError(f"scored_from must be at least 1, received {scored_from}: frame 0 is never predicted")
        self.context, self.loss_name, self.scored_from = context, loss, scored_from
        self.sampling, self.sampling_steps = sampling, sampling_steps
        self.time_reversed = time_reversed

    @abstractmethod
    def initial_states(self, inputs) -> Any:
        """Return the states before the first input: a nest of tensors with a row for every row of it, and scalars."""

    @abstractmethod
    def predict_next(self, layers: Any, inputs, *noise) -> tuple[Any, tf.Tensor]:
        """Take one step: new states, and the float32 prediction of the input after ``inputs``."""

    def patches(self, clip) -> tf.Tensor:
        """Return inputs ``(time, batch, ...)`` of a clip."""
        return tf.transpose(clip, [1, 0, 2, 3, 4])

    def frames(self, patches) -> tf.Tensor:
        """Invert ``patches``."""
        return tf.transpose(patches, [1, 0, 2, 3, 4])

    def step_noise(self, batch, num_inputs: int, seed, step) -> tuple:
        """Return what ``predict_next`` takes beside its arguments in a loss: a nest of ``(num_inputs, batch, ...)``."""
        del batch, num_inputs, seed, step
        return ()

    def step_terms(self, layers) -> dict[str, tf.Tensor]:
        """Return further terms of the loss, ``(batch,)``, of the states after a step; their means over steps count."""
        del layers
        return {}

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
        frames = self.patches(clip)
        drawn = (tf.shape(clip)[0], num_frames - 1, seed, step)
        predictions, terms = self.unroll(frames, self.teacher_mask(*drawn), self.step_noise(*drawn))
        error = (predictions - frames[1:])[self.scored_from - 1 :]
        terms["l2"] = 0.5 * tf.reduce_sum(tf.square(error), [0, 2, 3, 4])
        if self.loss_name == "l1_l2":
            terms["l1"] = 0.5 * tf.reduce_sum(tf.abs(error), [0, 2, 3, 4])
        return terms

    def unroll(self, frames, teacher_mask, noise: tuple = ()) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Predict the frames after the first.

        Args:
            frames: of ``patches``, ``(time, batch, ...)``.
            teacher_mask: bool ``(batch, time - 1)``, where the true frame is fed and not the prediction of it.
            noise: of ``step_noise``.

        Returns:
            ``(time - 1, batch, ...)``, and the means of ``step_terms``.
        """

        def predict(state, x):
            (state, _), (frame, is_true, noise) = state, x
            layers, prediction = self.predict_next(state.layers, tf.where(is_true, frame, state.inputs), *noise)
            return RolloutState(layers, prediction), self.step_terms(layers)

        xs = (frames[:-1], tf.transpose(teacher_mask)[:, :, None, None, None], noise)
        layers = self.initial_states(frames[0])
        first = RolloutState(layers, tf.zeros_like(frames[0])), self.step_terms(layers)
        predictions, terms = scan(predict, xs, first, keep=lambda state: (state[0].inputs, state[1]))[1]
        return predictions, {name: tf.reduce_mean(term, 0) for name, term in terms.items()}

    def teacher_mask(self, batch, num_inputs: int, seed, step) -> tf.Tensor:
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
        seeds = noise_lib.fold(noise_lib.fold(seed, noise_lib.rows(batch))[:, None], tf.range(num_inputs))
        return noise_lib.uniform(seeds) < probability

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        frames = self.patches(context)
        layers, _ = scan(
            lambda layers, frame: self.predict_next(layers, frame)[0], frames[:-1], self.initial_states(frames[0])
        )
        return tf.nest.map_structure(
            lambda x: tf.tile(x, [num_samples, *[1] * (len(x.shape) - 1)]) if x.shape.rank else x,
            RolloutState(layers, frames[-1]),
        )

    def advance(self, state, length):
        def predict(state, _):
            return RolloutState(*self.predict_next(*state))

        state, predictions = scan(predict, tf.range(length), state, keep=lambda state: state.inputs)
        return state, self.frames(predictions)

    # ---- frame by frame

    def step_stream(self, state, seeds):
        layers, prediction = self.predict_next(*state)
        return RolloutState(layers, prediction), self.frames(prediction[None])[:, 0]

    def observe_stream(self, state, frame, seeds):
        layers, _ = self.predict_next(*state)
        return RolloutState(layers, self.patches(frame[:, None])[0])
