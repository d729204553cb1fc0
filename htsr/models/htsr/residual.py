"""The squeeze-and-excite residual cell of HTSR's frame encoder and decoder."""

import keras

from htsr.errors import InputError


@keras.saving.register_keras_serializable("htsr")
class SqueezeExciteResidual(keras.layers.Layer):
    """``0.1 u + b * gate(mean(b))`` with ``b = swish(conv(swish(conv(u))))``.

    Two 3x3 convolutions with swish, channel gating (squeeze-and-excite, Hu et al. 2018, with
    ``max(filters // 16, 4)`` hidden units), and a skip connection scaled by 0.1: it is the skip that is scaled, not
    the branch, as in the published HTSR code.

    Args:
        filters: channels in and out.

    Call arguments:
        u: ``(batch, height, width, filters)``.

    Returns:
        The same shape.

    Example:
        >>> import numpy as np
        >>> SqueezeExciteResidual(8)(np.zeros([2, 5, 7, 8], "float32")).shape
        TensorShape([2, 5, 7, 8])
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        if filters < 1:
            raise InputError(f"filters must be at least 1, received {filters}")
        self.filters = filters
        conv = {"padding": "same", "activation": "swish", "dtype": self.dtype_policy}
        self.conv_a = keras.layers.Conv2D(filters, 3, name="conv_a", **conv)
        self.conv_b = keras.layers.Conv2D(filters, 3, name="conv_b", **conv)
        hidden = max(filters // 16, 4)
        self.squeeze = keras.layers.Dense(hidden, "relu", name="squeeze", dtype=self.dtype_policy)
        self.excite = keras.layers.Dense(filters, "sigmoid", name="excite", dtype=self.dtype_policy)

    def build(self, input_shape):
        for layer in (self.conv_a, self.conv_b):
            layer.build((*input_shape[:-1], self.filters))
        self.squeeze.build((None, self.filters))
        self.excite.build((None, self.squeeze.units))

    def call(self, u):
        b = self.conv_b(self.conv_a(u))
        gate = self.excite(self.squeeze(keras.ops.mean(b, axis=(1, 2))))
        return 0.1 * u + b * gate[:, None, None, :]

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}
