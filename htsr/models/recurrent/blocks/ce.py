"""The context-embedding (CE) block of CMS-LSTM."""

import keras

from htsr.errors import InputError
from htsr.layers.convolution import NormalisedConv


@keras.saving.register_keras_serializable("htsr")
class ContextEmbedding(keras.layers.Layer):
    r"""Lets a cell's input and its hidden state gate each other before the cell uses them.

    Alternating half-steps, each with the freshest value of the other (Chai et al., "CMS-LSTM", arXiv 2102.03586,
    Eq. 1; two convolutions shared by all half-steps):

    .. math::
        n = 1, 3, 5 \ldots:\; x \leftarrow 2\sigma(Q(h)) \circ x, \qquad
        n = 2, 4 \ldots:\; h \leftarrow 2\sigma(R(x)) \circ h

    The factor 2 makes the neutral gate 1. Goes in front of any cell that has an input and a hidden state.

    Args:
        steps: half-steps; 5 as published, so that the input is gated three times and the hidden state twice.
        kernel_size: of both convolutions.
        layer_norm: the convolutions are followed by a layer normalisation and have no bias, as in the published code;
            otherwise they have a bias, as in the paper.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        hidden: ``(batch, rows, columns, filters)``.

    Returns:
        Both, gated.

    Example:
        >>> import numpy as np
        >>> x, h = ContextEmbedding()(np.ones([2, 8, 6, 4], "float32"), np.ones([2, 8, 6, 16], "float32"))
        >>> x.shape, h.shape
        (TensorShape([2, 8, 6, 4]), TensorShape([2, 8, 6, 16]))
    """

    def __init__(self, steps: int = 5, kernel_size: int = 3, layer_norm: bool = True, **kwargs):
        super().__init__(**kwargs)
        if steps < 1:
            raise InputError(f"steps must be at least 1, received {steps}")
        self.steps, self.kernel_size, self.layer_norm = steps, kernel_size, layer_norm

    def build(self, inputs_shape, hidden_shape):
        self.inputs_gate = self._gate("inputs_gate", inputs_shape, hidden_shape)
        if self.steps > 1:
            self.hidden_gate = self._gate("hidden_gate", hidden_shape, inputs_shape)

    def _gate(self, name, gated_shape, other_shape):
        sizes = (gated_shape[-1], self.kernel_size, self.layer_norm, not self.layer_norm)
        layer = NormalisedConv(*sizes, name=name, dtype=self.dtype_policy)
        layer.build(other_shape)
        return layer

    def call(self, inputs, hidden):
        for step in range(self.steps):
            if step % 2 == 0:
                inputs = 2.0 * keras.ops.sigmoid(self.inputs_gate(hidden)) * inputs
            else:
                hidden = 2.0 * keras.ops.sigmoid(self.hidden_gate(inputs)) * hidden
        return inputs, hidden

    def get_config(self):
        config = {"steps": self.steps, "kernel_size": self.kernel_size, "layer_norm": self.layer_norm}
        return {**super().get_config(), **config}
