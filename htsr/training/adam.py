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

    def apply(self, grads, trainable_variables=None):
        """Update variables by their gradients, as Keras does; what all of them share is computed once."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        if not self.built:
            self.build(variables)
        rate, powers = tf.convert_to_tensor(self.learning_rate), {}
        for gradient, variable in zip(grads, variables, strict=True):
            if self.weight_decay:
                variable.assign_sub(variable * self.weight_decay * rate)
            self._update(gradient, variable, rate, powers)
        self.iterations.assign_add(1)

    def update_step(self, gradient, variable, learning_rate):
        self._update(gradient, variable, learning_rate, {})

    def _update(self, gradient, variable, rate, powers: dict):
        index = self._get_variable_index(variable)
        updates = tuple(self._updates[index])
        if updates not in powers:
            powers[updates] = self._powers(updates)
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            lr=rate,
            epsilon=self.epsilon,
            grad=gradient,
            **powers[updates],
        )

    def _powers(self, updates: tuple[bool, ...]) -> dict[str, tf.Tensor]:
        """Return the moments' decay, and to the power of the updates of a variable, the present one too."""
        now = tf.convert_to_tensor(self.iterations)
        count = now + 1
        if not all(updates):
            before = tf.cumsum(tf.cast(updates, now.dtype))
            count = now // len(updates) * sum(updates) + tf.gather(before, now % len(updates))
        count = tf.cast(count, tf.float32)
        beta1, beta2 = tf.convert_to_tensor(self.beta_1), tf.constant(self.beta_2)
        return {"beta1": beta1, "beta2": beta2, "beta1_power": beta1**count, "beta2_power": beta2**count}
