"""The cell of E3D-LSTM."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import RecurrentCell, lstm_update
from htsr.layers.convolution import MapNormalisation, NormalisedConv
from htsr.models.recurrent.blocks.attention import attend


class E3DLSTMState(NamedTuple):
    """What ``E3DLSTMCell`` carries.

    Maps ``(batch, rows, columns, 2 * filters)`` are of two moments, the channels of the earlier one first. ``past``,
    ``(batch, history * 2 * rows * columns, filters)``, has the cells of the last steps as tokens, the newest last.
    ``known`` says how many there are, a scalar: at first one, of zeros.
    """

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor
    past: tf.Tensor
    known: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class E3DLSTMCell(RecurrentCell):
    r"""One step of an eidetic 3-D LSTM (Wang et al., "E3D-LSTM", ICLR 2019, Eqs. 2-5; as OpenSTL builds it).

    Convolutions are over both moments of a map, and what they give holds for both of them:

    .. math::
        [i, g, r, o, i', g', f'] = W_x \star x, \quad [i, g, r, o] \mathrel{+}= W_h \star h, \quad
        [i', f', g', \mu] \mathrel{+}= W_m \star m

        c' = LN(c + \mathrm{attend}(\sigma(r), \mathrm{past}, \mathrm{past})) + \sigma(i) \circ \tanh(g)

        m' = \sigma(f' + 1) \circ \tanh(\mu) + \sigma(i') \circ \tanh(g')

        h' = \sigma(\tanh(o + W_c \star c' + W_{m'} \star m')) \circ \tanh(W_{1 \times 1} \star [c', m'])

    Tokens are what reshaping a map (channel, moment, row, column) to rows of ``filters`` numbers gives, as in OpenSTL:
    an even mixture of channels and places, the same for queries and past.

    Deviation: the past ends after ``history`` steps. OpenSTL's cell returns the memory it was given, so that this is
    zero forever; that is ``remember=False``.

    Args:
        filters: channels of the states, at one moment.
        kernel_size: of the convolutions, odd; along time it is 2.
        history: steps that are attended to.
        remember: whether the memory is kept; otherwise each step begins with zeros.

    Call arguments:
        inputs: ``(batch, rows, columns, 2 * channels)``.
        states: ``E3DLSTMState``.

    Returns:
        The output, which is the new hidden state, and the new ``E3DLSTMState``.
    """

    state_type = E3DLSTMState

    def __init__(self, filters: int, kernel_size: int = 5, history: int = 20, remember: bool = True, **kwargs):
        super().__init__(filters, kernel_size, False, **kwargs)
        self.history, self.remember, policy = history, remember, self.dtype_policy
        self.inputs_conv, self.hidden_conv = self.conv(7, "inputs_conv"), self.conv(4, "hidden_conv")
        self.memory_conv = self.conv(4, "memory_conv") if remember else None
        self.new_cell_conv, self.new_memory_conv = self.conv(1, "new_cell_conv"), self.conv(1, "new_memory_conv")
        self.join = NormalisedConv(filters, 1, False, name="join", dtype=policy)
        self.norm = MapNormalisation(name="norm", dtype=policy)

    def build(self, inputs_shape, states_shape=None):
        state = (*inputs_shape[:-1], 2 * self.filters)
        self.inputs_conv.build(inputs_shape)
        layers = (self.hidden_conv, self.memory_conv, self.new_cell_conv, self.new_memory_conv, self.join, self.norm)
        for layer in layers:
            if layer is not None:
                layer.build(state)

    def initial_state(self, inputs) -> E3DLSTMState:
        """Zeros for inputs of this shape."""
        zeros = keras.ops.repeat(keras.ops.zeros_like(inputs[..., :1]), 2 * self.filters, -1)
        past = keras.ops.tile(_tokens(zeros), [1, self.history, 1])
        return E3DLSTMState(zeros, zeros, zeros, past, tf.constant(1))

    def call(self, inputs, states):
        hidden, cell, memory, past, known = states
        i, g, r, o, i_memory, g_memory, f_memory = tf.split(self.inputs_conv(inputs), 7, -1)
        i_hidden, g_hidden, r_hidden, o_hidden = tf.split(self.hidden_conv(hidden), 4, -1)
        tokens = _tokens(_both(tf.sigmoid(r + r_hidden)))
        seen = tf.range(past.shape[1]) >= (self.history - known) * tokens.shape[1]
        recalled = _maps(attend(tokens, past, past, seen), *cell.shape[1:3])
        cell = self.norm(cell + recalled) + _both(tf.sigmoid(i + i_hidden) * tf.tanh(g + g_hidden))
        if self.memory_conv is None:
            memory = _both(tf.sigmoid(i_memory) * tf.tanh(g_memory))
        else:
            i, f, g, kept = tf.split(self.memory_conv(memory), 4, -1)
            memory = _both(lstm_update(tf.tanh(kept), i_memory + i, f_memory + f + 1.0, g_memory + g))
        gate = tf.sigmoid(tf.tanh(o + o_hidden + self.new_cell_conv(cell) + self.new_memory_conv(memory)))
        hidden = _both(gate) * tf.tanh(self._joined(cell, memory))
        past = tf.concat([past[:, tokens.shape[1] :], _tokens(cell)], 1)
        known = tf.minimum(known + 1, self.history)
        return hidden, E3DLSTMState(hidden, cell, memory, past, known)

    def _joined(self, cell, memory):
        """The 1x1 convolution of cell and memory, of each moment for itself."""
        _, rows, columns, channels = cell.shape
        apart = [tf.reshape(x, [-1, rows, 2 * columns, self.filters]) for x in (cell, memory)]
        return tf.reshape(self.join(tf.concat(apart, -1)), [-1, rows, columns, channels])


def _both(x):
    """A map for both moments."""
    return tf.concat([x, x], -1)


def _tokens(x):
    _, rows, columns, channels = x.shape
    x = tf.transpose(tf.reshape(x, [-1, rows, columns, 2, channels // 2]), [0, 4, 3, 1, 2])
    return tf.reshape(x, [-1, 2 * rows * columns, channels // 2])


def _maps(tokens, rows: int, columns: int):
    filters = tokens.shape[-1]
    x = tf.transpose(tf.reshape(tokens, [-1, filters, 2, rows, columns]), [0, 3, 4, 2, 1])
    return tf.reshape(x, [-1, rows, columns, 2 * filters])
