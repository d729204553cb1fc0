"""The physical cell of PhyDNet, and the moments that tie its filters to derivatives."""

import math

import keras
import numpy as np
import tensorflow as tf

from htsr.layers.convolution import conv, fan_in_bias
from htsr.layers.group_norm import GroupNorm

ORDERS = 7  # of derivatives along each axis, and the side of the filters


@keras.saving.register_keras_serializable("htsr")
class PhyCell(keras.layers.Layer):
    r"""One step of a partial differential equation, corrected by what was seen (arXiv 2003.01460, Eqs. 5-7).

    .. math::
        \tilde h = h + W_{1 \times 1} \star GN(W_{7 \times 7} \star h), \qquad K = \sigma(W_k \star [x, h]), \qquad
        h' = \tilde h + K \circ (x - \tilde h)

    The 49 filters of 7x7 stand for the derivatives up to order 6 along each axis (see ``moment_penalty``).

    Args:
        filters: channels of the state and the input.

    Call arguments:
        inputs, hidden: ``(batch, rows, columns, filters)``.

    Returns:
        The new hidden state.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.derivatives = conv(ORDERS**2, ORDERS, True, "derivatives", policy)
        self.derivatives.bias_initializer = fan_in_bias(ORDERS**2 * filters)  # of a state of zeros, too
        self.norm = GroupNorm(ORDERS, name="norm", dtype=policy)
        self.combine = conv(filters, 1, True, "combine", policy)
        self.gate = conv(filters, 3, True, "gate", policy)

    def build(self, shape):
        *first, filters = shape
        self.derivatives.build(shape)
        self.norm.build((*first, ORDERS**2))
        self.combine.build((*first, ORDERS**2))
        self.gate.build((*first, 2 * filters))

    def call(self, inputs, hidden):
        predicted = hidden + self.combine(self.norm(self.derivatives(hidden)))
        gate = tf.sigmoid(self.gate(tf.concat([inputs, hidden], -1)))
        return predicted + gate * (inputs - predicted)


def moment_penalty(kernel) -> tf.Tensor:
    r"""Return how far filters are from derivatives.

    The moments of a 7x7 filter k are :math:`M_{ij} = \sum_{uv} \frac{(u - 3)^i}{i!} \frac{(v - 3)^j}{j!} k_{uv}`; a
    filter for the derivative of orders i and j has M 1 there and 0 elsewhere (arXiv 2003.01460, Section 3.2.2).

    Args:
        kernel: ``(7, 7, channels, 49)``; filter ``7 i + j`` is for orders i and j.

    Returns:
        The mean squared error of the moments of a channel's filters, summed over channels.
    """
    place = np.arange(ORDERS) - ORDERS // 2
    powers = np.stack([place**order / math.factorial(order) for order in range(ORDERS)]).astype(np.float32)
    moments = tf.einsum("iu,jv,uvcq->cqij", powers, powers, kernel)
    wanted = np.eye(ORDERS**2, dtype=np.float32).reshape(ORDERS**2, ORDERS, ORDERS)
    return tf.reduce_sum(tf.reduce_mean(tf.square(moments - wanted), [1, 2, 3]))
