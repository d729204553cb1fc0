"""Convolutions that halve and double rows and columns, aligned as PyTorch aligns them."""

import keras
import tensorflow as tf

from htsr.layers.convolution import fan_in_uniform


@keras.saving.register_keras_serializable("htsr")
class HalvingConv(keras.layers.Conv2D):
    """A 3x3 convolution of stride 2, after one row and column of zeros on every side.

    TensorFlow's own "same" padding has zeros on two sides alone, where sides are even.

    Args:
        filters: channels out.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows / 2, columns / 2, filters)``, rounded up.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, 3, 2, kernel_initializer=fan_in_uniform(), **kwargs)

    def call(self, x):
        return super().call(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))

    def get_config(self):
        return {"filters": self.filters, "name": self.name, "dtype": self.dtype_policy.name}


@keras.saving.register_keras_serializable("htsr")
class DoublingConv(keras.layers.Conv2DTranspose):
    """The transpose of ``HalvingConv`` on even sides: PyTorch's with stride 2, padding 1 and output padding 1.

    Args:
        filters: channels out.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, 2 rows, 2 columns, filters)``.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, 3, 2, kernel_initializer=fan_in_uniform(), **kwargs)

    def call(self, x):
        return super().call(x)[:, 1:, 1:]

    def get_config(self):
        return {"filters": self.filters, "name": self.name, "dtype": self.dtype_policy.name}
