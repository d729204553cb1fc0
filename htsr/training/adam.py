"""Adam for models whose passes leave some variables alone."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras's Adam, whose bias correction counts the updates of each variable, as PyTorch's does.

    Keras counts those of the optimiser. A variable that is updated in one of two passes would be taken to have twice
    as many, and at first move up to 1.4 times as far. The update is TensorFlow's one operation instead of Keras's
    thirty, which makes a training begin sooner.

    Args:
        learning_rate: a number or a schedule.
        frozen: for each pass of a training step, the variables that it leaves alone.
        epsilon: added to the root of the second moment.
        weight_decay: share of each variable that is taken off, times the learning rate; None for none.
        name: of the optimiser.
    """

    def __init__(
        self,
        learning_rate,
        frozen: Sequence[Sequence[keras.Variable]] = ((),),
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        name: str = "adam",
    ):
        super().__init__(learning_rate, epsilon=epsilon, weight_decay=weight_decay, name=name)
        self._frozen = [{variable.path for variable in variables} for variables in frozen]  # else they were its slots

    def build(self, variables):
        super().build(variables)
        # In which passes each variable is updated.
        self._updates = [[variable.path not in frozen for frozen in self._frozen] for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        updates, now = self._updates[index], tf.convert_to_tensor(self.iterations)
        count = now + 1  # updates of this variable, this one too
        if not all(updates):
            before = tf.cumsum(tf.cast(updates, now.dtype))
            count = now // len(updates) * sum(updates) + tf.gather(before, now % len(updates))
        count = tf.cast(count, tf.float32)
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, count),
            beta2_power=tf.pow(self.beta_2, count),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
