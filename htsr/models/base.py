"""The one interface of all models."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from htsr.errors import InputError
from htsr.models.rollout import CHUNK, Rollout
from htsr.models.training_step import TrainingPass, TrainingStep


class VideoModel(keras.Model):
    """A predictor of video: a loss on clips for training, open-loop rollouts from a context for everything else.

    A model implements ``loss_terms``, ``start`` and ``advance``; ``total_loss`` where terms are not simply summed,
    ``training_passes`` where a batch is trained on more than once, ``observe_stream`` where it can go on with frames
    that arrive. A model that maps frames to a block of frames is a ``BlockPredictor``, one that steps from frame to
    frame a ``NextFramePredictor``.

    Args:
        frame_shape: height, width and channels of a frame.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.

    Attributes:
        stochastic: whether a context has more than one future.
        min_context: frames that a context has at least.
        exports: other formats that hold the model: ``"tflite"``, ``"onnx"``.
        has_latents: whether the model has levels of latents with priors and posteriors, as HTSR does.
        training_step: what ``train_step`` does, once the model is compiled.
    """

    stochastic = True
    min_context = 1
    exports: frozenset[str] = frozenset()
    has_latents = False

    def __init__(self, frame_shape: tuple[int, int, int], dtype: str = "float32", **kwargs):
        if dtype not in ("float32", "mixed_bfloat16", "mixed_float16"):
            raise InputError(f"dtype must be float32, mixed_bfloat16 or mixed_float16, received {dtype!r}")
        super().__init__(dtype=dtype, **kwargs)
        self.frame_shape = tuple(frame_shape)
        if len(self.frame_shape) != 3 or min(self.frame_shape) < 1:
            raise InputError(f"frame_shape must be (height, width, channels), received {tuple(frame_shape)}")
        self._rollout = Rollout(self)

    # ---- training

    @abstractmethod
    def loss_terms(self, clip: tf.Tensor, seed: tf.Tensor, step: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Return the raw terms of the loss.

        Args:
            clip: float32 ``(batch, time, height, width, channel)`` in [0, 1]; under a ``tf.distribute`` strategy the
                replica's part of the batch.
            seed: int32 scalar, another one at every training step.
            step: int32 scalar, the training steps done before this one; None outside of training.

        Returns:
            Named float32 ``(batch,)`` tensors; their unit is stated by the model.
        """

    def total_loss(self, terms: dict[str, tf.Tensor], num_frames: int, step: tf.Tensor | None = None) -> tf.Tensor:
        """Combine terms, already averaged over the batch, to the scalar that is minimised.

        Args:
            terms: from ``loss_terms``, their means over the batch.
            num_frames: frames of a clip.
            step: as in ``loss_terms``.
        """
        del num_frames, step
        return tf.add_n(list(terms.values()))

    def training_passes(self, clip: tf.Tensor) -> tuple[TrainingPass, ...]:
        """Return what a training step makes of a batch: passes of one optimiser step each, in order."""
        return (TrainingPass(clip),)

    @property
    def frozen_in_passes(self) -> list[Sequence[keras.Variable]]:
        """The ``frozen`` variables of each of the ``training_passes``."""
        return [part.frozen for part in self.training_passes(tf.zeros([1, 2, *self.frame_shape]))]

    @property
    def num_passes(self) -> int:
        """How many ``training_passes`` there are: optimiser steps in a training step."""
        return len(self.frozen_in_passes)

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        clip_norm: float | None = None,
        accumulate: int = 1,
        ema_decay: float | None = None,
        seed: int = 0,
        jit_compile: bool = False,
        recompute: int | None = None,
    ):
        """Prepare for ``fit`` on batches of clips.

        Args:
            optimizer: a Keras optimizer.
            clip_norm: the gradient's global norm is scaled down to this.
            accumulate: parts a batch is cut into and taken through one after the other, to save memory; the step
                taken is that of the whole batch, apart from its noise, terms that are not linear in the batch
                (``kl_balance``, ``free_nats``) and the order of summation.
            ema_decay: keep exponential moving averages of the weights in ``training_step.ema_variables``, apart from
                the weights.
            seed: of the noise; a step's noise is a function of (seed, step).
            jit_compile: compile the step with XLA; never chosen automatically (on a CPU, convolution gradients inside
                a loop become some 30 times slower).
            recompute: frames of a segment. Of a recurrence over time only its states between segments are kept, and a
                segment is computed again when its gradient is taken: the same step, in less memory and more time. None
                keeps all that gradients need.
        """
        # The training step scales the loss itself.
        super().compile(optimizer=optimizer, jit_compile=jit_compile, auto_scale_loss=False)
        self.training_step = TrainingStep(self, clip_norm, accumulate, ema_decay, seed, recompute)
        optimizer.build(self.trainable_variables)

    @tf.autograph.experimental.do_not_convert  # models write their loops themselves, and tracing is faster
    def train_step(self, clip: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take one training step on a batch of clips, bytes or floats in [0, 1]: the loss, its terms and the gradient's
        norm before clipping."""
        return self.training_step(clip)

    # ---- rollouts

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
        self, context, horizon: int, num_samples: int = 1, seed=0, noise="sample", rows: int | None = None, chunk=CHUNK
    ) -> Iterator[np.ndarray]:
        """Yield ``rollout`` in consecutive pieces of at most ``chunk`` frames: no horizon is too long for memory."""
        return self._rollout.chunks(context, horizon, num_samples, seed, noise, rows, chunk)

    def rollout(
        self, context, horizon: int, num_samples: int = 1, seed=0, noise: str = "sample", rows: int | None = None
    ) -> np.ndarray:
        """Predict the frames after a context, without ever seeing them.

        Args:
            context: ``(batch, time, height, width, channel)`` in [0, 1], at least one frame.
            horizon: frames to predict.
            num_samples: futures per clip.
            seed: int, or one int per clip ``(batch,)``: with those, a clip's futures do not depend on its place in
                the batch.
            noise: ``"sample"``, or ``"mean"`` to take the mean in place of every sample.
            rows: futures that are computed together, the last group filled up, so that a prediction's bits depend on
                ``rows`` and never on what else is predicted. None computes all together: fastest, but kernels round
                differently for another number of them, and a recurrence can amplify that.

        Returns:
            float32 ``(num_samples, batch, horizon, height, width, channel)``, not clipped. The first ``k`` frames of a
            longer rollout are the rollout of ``k`` frames.

        Raises:
            InputError: for a context that is not such an array or an argument below 1.
        """
        return np.concatenate(list(self.rollout_chunks(context, horizon, num_samples, seed, noise, rows)), axis=2)

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

    def observe_stream(self, state: Any, frame: tf.Tensor, seeds: tf.Tensor) -> Any:
        """Read a frame that has arrived, ``(batch, height, width, channel)``: the new state.

        From the state after a context it is that after the context with this frame.

        Raises:
            InputError: the model does not implement it.
        """
        raise InputError(f"{self.name} cannot go on with a frame that has arrived; start anew from a longer context")


def filled_up(context: tf.Tensor, length: int) -> tf.Tensor:
    """Return a context of at least ``length`` frames: a shorter one begins with its first frame, over and over."""
    missing = tf.maximum(length - tf.shape(context)[1], 0)
    return tf.concat([tf.repeat(context[:, :1], missing, 1), context], 1)
