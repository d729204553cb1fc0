"""The global focus module of GMG."""

import keras
import tensorflow as tf

from htsr.layers.convolution import conv, fan_in_uniform


@keras.saving.register_keras_serializable("htsr")
class GlobalFocus(keras.layers.Layer):
    r"""Mixes a summary of a cell's whole input into its hidden state.

    Du et al., "GMG" (arXiv 2503.11297), as in the released code, which has a convolution in front of what the paper's
    figure shows:

    .. math::
        v = relu(W\, \mathrm{mean}(relu(W_x \star x)) + b), \qquad s = \sigma(W_s \star [h; v]), \qquad
        h' = s \circ h + (1 - s) \circ v

    with one vector v a sample, the same at every position.

    Call arguments:
        hidden: ``(batch, rows, columns, filters)``.
        inputs: the cell's, ``(batch, rows, columns, channels)``.

    Returns:
        The hidden state, updated.

    Example:
        >>> import numpy as np
        >>> GlobalFocus()(np.ones([2, 8, 6, 16], "float32"), np.ones([2, 8, 6, 4], "float32")).shape
        TensorShape([2, 8, 6, 16])
    """

    def build(self, hidden_shape, inputs_shape):
        filters, policy = hidden_shape[-1], self.dtype_policy
        self.conv = conv(filters, 3, True, "conv", policy)
        self.dense = keras.layers.Dense(
            filters, "relu", kernel_initializer=fan_in_uniform(), name="dense", dtype=policy
        )
        self.gate = conv(filters, 3, True, "gate", policy)
        self.conv.build(inputs_shape)
        self.dense.build((None, filters))
        self.gate.build((*hidden_shape[:-1], 2 * filters))

    def summary(self, inputs):
        """The vector v, ``(batch, filters)``."""
        return self.dense(tf.reduce_mean(tf.nn.relu(self.conv(inputs)), [1, 2]))

    def call(self, hidden, inputs):
        summary = tf.broadcast_to(self.summary(inputs)[:, None, None], tf.shape(hidden))
        gate = tf.sigmoid(self.gate(tf.concat([hidden, summary], -1)))
        return gate * hidden + (1.0 - gate) * summary
