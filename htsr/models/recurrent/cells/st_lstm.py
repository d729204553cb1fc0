"""The spatiotemporal LSTM of PredRNN."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import RecurrentCell
from htsr.layers.convolution import NormalisedConv


class STLSTMState(NamedTuple):
    """What ``STLSTMCell`` carries: each ``(batch, rows, columns, filters)``. ``memory`` is handed from layer to layer
    within a step, and from the last layer to the first one between steps."""

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor


class DecoupledSTLSTMState(NamedTuple):
    """An ``STLSTMState``, and what the step has added to cell and memory."""

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor
    added_to_cell: tf.Tensor
    added_to_memory: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class STLSTMCell(RecurrentCell):
    r"""One step of a spatiotemporal LSTM (Wang et al., "PredRNN", NeurIPS 2017; as OpenSTL builds it).

    .. math::
        [i, f, g, i', f', g', o] = W_x \star x, \quad [i, f, g, o] \mathrel{+}= W_h \star h, \quad
        [i', f', g'] \mathrel{+}= W_m \star m

        c' = \sigma(f + b) \circ c + \sigma(i) \circ \tanh(g), \qquad
        m' = \sigma(f' + b) \circ m + \sigma(i') \circ \tanh(g')

        h' = \sigma(o + W_o \star [c', m']) \circ \tanh(W_{1 \times 1} \star [c', m'])

    In a stack, replace ``memory`` of a layer's state by the memory that the layer below has just returned, and for the
    first layer by the last layer's of the step before ("zig-zag").

    Args:
        filters: channels of the states.
        kernel_size: of all convolutions but the 1x1 one, odd.
        forget_bias: b above.
        layer_norm: normalise the convolutions, the 1x1 one excepted.
        decoupled: states are ``DecoupledSTLSTMState``, for the decoupling loss of PredRNN-V2.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``STLSTMState``.

    Returns:
        The output, which is the new hidden state, and the new ``STLSTMState``.

    Example:
        >>> import numpy as np
        >>> cell, x = STLSTMCell(16, 3), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.memory.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    handed = ("memory",)

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        forget_bias: float = 1.0,
        layer_norm: bool = False,
        decoupled: bool = False,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.forget_bias, self.decoupled = forget_bias, decoupled
        self.state_type = DecoupledSTLSTMState if decoupled else STLSTMState
        self.inputs_conv, self.hidden_conv = self.conv(7, "inputs_conv"), self.conv(4, "hidden_conv")
        self.memory_conv, self.output_conv = self.conv(3, "memory_conv"), self.conv(1, "output_conv")
        self.join = NormalisedConv(filters, 1, False, name="join", dtype=self.dtype_policy)

    def build(self, inputs_shape):
        state = (*inputs_shape[:-1], self.filters)
        self.inputs_conv.build(inputs_shape)
        self.hidden_conv.build(state)
        self.memory_conv.build(state)
        for layer in (self.output_conv, self.join):
            layer.build((*inputs_shape[:-1], 2 * self.filters))

    def call(self, inputs, states):
        states, _ = self.gated(inputs, self.state_type(*states))
        return states.hidden, states

    def gated(self, inputs, states):
        """The new states, and the output gate, for cells that also gate something else by it."""
        size = self.filters
        x, x_memory, x_output = tf.split(self.inputs_conv(inputs), [3 * size, 3 * size, size], -1)
        h, h_output = tf.split(self.hidden_conv(states.hidden), [3 * size, size], -1)
        cell, *added = self._updated(states.cell, x + h)
        memory, *added_to_memory = self._updated(states.memory, x_memory + self.memory_conv(states.memory))
        both = tf.concat([cell, memory], -1)
        gate = tf.sigmoid(x_output + h_output + self.output_conv(both))
        return self.state_type(gate * tf.tanh(self.join(both)), cell, memory, *added, *added_to_memory), gate

    def _updated(self, state, gates):
        """A new state, and what was added to it where that is wanted."""
        i, f, g = tf.split(gates, 3, -1)
        added = tf.sigmoid(i) * tf.tanh(g)
        new = tf.sigmoid(f + self.forget_bias) * state + added
        return (new, added) if self.decoupled else (new,)
