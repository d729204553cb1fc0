"""The one interface of all models."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from htsr.errors import InputError
from htsr.ops import noise as noise_lib

_CHUNK = 50  # frames predicted at once: no horizon is then too long for memory


class TrainingPass(NamedTuple):
    """What one optimiser step is taken on.

    Attributes:
        clip: the batch of clips.
        frozen: variables that the step leaves as they are, with their slots in the optimiser.
        arguments: further ones of ``loss_terms``.
    """

    clip: tf.Tensor
    frozen: Sequence[keras.Variable] = ()
    arguments: Mapping[str, Any] = {}


class VideoModel(keras.Model):
    """A predictor of video: a loss on clips for training, open-loop rollouts from a context for everything else.

    A model implements ``loss_terms``, ``start`` and ``advance`` (and ``total_loss`` where terms are not simply
    summed, ``training_passes`` where a batch is trained on more than once); training and rollouts are written once,
    here.

    Args:
        frame_shape: height, width and channels of a frame.

        dtype: ``float32`` or ``mixed_bfloat16``.

    Attributes:
        stochastic: whether a context has more than one future.
        min_context: frames that a context has at least.
    """

    stochastic = True
    min_context = 1

    def __init__(self, frame_shape: tuple[int, int, int], dtype: str = "float32", **kwargs):
        if dtype not in ("float32", "mixed_bfloat16"):
            raise InputError(f"dtype must be float32 or mixed_bfloat16, received {dtype!r}")
        super().__init__(dtype=dtype, **kwargs)
        self.frame_shape = tuple(frame_shape)
        if len(self.frame_shape) != 3 or min(self.frame_shape) < 1:
            raise InputError(f"frame_shape must be (height, width, channels), received {tuple(frame_shape)}")
        # Traced for any batch: graphs of one size are fused differently from others, and then a prediction's last bits
        # depend on how many there are.
        context = tf.TensorSpec([None, None, *self.frame_shape])
        scalars = [tf.TensorSpec([], dtype) for dtype in (tf.int32, tf.bool)]
        signature = [context, scalars[0], tf.TensorSpec([None], tf.int32), scalars[1]]
        self._start_graph = tf.function(self.start, input_signature=signature)
        self._advance_graph = tf.function(self.advance, reduce_retracing=True)

    @abstractmethod
    def loss_terms(self, clip: tf.Tensor, seed: tf.Tensor, step: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The raw terms of the loss.

        Args:
            clip: float32 ``(batch, time, height, width, channel)`` in [0, 1].
            seed: int32 scalar, another one at every training step.
            step: int32 scalar, the training steps done before this one; None outside of training.

        Returns:
            Named float32 ``(batch,)`` tensors; their unit is stated by the model.
        """

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        clip_norm: float | None = None,
        accumulate: int = 1,
        ema_decay: float | None = None,
        seed: int = 0,
        jit_compile: bool = False,
    ):
        """Prepare for ``fit`` on batches of clips.

        Args:
            optimizer: a Keras optimizer.
            clip_norm: the gradient's global norm is scaled down to this.
            accumulate: parts a batch is cut into and taken through one after the other, to save memory; the step
                taken is that of the whole batch, apart from its noise, terms that are not linear in the batch
                (``kl_balance``, ``free_nats``) and the order of summation.
            ema_decay: keep exponential moving averages of the weights in ``ema_variables``, apart from the weights.
            seed: of the noise; a step's noise is a function of (seed, step).
            jit_compile: compile the step with XLA; never chosen automatically (on a CPU, convolution gradients inside
                a loop become some 30 times slower).
        """
        super().compile(optimizer=optimizer, jit_compile=jit_compile)
        if clip_norm is not None and not clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, or null for none, received {clip_norm}")
        if accumulate < 1:
            raise InputError(f"accumulate must be at least 1, received {accumulate}")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, received {ema_decay}")
        self._clip_norm, self._accumulate, self._ema_decay, self._noise_seed = clip_norm, accumulate, ema_decay, seed
        optimizer.build(self.trainable_variables)
        self.ema_variables = [] if ema_decay is None else [tf.Variable(v.value) for v in self.trainable_variables]

    def training_passes(self, clip: tf.Tensor) -> tuple[TrainingPass, ...]:
        """What a training step makes of a batch: passes of one optimiser step each, in order."""
        return (TrainingPass(clip),)

    @property
    def frozen_in_passes(self) -> list[Sequence[keras.Variable]]:
        """The ``frozen`` variables of each of the ``training_passes``."""
        return [part.frozen for part in self.training_passes(tf.zeros([1, 2, *self.frame_shape]))]

    @property
    def num_passes(self) -> int:
        """How many ``training_passes`` there are: optimiser steps in a training step."""
        return len(self.frozen_in_passes)

    def train_step(self, clip: tf.Tensor) -> dict[str, tf.Tensor]:
        """One training step on a batch of clips: the loss, its terms and the gradient's norm, of this step alone, the
        mean over its passes."""
        step = tf.cast(self.optimizer.iterations, tf.int32) // self.num_passes
        logs = [self._optimizer_step(part, step) for part in self.training_passes(clip)]
        return {name: tf.add_n([log[name] for log in logs]) / len(logs) for name in logs[0]}

    def _optimizer_step(self, part: TrainingPass, step: tf.Tensor) -> dict[str, tf.Tensor]:
        frozen = {variable.path for variable in part.frozen}
        variables = [variable for variable in self.trainable_variables if variable.path not in frozen]
        seed = noise_lib.fold(self._noise_seed, step)
        loss, terms, grads = self._accumulated_gradients(part, variables, seed, step)
        norm = tf.linalg.global_norm(grads)
        if self._clip_norm is not None:
            grads, _ = tf.clip_by_global_norm(grads, self._clip_norm, use_norm=norm)
        # The average follows quickly at first, so that it does not remember the initial weights.
        done = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self._ema_decay or 0.0, (1.0 + done) / (10.0 + done))
        self.optimizer.apply(grads, variables)
        for average, variable in zip(self.ema_variables, self.trainable_variables, strict=False):
            average.assign(decay * average + (1.0 - decay) * variable)
        return {"loss": loss, **terms, "grad_norm": norm}

    def _accumulated_gradients(self, whole: TrainingPass, variables, seed, step):
        """Loss, terms and gradients, averaged over the parts of a batch."""
        parts, clip = self._accumulate, whole.clip
        if parts == 1:
            return self._gradients(whole, variables, seed, step)
        if clip.shape[0] is not None and clip.shape[0] % parts:
            raise InputError(
                f"a batch of {clip.shape[0]} clips cannot be cut into train.accumulate = {parts} equal parts"
            )
        clips = tf.reshape(clip, [parts, -1, *clip.shape[1:]])

        def gradients(i):
            return self._gradients(whole._replace(clip=clips[i]), variables, noise_lib.fold(seed, i), step)

        def add(i, total):
            return i + 1, tf.nest.map_structure(tf.add, total, gradients(i))

        loop = (tf.constant(1), gradients(0))
        _, total = tf.while_loop(lambda i, _: i < parts, add, loop, parallel_iterations=1)
        return tf.nest.map_structure(lambda x: x / parts, total)

    def _gradients(self, part: TrainingPass, variables, seed, step):
        with tf.GradientTape() as tape:
            terms = self.loss_terms(part.clip, seed, step, **part.arguments)
            terms = {name: tf.reduce_mean(term) for name, term in terms.items()}
            loss = self.total_loss(terms, part.clip.shape[1], step)
        values = [v.value for v in variables]
        return loss, terms, tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def total_loss(self, terms: dict[str, tf.Tensor], num_frames: int, step: tf.Tensor | None = None) -> tf.Tensor:
        """Combine terms, already averaged over the batch, to the scalar that is minimised.

        Args:
            terms: from ``loss_terms``, their means over the batch.
            num_frames: frames of a clip.
            step: as in ``loss_terms``.
        """
        del num_frames, step
        return tf.add_n(list(terms.values()))

    @abstractmethod
    def start(self, context: tf.Tensor, num_samples, seeds: tf.Tensor, stochastic: tf.Tensor) -> Any:
        """Read the context.

        Args:
            context: float32 ``(batch, time, height, width, channel)``, at least one frame.
            num_samples: futures of every clip.
            seeds: int32 ``(num_samples * batch,)``, one for every future, sample by sample.
            stochastic: bool scalar; False asks for means instead of samples.

        Returns:
            A nest of tensors, the state for ``advance``, with ``num_samples * batch`` rows.
        """

    @abstractmethod
    def advance(self, state: Any, length) -> tuple[Any, tf.Tensor]:
        """Predict the next ``length >= 1`` frames: the new state, ``(rows, length, height, width, channel)``."""

    def rollout_chunks(
        self,
        context,
        horizon: int,
        num_samples: int = 1,
        seed=0,
        noise: str = "sample",
        batched: bool = False,
        chunk: int = _CHUNK,
    ) -> Iterator[np.ndarray]:
        """``rollout`` in consecutive pieces of at most ``chunk`` frames, so that no horizon is too long for memory."""
        context = self._checked_context(context)
        if horizon < 1 or num_samples < 1 or chunk < 1:
            raise InputError(
                f"horizon, num_samples and chunk must be at least 1, received {horizon}, {num_samples}, {chunk}"
            )
        if noise not in ("sample", "mean"):
            raise InputError(f"noise must be 'sample' or 'mean', received {noise!r}")
        seeds = _future_seeds(tf.convert_to_tensor(np.asarray(seed, np.int32)), context, num_samples)
        stochastic = tf.constant(noise == "sample")
        if batched:
            states = [self._start_graph(context, tf.constant(num_samples), seeds, stochastic)]
        else:
            states = []
            for row in range(len(seeds)):
                clip = row % len(context)
                one = context[clip : clip + 1], tf.constant(1), seeds[row : row + 1], stochastic
                states.append(self._start_graph(*one))
        any_batch = tf.nest.map_structure(_any_rows, states[0])
        self._advance_graph.get_concrete_function(any_batch, tf.TensorSpec([], tf.int32))
        for begin in range(0, horizon, chunk):
            length, pieces = tf.constant(min(chunk, horizon - begin)), []
            for i, state in enumerate(states):
                states[i], frames = self._advance_graph(state, length)
                pieces.append(frames.numpy())
            yield np.concatenate(pieces).reshape(num_samples, -1, *pieces[0].shape[1:])

    def rollout(
        self, context, horizon: int, num_samples: int = 1, seed=0, noise: str = "sample", batched: bool = False
    ) -> np.ndarray:
        """Predict the frames after a context, without ever seeing them.

        Args:
            context: ``(batch, time, height, width, channel)`` in [0, 1], at least one frame.
            horizon: frames to predict.
            num_samples: futures per clip.
            seed: int, or one int per clip ``(batch,)``: with those, a clip's futures do not depend on its place in
                the batch.
            noise: ``"sample"``, or ``"mean"`` to take the mean in place of every sample.
            batched: False computes one future at a time, so that its bits are the same whatever else is predicted.
                True computes all together: faster where there are many, on a GPU above all, but kernels round
                differently for another number of them, and a recurrence can amplify that.

        Returns:
            float32 ``(num_samples, batch, horizon, height, width, channel)``, not clipped. The first ``k`` frames of a
            longer rollout are the rollout of ``k`` frames.

        Raises:
            InputError: for a context that is not such an array or an argument below 1.
        """
        return np.concatenate(list(self.rollout_chunks(context, horizon, num_samples, seed, noise, batched)), axis=2)

    # ---- frame by frame, for htsr.export.stream

    def start_stream(self, context: tf.Tensor, seeds: tf.Tensor) -> Any:
        """Read the context: the state for ``step_stream`` and ``observe_stream``.

        Args:
            context: as in ``start``.
            seeds: int32 ``(batch,)``; with those of ``start``, the frames that follow are those of ``advance``.

        Returns:
            A nest of tensors of constant size. The first one, and all that belong to single clips, have ``batch`` rows.
        """
        return self.start(context, 1, seeds, tf.constant(True))

    def step_stream(self, state: Any, seeds: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """Predict the next frame: the new state, ``(batch, height, width, channel)``."""
        del seeds
        state, frames = self.advance(state, 1)
        return state, frames[:, 0]

    @abstractmethod
    def observe_stream(self, state: Any, frame: tf.Tensor, seeds: tf.Tensor) -> Any:
        """Read a frame that has arrived, ``(batch, height, width, channel)``: the new state.

        From the state after a context it is that after the context with this frame.
        """

    @tf.function(reduce_retracing=True)
    def rollout_graph(self, context, horizon, num_samples, seed):
        """``rollout`` of samples as one graph with tensors for all arguments, for export."""
        seeds = _future_seeds(seed, context, num_samples)
        state = self.start(context, num_samples, seeds, tf.constant(True))
        pieces = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None, None, *self.frame_shape])

        def predict(index, state, pieces):
            state, frames = self.advance(state, tf.minimum(_CHUNK, horizon - index * _CHUNK))
            return index + 1, state, pieces.write(index, tf.transpose(frames, [1, 0, 2, 3, 4]))

        loop = (tf.constant(0), state, pieces)
        *_, pieces = tf.while_loop(lambda index, *_: index * _CHUNK < horizon, predict, loop, parallel_iterations=1)
        frames = tf.transpose(pieces.concat(), [1, 0, 2, 3, 4])
        shape = tf.concat([[num_samples, tf.shape(context)[0], horizon], self.frame_shape], 0)
        return tf.reshape(frames, shape)

    def _checked_context(self, context) -> tf.Tensor:
        shape = np.shape(context)
        if len(shape) != 5 or shape[2:] != self.frame_shape or 0 in shape:
            raise InputError(
                f"context must be (batch, time, {', '.join(map(str, self.frame_shape))}) with at least one clip and "
                f"one frame, received {tuple(shape)}"
            )
        context = tf.convert_to_tensor(context)
        if context.shape[1] < self.min_context:
            raise InputError(
                f"{self.name} reads at least {self.min_context} frames of context, received {context.shape[1]}; give "
                "it more, or choose another model"
            )
        if not context.dtype.is_floating:
            raise InputError(f"context must be floats in [0, 1], received {context.dtype.name}; divide bytes by 255")
        return tf.cast(context, tf.float32)


def _any_rows(x: tf.Tensor) -> tf.TensorSpec:
    """The form of a tensor of a state, whatever the number of rows."""
    return tf.TensorSpec([None, *x.shape[1:]] if x.shape.rank else [], x.dtype)


def _future_seeds(seed: tf.Tensor, context: tf.Tensor, num_samples) -> tf.Tensor:
    """One seed a future, sample by sample, of the clips' seeds: those given, or made of a single one."""
    clips = noise_lib.fold(seed, tf.range(tf.shape(context)[0])) if seed.shape.rank == 0 else seed
    return tf.reshape(noise_lib.fold(clips[None, :], tf.range(num_samples)[:, None]), [-1])
