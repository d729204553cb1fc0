"""The convolutional LSTM with a self-attention memory."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import ConvLSTMCell, ConvLSTMState, RecurrentCell
from htsr.models.recurrent.blocks.attention import SelfAttentionMemory


class SAConvLSTMState(NamedTuple):
    """What ``SAConvLSTMCell`` carries: each ``(batch, rows, columns, filters)``; every layer has its own memory."""

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class SAConvLSTMCell(RecurrentCell):
    """One step of SA-ConvLSTM (Lin et al., AAAI 2020): a ``ConvLSTMCell``, whose hidden state then passes a
    ``SelfAttentionMemory``. The authors published no code: arguments and their defaults are choices.

    Args:
        filters, kernel_size, forget_bias, layer_norm: as in ``ConvLSTMCell``; ``layer_norm`` also normalises the
            memory's updating convolutions.
        key_filters, memory_kernel_size: ``key_filters`` and ``kernel_size`` of ``SelfAttentionMemory``.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``SAConvLSTMState``.

    Returns:
        The output, which is the new hidden state, and the new ``SAConvLSTMState``.

    Example:
        >>> import numpy as np
        >>> cell, x = SAConvLSTMCell(16, 3), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.memory.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    state_type = SAConvLSTMState

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        forget_bias: float = 1.0,
        layer_norm: bool = False,
        key_filters: int | None = None,
        memory_kernel_size: int = 1,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        self.forget_bias, self.key_filters, self.memory_kernel_size = forget_bias, key_filters, memory_kernel_size
        policy = self.dtype_policy
        self.lstm = ConvLSTMCell(filters, kernel_size, forget_bias, layer_norm, name="lstm", dtype=policy)
        self.attention = SelfAttentionMemory(
            key_filters, memory_kernel_size, layer_norm, name="attention", dtype=policy
        )

    def build(self, inputs_shape):
        self.lstm.build(inputs_shape)
        self.attention.build((*inputs_shape[:-1], self.filters))

    def call(self, inputs, states):
        states = SAConvLSTMState(*states)
        hidden, (_, cell) = self.lstm(inputs, ConvLSTMState(states.hidden, states.cell))
        hidden, memory = self.attention(hidden, states.memory)
        return hidden, SAConvLSTMState(hidden, cell, memory)
