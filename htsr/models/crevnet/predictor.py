"""The predictor's layer."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import lstm_update
from htsr.models.crevnet.reversible import WindowNorm, window_conv


class LayerState(NamedTuple):
    """What a ``PredictorLayer`` carries from step to step: each ``(batch, window, rows, columns, filters)``."""

    hidden: tf.Tensor
    cell: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class PredictorLayer(keras.layers.Layer):
    r"""A spatiotemporal LSTM of one half of the maps, and a gate for the other half (arXiv 1910.08853, Section 3.2).

    .. math::
        [f, i, g] = W \star [x_1, h, c] + b, \qquad c' = \sigma(f) \circ c + \sigma(i) \circ \tanh(g)

        [f, i, g] = W_m \star [x_1, m, c'] + b_m, \qquad m' = \sigma(f) \circ m + \sigma(i) \circ \tanh(g)

        h' = \sigma(W_o \star [x_1, h, c', m'] + b_o) \circ \tanh(W_{1 \times 1} \star [c', m'] + b_1)

    The gate is a 1x1 convolution of h' and a logistic function; for windows of one frame there are two more
    convolutions before these, each with a normalisation and a ReLU.

    Args:
        filters: channels of a half and of the states.
        window: frames of a window.

    Call arguments:
        first: the half that is read, ``(batch, window, rows, columns, filters)``.
        state: ``LayerState``.
        memory: handed from layer to layer and from step to step, shaped as ``first``.

    Returns:
        The gate, the new ``LayerState`` and the new memory.
    """

    def __init__(self, filters: int, window: int, **kwargs):
        super().__init__(**kwargs)
        self.filters, policy = filters, self.dtype_policy

        def conv(parts: int, units: int, name: str, kernel_size: int = 3):
            fan_in = parts * filters * min(kernel_size, window) * kernel_size**2
            return window_conv(units, window, name, policy, kernel_size, bias_fan_in=fan_in)

        self.gates, self.memory_gates = conv(3, 3 * filters, "gates"), conv(3, 3 * filters, "memory_gates")
        self.output_gate, self.join = conv(4, filters, "output_gate"), conv(2, filters, "join", 1)
        sizes = (1,) if window > 1 else (1, 3, 1)
        self.attention = [conv(1, filters, f"attention{i}", size) for i, size in enumerate(sizes)]
        self.norms = [WindowNorm(name=f"norm{i}", dtype=policy) for i in range(len(sizes) - 1)]

    def build(self, shape):
        *grid, filters = shape
        for layer, parts in ((self.gates, 3), (self.memory_gates, 3), (self.output_gate, 4), (self.join, 2)):
            layer.build((*grid, parts * filters))
        for layer in (*self.attention, *self.norms):
            layer.build(shape)

    def call(self, first, state, memory):
        hidden, cell = state
        f, i, g = tf.split(self.gates(tf.concat([first, hidden, cell], -1)), 3, -1)
        cell = lstm_update(cell, i, f, g)
        f, i, g = tf.split(self.memory_gates(tf.concat([first, memory, cell], -1)), 3, -1)
        memory = lstm_update(memory, i, f, g)
        output = self.output_gate(tf.concat([first, hidden, cell, memory], -1))
        hidden = tf.sigmoid(output) * tf.tanh(self.join(tf.concat([cell, memory], -1)))
        x = hidden
        for layer, norm in zip(self.attention[:-1], self.norms, strict=True):
            x = tf.nn.relu(norm(layer(x)))
        return tf.sigmoid(self.attention[-1](x)), LayerState(hidden, cell), memory
