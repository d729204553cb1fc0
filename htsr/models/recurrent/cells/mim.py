"""Memory in memory: cells that model how the hidden state below them changes."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import RecurrentCell, lstm_update, zero_state
from htsr.layers.convolution import NormalisedConv
from htsr.models.recurrent.cells.st_lstm import STLSTMCell, STLSTMState


class MIMState(NamedTuple):
    """What ``MIMCell`` carries: maps ``(batch, rows, columns, filters)``.

    ``memory`` and ``difference`` are handed from layer to layer; the first layer makes the difference. ``trend`` is the
    memory in the memory, ``change`` and ``change_cell`` are the states of the LSTM of differences: () in the first
    layer. ``begun``, ``(batch, 1, 1, 1)``, is 0 before the first step, 1 after it.
    """

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor
    difference: tf.Tensor
    begun: tf.Tensor
    trend: tf.Tensor | tuple[()] = ()
    change: tf.Tensor | tuple[()] = ()
    change_cell: tf.Tensor | tuple[()] = ()


@keras.saving.register_keras_serializable("htsr")
class MIMCell(RecurrentCell):
    r"""One step of a layer of MIM (Wang et al., "Memory in memory", arXiv 1811.07490; as OpenSTL builds it).

    The first layer is an ``STLSTMCell``, which hands on how its hidden state has changed since the last step, 0 in the
    first one. In each further layer a ``PeepholeLSTM`` (MIM-N) makes d of that difference, and hands it on; a second
    one (MIM-S) makes of d and the cell c what takes the place of the forgotten cell:

    .. math::
        [i, g, f', o] = W_x \star x, \quad [i, g, o] \mathrel{+}= W_h \star h, \quad
        [i, g, f', o]_m = [i, g, f', o] + W_m \star m

        T, s' = \mathrm{MIM\text{-}S}(d, c, s), \qquad c' = T + \sigma(i) \circ \tanh(g)

        m' = \sigma(f'_m + b) \circ m + \sigma(i_m) \circ \tanh(g_m)

        h' = \sigma(o + W_m^o \star m) \circ \tanh(W_{1 \times 1} \star [c', m'])

    Deviation: OpenSTL keeps s on the module, from one sequence to the next, and passes no gradient through it; here it
    begins at zero in every sequence, and ``truncated`` is off by default.

    Args:
        filters: channels of the states.
        kernel_size: of all convolutions but the 1x1 one, odd.
        layer_norm: normalise the convolutions, the 1x1 one excepted.
        truncated: no gradient passes through s from step to step, as in OpenSTL.
        first: whether this is the first layer.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``MIMState``.

    Returns:
        The output, which is the new hidden state, and the new ``MIMState``.

    Example:
        >>> import numpy as np
        >>> cell, x = MIMCell(16, 3), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.trend.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    state_type = MIMState
    handed = ("memory", "difference")

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        layer_norm: bool = False,
        truncated: bool = False,
        first: bool = False,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.truncated, self.first, policy = truncated, first, self.dtype_policy
        if first:
            self.lstm = STLSTMCell(filters, kernel_size, layer_norm=layer_norm, name="lstm", dtype=policy)
            return
        self.inputs_conv, self.hidden_conv = self.conv(4, "inputs_conv"), self.conv(3, "hidden_conv")
        self.memory_conv = self.conv(4, "memory_conv")
        self.join = NormalisedConv(filters, 1, False, name="join", dtype=policy)
        self.of_changes = PeepholeLSTM(filters, kernel_size, layer_norm, name="of_changes", dtype=policy)
        self.of_trend = PeepholeLSTM(filters, kernel_size, layer_norm, name="of_trend", dtype=policy)

    def build(self, inputs_shape, states_shape=None):
        if self.first:
            self.lstm.build(inputs_shape)
            return
        state = (*inputs_shape[:-1], self.filters)
        self.inputs_conv.build(inputs_shape)
        for layer in (self.hidden_conv, self.memory_conv, self.of_changes, self.of_trend):
            layer.build(state)
        self.join.build((*inputs_shape[:-1], 2 * self.filters))

    def initial_state(self, inputs) -> MIMState:
        """Zeros for inputs of this shape."""
        maps = zero_state(MIMState, inputs, self.filters)._replace(begun=keras.ops.zeros_like(inputs[:, :1, :1, :1]))
        return MIMState(*maps[:5]) if self.first else maps

    def call(self, inputs, states):
        states = MIMState(*states)
        begun = tf.ones_like(states.begun)
        if self.first:
            hidden, maps = self.lstm(inputs, STLSTMState(*states[:3]))
            return hidden, MIMState(*maps, states.begun * (hidden - states.hidden), begun)
        change, change_cell = self.of_changes(states.difference, states.change, states.change_cell)
        change, change_cell = states.begun * change, states.begun * change_cell  # nothing has changed at first
        trend = tf.stop_gradient(states.trend) if self.truncated else states.trend
        kept, trend = self.of_trend(change, states.cell, trend)
        x = self.inputs_conv(inputs)
        i, g, _, o = tf.split(x, 4, -1)
        i_hidden, g_hidden, o_hidden = tf.split(self.hidden_conv(states.hidden), 3, -1)
        i_memory, g_memory, f_memory, _ = tf.split(x + (m := self.memory_conv(states.memory)), 4, -1)
        cell = kept + tf.sigmoid(i + i_hidden) * tf.tanh(g + g_hidden)
        memory = lstm_update(states.memory, i_memory, f_memory + 1.0, g_memory)
        gate = tf.sigmoid(o + o_hidden + m[..., -self.filters :])
        hidden = gate * tf.tanh(self.join(tf.concat([cell, memory], -1)))
        return hidden, MIMState(hidden, cell, memory, change, begun, trend, change, change_cell)


@keras.saving.register_keras_serializable("htsr")
class PeepholeLSTM(RecurrentCell):
    r"""A convolutional LSTM whose gates see its cell (Shi et al., arXiv 1506.04214, Eq. 3), with a weight per element.

    .. math::
        [i, g, f, o] = W_x \star x + W_h \star h, \qquad
        c' = \sigma(f + w_f \circ c + 1) \circ c + \sigma(i + w_i \circ c) \circ \tanh(g), \qquad
        h' = \sigma(o + w_o \circ c') \circ \tanh(c')

    The weights tie it to one grid size.

    Args:
        filters: channels of all maps.
        kernel_size: of both convolutions, odd.
        layer_norm: normalise both convolutions.

    Call arguments:
        inputs, hidden, cell: ``(batch, rows, columns, filters)``.

    Returns:
        The new hidden and cell state.
    """

    def __init__(self, filters: int, kernel_size: int = 5, layer_norm: bool = False, **kwargs):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.inputs_conv, self.hidden_conv = self.conv(4, "inputs_conv"), self.conv(4, "hidden_conv")

    def build(self, state_shape):
        _, rows, columns, filters = state_shape
        self.inputs_conv.build(state_shape)
        self.hidden_conv.build(state_shape)
        shapes = {"old_cell": (rows, columns, 2 * filters), "new_cell": (rows, columns, filters)}
        self.old_cell, self.new_cell = (
            self.add_weight(name=name, shape=shape, initializer="zeros") for name, shape in shapes.items()
        )

    def call(self, inputs, hidden, cell):
        i, g, f, o = tf.split(self.inputs_conv(inputs) + self.hidden_conv(hidden), 4, -1)
        to_i, to_f = tf.split(tf.convert_to_tensor(self.old_cell), 2, -1)
        cell = lstm_update(cell, i + to_i * cell, f + to_f * cell + 1.0, g)
        return tf.sigmoid(o + self.new_cell * cell) * tf.tanh(cell), cell
