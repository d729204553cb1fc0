"""Adam for models whose passes leave some variables alone."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras's Adam, whose bias correction counts the updates of each variable, as PyTorch's does.

    Keras counts those of the optimiser. A variable that is updated in one of two passes would be taken to have twice
    as many, and at first move up to 1.4 times as far.

    Args:
        learning_rate: a number or a schedule.
        frozen: for each pass of a training step, the variables that it leaves alone.
        **kwargs: those of ``keras.optimizers.Adam``.
    """

    def __init__(self, learning_rate, frozen: Sequence[Sequence[keras.Variable]] = ((),), **kwargs):
        super().__init__(learning_rate, **kwargs)
        self._frozen = [{variable.path for variable in variables} for variables in frozen]  # else they were its slots

    def build(self, variables):
        super().build(variables)
        # In which passes each variable is updated.
        self._updates = [[variable.path not in frozen for frozen in self._frozen] for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        updates = self._updates[self._get_variable_index(variable)]
        if not all(updates):
            steps, index = self.iterations // len(updates), self.iterations % len(updates)
            own = steps * sum(updates) + tf.gather(tf.cumsum(tf.cast(updates, self.iterations.dtype)), index)
            learning_rate = learning_rate * self._correction(own) / self._correction(self.iterations + 1)
        super().update_step(gradient, variable, learning_rate)

    def _correction(self, count):
        """What makes up for moments that began at zero (Kingma & Ba, arXiv 1412.6980, Section 3)."""
        count = tf.cast(count, tf.float32)
        return tf.sqrt(1.0 - tf.pow(self.beta_2, count)) / (1.0 - tf.pow(self.beta_1, count))
