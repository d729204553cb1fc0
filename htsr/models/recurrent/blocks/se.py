"""The multi-scale spatiotemporal-expression (SE) block of CMS-LSTM."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import MapNormalisation, NormalisedConv, check_conv, conv
from htsr.models.recurrent.blocks.attention import attend, gated_update


@keras.saving.register_keras_serializable("htsr")
class SpatiotemporalExpression(keras.layers.Layer):
    r"""Attention at several scales over a cell's hidden and cell state together, then a gated update of both.

    Chai et al., "CMS-LSTM" (arXiv 2102.03586), Eqs. 2-4, as in the published code. The two maps lie side by side,
    ``X = [h | c]``. At scale s the plane is cut into s x s blocks; within a block the positions of h and of c attend to
    each other, ``softmax(q k^T) v + X`` (one head, no scaling by the width). A convolution joins the scales on that
    plane, a 1x1 convolution the two halves, and the result z updates the pair:

    .. math::
        [w_i, w_g, w_o] = LN(W_h \star h) + LN(W_z \star z), \qquad
        C = LN((1 - \sigma(w_i)) \circ c + \sigma(w_i) \circ \tanh(w_g)), \qquad H = \sigma(w_o) \circ C

    Goes behind any cell that has a hidden and a cell state of one width.

    Args:
        scales: each must divide rows and columns of the grid; (1, 2, 4) as published.
        kernel_size: of the joining and the updating convolutions; 5 as published.
        layer_norm: normalise as published; otherwise the updating convolution of z has a bias instead.

    Call arguments:
        hidden, cell: ``(batch, rows, columns, filters)``.

    Returns:
        Both, updated.

    Example:
        >>> import numpy as np
        >>> block = SpatiotemporalExpression(scales=(1, 2))
        >>> h, c = block(np.ones([2, 8, 6, 16], "float32"), np.ones([2, 8, 6, 16], "float32"))
        >>> h.shape, c.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 8, 6, 16]))
    """

    def __init__(self, scales: Sequence[int] = (1, 2, 4), kernel_size: int = 5, layer_norm: bool = True, **kwargs):
        super().__init__(**kwargs)
        check_conv(1, kernel_size)
        self.scales, self.kernel_size, self.layer_norm = tuple(scales), kernel_size, layer_norm
        if not self.scales or min(self.scales) < 1:
            raise InputError(f"scales must be one or more numbers of at least 1, received {list(scales)}")

    def build(self, hidden_shape):
        batch, rows, columns, filters = hidden_shape
        if rows is None or columns is None:
            raise InputError(f"SE needs rows and columns that are known, received {rows} and {columns}")
        wrong = [scale for scale in self.scales if rows % scale or columns % scale]
        if wrong:
            raise InputError(
                f"SE scales must divide the grid of {rows}x{columns}, which {wrong[0]} does not; choose other "
                "scales or another patch size"
            )
        policy = self.dtype_policy
        size, num_scales = self.kernel_size, len(self.scales)
        # Query, key and value of every scale, in this order.
        self.attention = conv(3 * num_scales * filters, 1, True, "attention", policy)
        self.join_scales = NormalisedConv(filters, size, self.layer_norm, True, name="join_scales", dtype=policy)
        self.join_halves = conv(filters, 1, True, "join_halves", policy)
        self.update_hidden = NormalisedConv(3 * filters, size, self.layer_norm, name="update_hidden", dtype=policy)
        self.update_attended = NormalisedConv(
            3 * filters, size, self.layer_norm, not self.layer_norm, name="update_attended", dtype=policy
        )
        self.norm = MapNormalisation(name="norm", dtype=policy) if self.layer_norm else None
        plane = (batch, rows, 2 * columns)
        self.attention.build((*plane, filters))
        self.join_scales.build((*plane, num_scales * filters))
        self.join_halves.build((batch, rows, columns, 2 * filters))
        self.update_hidden.build(hidden_shape)
        self.update_attended.build(hidden_shape)
        if self.norm is not None:
            self.norm.build(hidden_shape)

    def call(self, hidden, cell):
        plane = tf.concat([hidden, cell], 2)
        projected = tf.split(self.attention(plane), 3 * len(self.scales), -1)
        attended = [
            _attend_in_blocks(scale, *projected[3 * i : 3 * i + 3]) + plane for i, scale in enumerate(self.scales)
        ]
        z = self.join_scales(tf.concat(attended, -1))
        z = self.join_halves(tf.concat(tf.split(z, 2, 2), -1))
        cell, gate = gated_update(self.update_hidden(hidden) + self.update_attended(z), cell)
        if self.norm is not None:
            cell = self.norm(cell)
        return gate * cell, cell

    def get_config(self):
        config = {"scales": list(self.scales), "kernel_size": self.kernel_size, "layer_norm": self.layer_norm}
        return {**super().get_config(), **config}


def _attend_in_blocks(scale: int, q, k, v):
    """Attention within ``scale`` x ``scale`` blocks of both halves of a plane ``(batch, rows, 2 columns, filters)``."""
    _, rows, columns, filters = q.shape
    m, n = rows // scale, columns // 2 // scale
    # Batch, block row, row, half, block column, column, channel; with one block nothing moves, and nothing is copied.
    blocks = [-1, scale, m, 2, scale, n, filters]
    to_tokens, from_tokens = [0, 1, 4, 2, 3, 5, 6], [0, 1, 3, 4, 2, 5, 6]
    tokens = (tf.reshape(tf.transpose(tf.reshape(x, blocks), to_tokens), [-1, 2 * m * n, filters]) for x in (q, k, v))
    out = tf.reshape(attend(*tokens), [-1, scale, scale, m, 2, n, filters])
    return tf.reshape(tf.transpose(out, from_tokens), [-1, rows, columns, filters])
