"""What a training step is: gradients, accumulated over parts of a batch, clipped, applied, and averages of weights."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.ops import noise as noise_lib

if TYPE_CHECKING:
    from htsr.models.base import VideoModel


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


class TrainingStep:
    """One training step of a compiled model; ``VideoModel.compile`` explains the arguments.

    Attributes:
        ema_variables: the averages of the trainable variables, none without ``ema_decay``.
    """

    def __init__(
        self, model: "VideoModel", clip_norm: float | None, accumulate: int, ema_decay: float | None, seed: int
    ):
        if clip_norm is not None and not clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, or null for none, received {clip_norm}")
        require_int("accumulate", accumulate, 1)
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, received {ema_decay}")
        self._model, self._clip_norm, self._accumulate = model, clip_norm, accumulate
        self._ema_decay, self._seed = ema_decay, seed
        self.ema_variables = [] if ema_decay is None else [tf.Variable(v.value) for v in model.trainable_variables]
        self._gradients = tf.function(self._traced_gradients, autograph=False)

    def __call__(self, clip: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train on a batch: the loss, its terms and the gradient's norm, of this step alone, means over its passes."""
        step = tf.cast(self._model.optimizer.iterations, tf.int32) // self._model.num_passes
        logs = [self.take(part, step) for part in self._model.training_passes(clip)]
        return {name: tf.add_n([log[name] for log in logs]) / len(logs) for name in logs[0]}

    def take(self, part: TrainingPass, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take the optimiser step of one pass of a training step."""
        model, optimizer = self._model, self._model.optimizer
        loss, terms, grads = self._accumulated(part, noise_lib.fold(self._seed, step), step)
        norm = tf.linalg.global_norm(grads)
        if self._clip_norm is not None:
            grads, _ = tf.clip_by_global_norm(grads, self._clip_norm, use_norm=norm)
        trained = _trained(model, _paths(part.frozen))

        def apply():
            # The average follows quickly at first, so that it does not remember the initial weights.
            done = tf.cast(optimizer.iterations, tf.float32)
            decay = tf.minimum(self._ema_decay or 0.0, (1.0 + done) / (10.0 + done))
            optimizer.apply(grads, trained)
            for average, variable in zip(self.ema_variables, model.trainable_variables, strict=False):
                average.assign(decay * average + (1.0 - decay) * variable)
            return tf.constant(0)

        def skip():
            optimizer.iterations.assign(optimizer.iterations + 1)  # which batches and noise are functions of
            return tf.constant(0)

        tf.cond(tf.math.is_finite(loss) & tf.math.is_finite(norm), apply, skip)
        return {"loss": loss, **terms, "grad_norm": norm}

    def _accumulated(self, part: TrainingPass, seed, step):
        """Loss, terms and gradients, averaged over the parts of a batch."""
        count, clip, rest = self._accumulate, part.clip, (_paths(part.frozen), dict(part.arguments))
        if count == 1:
            return self._gradients(clip, seed, step, *rest)
        if clip.shape[0] is not None and clip.shape[0] % count:
            raise InputError(
                f"a batch of {clip.shape[0]} clips cannot be cut into train.accumulate = {count} equal parts"
            )
        clips = tf.reshape(clip, [count, -1, *clip.shape[1:]])

        def gradients_of(i):
            return self._gradients(clips[i], noise_lib.fold(seed, i), step, *rest)

        def add(i, total):
            return i + 1, tf.nest.map_structure(tf.add, total, gradients_of(i))

        loop = (tf.constant(1), gradients_of(tf.constant(0)))
        _, total = tf.while_loop(lambda i, _: i < count, add, loop, parallel_iterations=1)
        return tf.nest.map_structure(lambda x: x / count, total)

    def _traced_gradients(self, clip, seed, step, frozen: tuple[str, ...], arguments: dict[str, Any]):
        """Traced once for all passes and parts of a batch that differ in nothing but clips and seed."""
        return gradients(self._model, clip, _trained(self._model, frozen), seed, step, **arguments)


def gradients(model: "VideoModel", clip, variables: Sequence[keras.Variable], seed, step, **arguments):
    """Return the loss of a batch, its terms, and the gradients for ``variables``."""
    with tf.GradientTape() as tape:
        terms = model.loss_terms(clip, seed, step, **arguments)
        terms = {name: tf.reduce_mean(term) for name, term in terms.items()}
        loss = model.total_loss(terms, clip.shape[1], step)
    values = [v.value for v in variables]
    return loss, terms, tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _paths(variables: Sequence[keras.Variable]) -> tuple[str, ...]:
    return tuple(variable.path for variable in variables)


def _trained(model: "VideoModel", frozen: tuple[str, ...]) -> list[keras.Variable]:
    return [variable for variable in model.trainable_variables if variable.path not in frozen]
