"""What a training step is: gradients, accumulated over parts of a batch, clipped, applied, and averages of weights.

Under a ``tf.distribute`` strategy each replica has an equal part of the batch. Gradients and logs are averaged over the
replicas, then clipped; so a step is that of the whole batch on however many replicas, up to the order of summation.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.layers.batch_norm import BatchNorm
from htsr.ops import noise as noise_lib
from htsr.ops.recompute import recomputing

if TYPE_CHECKING:
    from htsr.models.base import VideoModel

# A division by 255 on the device would be rounded otherwise: graphs multiply by the reciprocal.
_FLOATS = np.arange(256, dtype=np.float32) / np.float32(255)
_PATIENCE = 2000  # steps


class TrainingPass(NamedTuple):
    """What one optimiser step is taken on.

    Attributes:
        clip: the batch of clips.
        frozen: variables that the step leaves as they are, with their slots in the optimiser.
        arguments: further ones of ``loss_terms``, the same for all parts of a batch.
    """

    clip: tf.Tensor
    frozen: Sequence[keras.Variable] = ()
    arguments: Mapping[str, Any] = {}


class LossScale:
    """What the loss is multiplied by before its gradient is taken, and the gradient divided by, since float16 has no
    numbers between 0 and 6e-8 (Micikevicius et al., "Mixed precision training", arXiv 1710.03740).

    It is halved where a gradient overflows, in a step that is skipped, and doubled after `_PATIENCE` steps without.

    Attributes:
        factor: float32 scalar, from 1 on.
        steps: int32 scalar, how many there were since it changed.
    """

    def __init__(self):
        self.factor, self.steps = tf.Variable(2.0**15), tf.Variable(0)

    def update(self, finite) -> None:
        """Take note of a step, whose gradient was ``finite`` or not."""
        steps = tf.where(finite, self.steps + 1, 0)
        grown = steps == _PATIENCE
        factor = tf.where(finite, self.factor, self.factor / 2.0) * tf.where(grown, 2.0, 1.0)
        self.factor.assign(tf.clip_by_value(factor, 1.0, 2.0**24))
        self.steps.assign(tf.where(grown, 0, steps))


class TrainingStep:
    """One training step of a compiled model; ``VideoModel.compile`` explains the arguments.

    Attributes:
        distributed: whether the model is one of a ``tf.distribute`` strategy, be it of a single replica.
        ema_variables: the averages of the trainable variables, none without ``ema_decay``.
        loss_scale: of a model that computes in float16, else None.
    """

    def __init__(
        self,
        model: "VideoModel",
        clip_norm: float | None,
        accumulate: int,
        ema_decay: float | None,
        seed: int,
        recompute: int | None,
    ):
        if clip_norm is not None and not clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, or null for none, received {clip_norm}")
        require_int("accumulate", accumulate, 1)
        if recompute is not None:
            require_int("recompute", recompute, 1)
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, received {ema_decay}")
        replicas = model.distribute_strategy.num_replicas_in_sync
        with model.distribute_strategy.scope():
            self.distributed = tf.distribute.has_strategy()
        # A function inside that of a step (a part of a batch, or what XLA compiles) cannot reduce over replicas.
        nested = accumulate > 1 or model.jit_compile
        if replicas > 1 and nested and any(isinstance(x, BatchNorm) for x in model._flatten_layers()):
            raise InputError(
                f"batch normalisation needs the whole batch of {replicas} replicas at once, but train.accumulate "
                f"is {accumulate} and train.jit_compile {model.jit_compile}; set them to 1 and false"
            )
        self._model, self._clip_norm, self._accumulate = model, clip_norm, accumulate
        self._ema_decay, self._seed, self._recompute = ema_decay, seed, recompute
        averaged = [] if ema_decay is None else model.trainable_variables
        self.ema_variables = [tf.Variable(tf.convert_to_tensor(variable.value)) for variable in averaged]
        self.loss_scale = LossScale() if model.compute_dtype == "float16" else None
        self._gradients = self._gradients_of
        if not self.distributed or model.jit_compile:
            self._gradients = tf.function(
                self._gradients_of, autograph=False, jit_compile=self.distributed and model.jit_compile
            )

    def __call__(self, clip: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train on a batch: the loss, its terms and the gradient's norm, of this step alone, means over its passes."""
        step = tf.cast(self._model.optimizer.iterations, tf.int32) // self._model.num_passes
        frames = tf.gather(_FLOATS, tf.cast(clip, tf.int32)) if clip.dtype == tf.uint8 else clip
        logs = [self.take(part, step) for part in self._model.training_passes(frames)]
        return {name: tf.add_n([log[name] for log in logs]) / len(logs) for name in logs[0]}

    def take(self, part: TrainingPass, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take the optimiser step of one pass of a training step."""
        scale = {} if self.loss_scale is None else {"loss_scale": self.loss_scale.factor.read_value()}
        loss, terms, grads = self._accumulated(part, noise_lib.fold(self._seed, step), step)
        if self.distributed:
            loss, terms, grads = tf.distribute.get_replica_context().all_reduce("MEAN", (loss, terms, grads))
        norm = tf.linalg.global_norm(grads)
        if self._clip_norm is not None:
            grads, _ = tf.clip_by_global_norm(grads, self._clip_norm, use_norm=norm)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        if self.distributed:
            tf.distribute.get_replica_context().merge_call(self._update, (finite, grads, _paths(part.frozen)))
        else:
            self._update(tf.distribute.get_strategy(), finite, grads, _paths(part.frozen))
        return {"loss": loss, **terms, "grad_norm": norm, **scale}

    def _update(self, strategy, finite, grads, frozen) -> None:
        """Apply gradients that are finite; on all replicas together, each of which has the same ones."""
        model, optimizer = self._model, self._model.optimizer

        def apply():
            # The average follows quickly at first, so that it does not remember the initial weights.
            done = tf.cast(optimizer.iterations, tf.float32)
            decay = tf.minimum(self._ema_decay or 0.0, (1.0 + done) / (10.0 + done))
            trained = _trained(model, frozen)
            if self.distributed:
                _apply_to_replicas(optimizer, strategy, grads, trained)
            else:
                optimizer.apply(grads, trained)
            for average, variable in zip(self.ema_variables, model.trainable_variables, strict=False):
                average.assign(decay * average + (1.0 - decay) * variable)
            return tf.constant(0)

        def skip():
            optimizer.iterations.assign(optimizer.iterations + 1)  # which batches and noise are functions of
            return tf.constant(0)

        finite = strategy.experimental_local_results(finite)[0]
        tf.cond(finite, apply, skip)
        if self.loss_scale is not None:
            self.loss_scale.update(finite)

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

    def _gradients_of(self, clip, seed, step, frozen: tuple[str, ...], arguments: dict[str, Any]):
        """Traced once for all passes and parts of a batch that differ in nothing but clips and seed."""
        scale = None if self.loss_scale is None else self.loss_scale.factor
        with recomputing(self._recompute):
            return gradients(self._model, clip, _trained(self._model, frozen), seed, step, scale, **arguments)


def gradients(model: "VideoModel", clip, variables: Sequence[keras.Variable], seed, step, scale=None, **arguments):
    """Return the loss of a batch, its terms, and the gradients for ``variables``; ``scale`` is the factor that these
    have while they are computed, None for none."""
    with tf.GradientTape() as tape:
        terms = model.loss_terms(clip, seed, step, **arguments)
        terms = {name: tf.reduce_mean(term) for name, term in terms.items()}
        loss = model.total_loss(terms, clip.shape[1], step)
        scaled = loss if scale is None else scale * loss
    values = [v.value for v in variables]
    grads = tape.gradient(scaled, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return loss, terms, grads if scale is None else [grad / scale for grad in grads]


def _paths(variables: Sequence[keras.Variable]) -> tuple[str, ...]:
    return tuple(variable.path for variable in variables)


def _trained(model: "VideoModel", frozen: tuple[str, ...]) -> list[keras.Variable]:
    return [variable for variable in model.trainable_variables if variable.path not in frozen]


def _apply_to_replicas(optimizer: keras.optimizers.Optimizer, strategy, grads, variables) -> None:
    """``optimizer.apply`` of gradients that all replicas share, which Keras would add up over them once more.

    What Keras's optimisers do to gradients beside weight decay (``clipnorm``, ``use_ema``, loss scaling) is left out.
    """
    rate = optimizer.learning_rate

    def update(variable, gradient):
        if optimizer.weight_decay:
            variable.assign_sub(variable * tf.cast(optimizer.weight_decay * rate, variable.dtype))
        optimizer.update_step(gradient, variable, rate)

    for gradient, variable in zip(grads, variables, strict=True):
        strategy.extended.update(variable.value, update, (gradient,), group=False)
    optimizer.iterations.assign_add(1)
