"""The causal LSTM of PredRNN++, with its gradient highway."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import RecurrentCell, lstm_update, zero_state
from htsr.layers.convolution import MapNormalisation, NormalisedConv, conv


class CausalLSTMState(NamedTuple):
    """What ``CausalLSTMCell`` carries: maps ``(batch, rows, columns, filters)``.

    ``memory`` is handed from layer to layer as in ``STLSTMState``; ``gradients`` is the state of the gradient highway,
    () in a layer without one.
    """

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor
    gradients: tf.Tensor | tuple[()]


@keras.saving.register_keras_serializable("htsr")
class CausalLSTMCell(RecurrentCell):
    r"""One step of a causal LSTM (Wang et al., "PredRNN++", arXiv 1804.06300, Eqs. 2-3; as OpenSTL builds it).

    .. math::
        [i, f, g, i', f', g', o] = W_x \star x, \quad [i, f, g, o] \mathrel{+}= W_h \star h, \quad
        [i, f, g] \mathrel{+}= W_c \star c

        c' = \sigma(f + b) \circ c + \sigma(i) \circ \tanh(g)

        [i', f', \mu] \mathrel{+}= W_m \star m, \quad [i', g', f', o] \mathrel{+}= W_{c'} \star c'

        m' = \sigma(f' + b) \circ \tanh(\mu) + \sigma(i') \circ \tanh(g')

        h' = \tanh(o + W_{m'} \star m') \circ \tanh(W_{1 \times 1} \star [c', m'])

    With ``highway`` the cell's input is the new state of a ``GradientHighway`` of it.

    Deviation: with ``layer_norm`` OpenSTL's gradient highway cannot run; here both of its convolutions are normalised.

    Args:
        filters: channels of the states.
        kernel_size: of all convolutions but the 1x1 one, odd.
        forget_bias: b above.
        layer_norm: normalise the convolutions, the 1x1 one excepted.
        highway: whether the input passes a gradient highway: in the second layer of a stack.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``CausalLSTMState``.

    Returns:
        The output, which is the new hidden state, and the new ``CausalLSTMState``.

    Example:
        >>> import numpy as np
        >>> cell, x = CausalLSTMCell(16, 3, highway=True), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.gradients.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    state_type = CausalLSTMState
    handed = ("memory",)

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        forget_bias: float = 1.0,
        layer_norm: bool = False,
        highway: bool = False,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.forget_bias, self.highway = forget_bias, highway
        self.inputs_conv, self.hidden_conv = self.conv(7, "inputs_conv"), self.conv(4, "hidden_conv")
        self.cell_conv, self.memory_conv = self.conv(3, "cell_conv"), self.conv(3, "memory_conv")
        self.new_cell_conv, self.new_memory_conv = self.conv(4, "new_cell_conv"), self.conv(1, "new_memory_conv")
        self.join = NormalisedConv(filters, 1, False, name="join", dtype=self.dtype_policy)
        if highway:
            self.gradient_highway = GradientHighway(
                filters, kernel_size, layer_norm, name="gradient_highway", dtype=self.dtype_policy
            )

    def build(self, inputs_shape, states_shape=None):
        state = (*inputs_shape[:-1], self.filters)
        if self.highway:
            self.gradient_highway.build(inputs_shape)
        self.inputs_conv.build(state if self.highway else inputs_shape)
        for layer in (self.hidden_conv, self.cell_conv, self.memory_conv, self.new_cell_conv, self.new_memory_conv):
            layer.build(state)
        self.join.build((*inputs_shape[:-1], 2 * self.filters))

    def initial_state(self, inputs) -> CausalLSTMState:
        """Zeros for inputs of this shape."""
        zeros = zero_state(CausalLSTMState, inputs, self.filters)
        return zeros if self.highway else zeros._replace(gradients=())

    def call(self, inputs, states):
        hidden, cell, memory, gradients = states
        if self.highway:
            inputs = gradients = self.gradient_highway(inputs, gradients)
        size = [3 * self.filters] * 2 + [self.filters]
        x, x_memory, x_output = tf.split(self.inputs_conv(inputs), size, -1)
        h, h_output = tf.split(self.hidden_conv(hidden), size[1:], -1)
        i, f, g = tf.split(x + h + self.cell_conv(cell), 3, -1)
        cell = lstm_update(cell, i, f + self.forget_bias, g)
        i, f, g = tf.split(x_memory, 3, -1)
        i_memory, f_memory, kept = tf.split(self.memory_conv(memory), 3, -1)
        i_cell, g_cell, f_cell, c_output = tf.split(self.new_cell_conv(cell), 4, -1)
        memory = lstm_update(tf.tanh(kept), i + i_memory + i_cell, f + f_memory + f_cell + self.forget_bias, g + g_cell)
        gate = tf.tanh(x_output + h_output + c_output + self.new_memory_conv(memory))
        hidden = gate * tf.tanh(self.join(tf.concat([cell, memory], -1)))
        return hidden, CausalLSTMState(hidden, cell, memory, gradients)


@keras.saving.register_keras_serializable("htsr")
class GradientHighway(keras.layers.Layer):
    r"""The gradient highway unit of PredRNN++ (arXiv 1804.06300, Eq. 4), on which gradients pass many steps.

    .. math::
        [p, u] = W_x \star x + W_z \star z, \qquad z' = \sigma(u) \circ \tanh(p) + (1 - \sigma(u)) \circ z

    Args:
        filters: channels of the state.
        kernel_size: of both convolutions, odd.
        layer_norm: normalise them.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        state: z, ``(batch, rows, columns, filters)``.

    Returns:
        The new state.
    """

    def __init__(self, filters: int, kernel_size: int = 5, layer_norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.filters, policy = filters, self.dtype_policy
        start = keras.initializers.RandomUniform(-0.001, 0.001)
        self.convs = [
            conv(2 * filters, kernel_size, False, name, policy, start=start) for name in ("inputs_conv", "state_conv")
        ]
        names = ("inputs_norm", "state_norm") if layer_norm else ()
        self.norms = [MapNormalisation(name=name, dtype=policy) for name in names]

    def build(self, inputs_shape, state_shape=None):
        self.convs[0].build(inputs_shape)
        self.convs[1].build((*inputs_shape[:-1], self.filters))
        for norm in self.norms:
            norm.build((*inputs_shape[:-1], 2 * self.filters))

    def call(self, inputs, state):
        parts = [layer(x) for layer, x in zip(self.convs, (inputs, state), strict=True)]
        parts = [norm(x) for norm, x in zip(self.norms, parts, strict=True)] if self.norms else parts
        p, u = tf.split(tf.add_n(parts), 2, -1)
        u = tf.sigmoid(u)
        return u * tf.tanh(p) + (1.0 - u) * state
