"""The convolutional LSTM, and what all recurrent cells share."""

import inspect
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf

from htsr.layers.convolution import MapNormalisation, NormalisedConv


class RecurrentCell(keras.layers.Layer):
    """A cell of maps: from inputs and states to an output and new states.

    A subclass keeps each argument of its constructor in an attribute of that name.

    Args:
        filters: channels of the states.
        kernel_size: of its convolutions, odd.
        layer_norm: normalise the convolutions.

    Attributes:
        state_type: the named tuple of its states, one of which is ``hidden``.
        handed: names of the states that a layer hands to the next one within a step; a ``memory`` among them also
            passes from the last layer to the first one of the next step.
    """

    state_type: ClassVar[type]
    handed: tuple[str, ...] = ()

    def __init__(self, filters: int, kernel_size: int, layer_norm: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.layer_norm = filters, kernel_size, layer_norm

    def conv(self, factor: int, name: str, use_bias: bool = False) -> NormalisedConv:
        """Return a convolution to ``factor`` times the filters."""
        sizes = (factor * self.filters, self.kernel_size, self.layer_norm, use_bias)
        return NormalisedConv(*sizes, name=name, dtype=self.dtype_policy)

    def initial_state(self, inputs):
        """Zeros for inputs of this shape."""
        return zero_state(self.state_type, inputs, self.filters)

    def get_config(self):
        names = [name for name in inspect.signature(type(self)).parameters if name != "kwargs"]
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class ConvLSTMState(NamedTuple):
    """What ``ConvLSTMCell`` carries: each ``(batch, rows, columns, filters)``."""

    hidden: tf.Tensor
    cell: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class ConvLSTMCell(RecurrentCell):
    r"""One step of a convolutional LSTM without peepholes (Shi et al., arXiv 1506.04214, Eq. 3).

    .. math::
        [i, f, g, o] = W_x \star x + W_h \star h, \qquad
        c' = \sigma(f + b) \circ c + \sigma(i) \circ \tanh(g), \qquad h' = \sigma(o) \circ \tanh(c')

    With the defaults the ConvLSTM of OpenSTL, and ``keras.layers.ConvLSTM2D`` with ``recurrent_activation="sigmoid"``
    and ``unit_forget_bias=False``. With ``layer_norm``, each convolution is normalised; with ``cell_norm`` the new cell
    state is too, as in CMS-LSTM.

    Args:
        filters: channels of the states.
        kernel_size: of both convolutions, odd.
        forget_bias: b above: 1 in CMS-LSTM, 0 in OpenSTL (which stores a 1 and never adds it).
        layer_norm: normalise the convolutions.
        cell_norm: normalise the new cell state.
        use_bias: whether the gates have a bias.
        hidden_bias: whether the hidden state's convolution has one of its own, as in LMC-Memory.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``ConvLSTMState``.

    Returns:
        The output, which is the new hidden state, and the new ``ConvLSTMState``.

    Example:
        >>> import numpy as np
        >>> cell, x = ConvLSTMCell(16, 3), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.cell.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    state_type = ConvLSTMState

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        forget_bias: float = 0.0,
        layer_norm: bool = False,
        cell_norm: bool = False,
        use_bias: bool = False,
        hidden_bias: bool = False,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.forget_bias, self.cell_norm = forget_bias, cell_norm
        self.use_bias, self.hidden_bias = use_bias, hidden_bias
        self.inputs_conv = self.conv(4, "inputs_conv", use_bias)
        self.hidden_conv = self.conv(4, "hidden_conv", hidden_bias)
        self.norm = MapNormalisation(name="norm", dtype=self.dtype_policy) if cell_norm else None

    def build(self, inputs_shape):
        state = (*inputs_shape[:-1], self.filters)
        self.inputs_conv.build(inputs_shape)
        self.hidden_conv.build(state)
        if self.norm is not None:
            self.norm.build(state)

    def call(self, inputs, states):
        states = ConvLSTMState(*states)  # a saved Keras model hands in a list
        i, f, g, o = tf.split(self.inputs_conv(inputs) + self.hidden_conv(states.hidden), 4, -1)
        cell = lstm_update(states.cell, i, f + self.forget_bias, g)
        if self.norm is not None:
            cell = self.norm(cell)
        hidden = tf.sigmoid(o) * tf.tanh(cell)
        return hidden, ConvLSTMState(hidden, cell)


def lstm_update(cell, i, f, g):
    """``sigmoid(f) cell + sigmoid(i) tanh(g)``."""
    return tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)


def zero_state(state_type: type, inputs, filters: int):
    """A state whose fields are zeros of the batch, rows and columns of ``inputs``, with ``filters`` channels."""
    zeros = keras.ops.repeat(keras.ops.zeros_like(inputs[..., :1]), filters, -1)
    return state_type(*[zeros] * len(state_type._fields))
