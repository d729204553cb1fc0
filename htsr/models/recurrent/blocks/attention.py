"""Attention over the positions of a map: the product, and the self-attention memory of SA-ConvLSTM."""

import keras
import tensorflow as tf

from htsr.layers.convolution import NormalisedConv, check_conv, conv


def attend(q, k, v, mask=None):
    """``softmax(q k^T) v`` over the keys, without scaling: ``(..., tokens, units)`` each, ``(..., tokens, units)``.

    Logits and softmax are computed in float32: unscaled products are large. Keys count where ``mask``, bool
    ``(tokens,)``, is true; all of them by default.
    """
    logits = tf.matmul(tf.cast(q, tf.float32), tf.cast(k, tf.float32), transpose_b=True)
    if mask is not None:
        logits += tf.where(mask, 0.0, logits.dtype.min)
    return tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)


def gated_update(gates, state):
    """Of gates i, g, o side by side: ``(1 - sigmoid(i)) state + sigmoid(i) tanh(g)``, and ``sigmoid(o)``."""
    i, g, o = tf.split(gates, 3, -1)
    i = tf.sigmoid(i)
    return (1.0 - i) * state + i * tf.tanh(g), tf.sigmoid(o)


@keras.saving.register_keras_serializable("htsr")
class SelfAttentionMemory(keras.layers.Layer):
    r"""The self-attention memory (SAM) of SA-ConvLSTM.

    Lin et al., "Self-attention ConvLSTM for spatiotemporal prediction" (AAAI 2020). The hidden state attends to itself
    and to a memory with one query; the two results update the memory, which gates the new hidden state:

    .. math::
        Z = W_z [\mathrm{attend}(q_h, k_h, v_h); \mathrm{attend}(q_h, k_m, v_m)], \qquad
        [i, g, o] = W_{zu} \star Z + W_{hu} \star h

        m' = (1 - \sigma(i)) \circ m + \sigma(i) \circ \tanh(g), \qquad h' = \sigma(o) \circ m'

    The authors published no code; where the paper leaves a choice, it is an argument here.

    Args:
        key_filters: width of queries and keys; None: that of the hidden state.
        kernel_size: of the updating convolutions: 1 for dense 1x1 ones, above that depthwise separable ones.
        layer_norm: normalise both updating convolutions.
        attended_filters: width of Z; None: that of the hidden state. In GMG, twice that.

    Call arguments:
        hidden, memory: ``(batch, rows, columns, filters)``.

    Returns:
        Both, updated.

    Example:
        >>> import numpy as np
        >>> h, m = SelfAttentionMemory(4)(np.ones([2, 8, 6, 16], "float32"), np.ones([2, 8, 6, 16], "float32"))
        >>> h.shape, m.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    def __init__(
        self,
        key_filters: int | None = None,
        kernel_size: int = 1,
        layer_norm: bool = False,
        attended_filters: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for filters in (key_filters, attended_filters):
            check_conv(1 if filters is None else filters, kernel_size)
        self.key_filters, self.kernel_size, self.layer_norm = key_filters, kernel_size, layer_norm
        self.attended_filters = attended_filters

    def build(self, hidden_shape):
        filters, policy = hidden_shape[-1], self.dtype_policy
        keys = self.key_filters or filters
        self.sizes = [keys, keys, filters]  # query, key, value
        self.from_hidden = conv(sum(self.sizes), 1, True, "from_hidden", policy)
        self.from_memory = conv(sum(self.sizes[1:]), 1, True, "from_memory", policy)
        attended = self.attended_filters or filters
        self.join = conv(attended, 1, True, "join", policy)
        self.update_hidden = self._update("update_hidden", filters, hidden_shape, use_bias=False)
        attended_shape = (*hidden_shape[:-1], attended)
        self.update_attended = self._update("update_attended", filters, attended_shape, use_bias=not self.layer_norm)
        for layer in (self.from_hidden, self.from_memory):
            layer.build(hidden_shape)
        self.join.build((*hidden_shape[:-1], 2 * filters))

    def _update(self, name, filters, shape, use_bias):
        sizes = (3 * filters, self.kernel_size, self.layer_norm, use_bias, self.kernel_size > 1)
        layer = NormalisedConv(*sizes, name=name, dtype=self.dtype_policy)
        layer.build(shape)
        return layer

    def call(self, hidden, memory):
        q, k, v = tf.split(_tokens(self.from_hidden(hidden)), self.sizes, -1)
        k_memory, v_memory = tf.split(_tokens(self.from_memory(memory)), self.sizes[1:], -1)
        z = tf.concat([attend(q, k, v), attend(q, k_memory, v_memory)], -1)
        z = self.join(tf.reshape(z, [-1, *hidden.shape[1:3], z.shape[-1]]))
        memory, gate = gated_update(self.update_hidden(hidden) + self.update_attended(z), memory)
        return gate * memory, memory

    def get_config(self):
        names = ("key_filters", "kernel_size", "layer_norm", "attended_filters")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _tokens(x):
    return tf.reshape(x, [-1, x.shape[1] * x.shape[2], x.shape[3]])
