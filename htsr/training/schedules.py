"""Learning rates over the steps; the one-cycle schedule moves Adam's first moment, too."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.training.adam import Adam


def learning_rate(peak: float, warmup_steps: int, schedule: str, steps: int, num_passes: int) -> Any:
    """Return a number, or a schedule over optimiser steps, of which a training step is ``num_passes``."""
    if not peak > 0:
        raise InputError(f"train.learning_rate must be above 0, received {peak}")
    if not 0 <= warmup_steps < steps:
        raise InputError(
            f"train.warmup_steps must lie in 0..{steps - 1}, received {warmup_steps}: add --set train.warmup_steps="
            f"{steps // 10}, or raise train.steps"
        )
    if schedule == "onecycle":
        if warmup_steps:
            raise InputError(
                "train.warmup_steps must be 0 with schedule onecycle, which warms up by itself, "
                f"received {warmup_steps}"
            )
        return OneCycle(peak, steps * num_passes)
    if schedule == "constant" and not warmup_steps:
        return peak
    # Keras counts decay_steps after the warm-up; alpha is the fraction left at the end.
    alpha = 1.0 if schedule == "constant" else 0.0
    warmup, decay = warmup_steps * num_passes, (steps - warmup_steps) * num_passes
    if warmup:
        return keras.optimizers.schedules.CosineDecay(0.0, decay, alpha=alpha, warmup_target=peak, warmup_steps=warmup)
    return keras.optimizers.schedules.CosineDecay(peak, decay, alpha=alpha)


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from ``peak / 25`` over the first 30 % of the steps, then falls to ``peak / 250000``, each along a cosine.

    Smith & Topin, "Super-convergence" (arXiv 1708.07120), with the two phases and the numbers of PyTorch's
    ``OneCycleLR``. While the rate rises, Adam's ``beta_1`` falls from 0.95 to 0.85, and the other way round.

    Args:
        peak: highest learning rate.
        steps: optimiser steps in all.
    """

    def __init__(self, peak: float, steps: int):
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        return self._between(step, self.peak / 25, self.peak, self.peak / 250_000)

    def beta_1(self, step):
        return self._between(step, 0.95, 0.85, 0.95)

    def _between(self, step, first, middle, last):
        step = tf.cast(step, tf.float32)
        top = max(0.3 * self.steps - 1.0, 1.0)  # counted from 0, as the last step is
        end = max(self.steps - 1.0, top + 1.0)
        rising = _cosine(first, middle, step / top)
        return tf.where(step <= top, rising, _cosine(middle, last, (step - top) / (end - top)))

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


class OneCycleAdam(Adam):
    """Adam whose learning rate and ``beta_1`` are those of a ``OneCycle`` at every step."""

    def __init__(self, schedule: OneCycle, frozen: Sequence[Sequence[keras.Variable]] = ((),), **kwargs):
        super().__init__(schedule, frozen, **kwargs)
        self._one_cycle = schedule

    @property
    def beta_1(self):
        return self._one_cycle.beta_1(self.iterations)

    @beta_1.setter
    def beta_1(self, value):
        """Adam's constructor sets a constant; the schedule stands."""


def _cosine(start, end, share):
    return end + 0.5 * (start - end) * (1.0 + tf.cos(math.pi * tf.minimum(share, 1.0)))
