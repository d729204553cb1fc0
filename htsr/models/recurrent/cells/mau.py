"""The motion-aware unit."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.conv_lstm import RecurrentCell


class MAUState(NamedTuple):
    """What ``MAUCell`` carries: its last temporal states and inputs, oldest first, ``(batch, tau, rows, columns,
    filters)``. Before the first step they are zeros."""

    temporal: tf.Tensor
    spatial: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class MAUCell(RecurrentCell):
    r"""One step of a motion-aware unit (Chang et al., "MAU", NeurIPS 2021; as OpenSTL builds it).

    Of the input S, the temporal state T and those of the last steps, :math:`S_j` and :math:`T_j`:

    .. math::
        w = \mathrm{softmax}_j \langle S_j, W_s \star S \rangle / \sqrt{n}, \qquad a = \sigma(W_t \star T), \qquad
        F = a \circ T + (1 - a) \circ \sum_j w_j T_j

        [t_g, t_t, t_s] = W_F \star F, \quad [s_g, s_t, s_s] = W_S \star S

        T' = \sigma(t_g) \circ t_t + (1 - \sigma(t_g)) \circ s_t, \qquad
        S' = \sigma(s_g) \circ s_s + (1 - \sigma(s_g)) \circ t_s

    with n elements of a map. Every convolution has a bias.

    Args:
        filters: channels of the maps, those of the input too.
        kernel_size: of the convolutions, odd.
        layer_norm: normalise them, as published.
        tau: how many steps are remembered.

    Call arguments:
        inputs: ``(batch, rows, columns, filters)``.
        states: ``MAUState``.

    Returns:
        The output S' and the new ``MAUState``.

    Example:
        >>> import numpy as np
        >>> cell, x = MAUCell(16, 3, tau=2), np.ones([2, 8, 6, 16], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.temporal.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 2, 8, 6, 16]))
    """

    state_type = MAUState

    def __init__(self, filters: int, kernel_size: int = 5, layer_norm: bool = True, tau: int = 5, **kwargs):
        super().__init__(filters, kernel_size, layer_norm, **kwargs)
        if tau < 1:
            raise InputError(f"tau must be at least 1, received {tau}")
        self.tau = tau
        self.spatial_conv, self.temporal_conv = self.conv(1, "spatial_conv", True), self.conv(1, "temporal_conv", True)
        self.inputs_conv, self.fused_conv = self.conv(3, "inputs_conv", True), self.conv(3, "fused_conv", True)

    def build(self, inputs_shape, states_shape=None):
        if inputs_shape[-1] != self.filters:
            raise InputError(
                f"mau has states of as many channels as its input, {inputs_shape[-1]}, received filters "
                f"{self.filters}; give all layers the same number, and set embed"
            )
        for layer in (self.spatial_conv, self.temporal_conv, self.inputs_conv, self.fused_conv):
            layer.build(inputs_shape)

    def initial_state(self, inputs) -> MAUState:
        """Zeros for inputs of this shape."""
        maps = super().initial_state(inputs)
        return MAUState(*(keras.ops.repeat(x[:, None], self.tau, 1) for x in maps))

    def call(self, inputs, states):
        temporal, spatial = states
        last = temporal[:, -1]
        query = tf.cast(self.spatial_conv(inputs), tf.float32)[:, None] * tf.cast(spatial, tf.float32)
        logits = tf.reduce_sum(query, [2, 3, 4]) / tf.sqrt(tf.cast(tf.reduce_prod(inputs.shape[1:]), tf.float32))
        weights = tf.cast(tf.nn.softmax(logits), temporal.dtype)[:, :, None, None, None]
        gate = tf.sigmoid(self.temporal_conv(last))
        fused = gate * last + (1.0 - gate) * tf.reduce_sum(weights * temporal, 1)
        t_gate, t_temporal, t_spatial = tf.split(self.fused_conv(fused), 3, -1)
        s_gate, s_temporal, s_spatial = tf.split(self.inputs_conv(inputs), 3, -1)
        t_gate, s_gate = tf.sigmoid(t_gate), tf.sigmoid(s_gate)
        new = t_gate * t_temporal + (1.0 - t_gate) * s_temporal
        output = s_gate * s_spatial + (1.0 - s_gate) * t_spatial
        maps = ((temporal, new), (spatial, inputs))
        return output, MAUState(*(tf.concat([old[:, 1:], x[:, None]], 1) for old, x in maps))
