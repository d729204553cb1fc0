"""Normalisation of groups of channels."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("htsr")
class GroupNorm(keras.layers.Layer):
    """Group normalisation: one mean and variance per sample and group, a weight and a bias per channel; epsilon 1e-5.

    Unlike ``keras.layers.GroupNormalization``, it gives a sample the same bits at every place in a batch, for groups of
    any size.

    Args:
        groups: they divide the channels.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        The same shape.
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape[-1:], initializer="zeros", autocast=False)

    def call(self, x):
        y = tf.cast(x, tf.float32)
        y -= self._mean(y)
        scale = tf.math.rsqrt(_wide(self._mean(tf.square(y))) + 1e-5)[..., : x.shape[-1]]
        y *= scale * self.gamma
        return tf.cast(y + self.beta, self.compute_dtype)

    def _mean(self, x):
        """Of every group, ``(batch, 1, 1, channels)``."""
        channels = x.shape[-1]
        size = channels // self.groups
        parts = tf.reshape(tf.reduce_mean(_wide(x), [1, 2])[:, :channels], [-1, self.groups, size])
        mean = tf.add_n(tf.unstack(parts, axis=-1)) / size
        # Inside a loop XLA knows the shape of the gradient of a tile, and not that of a repeat.
        return tf.reshape(tf.tile(mean[..., None], [1, 1, size]), [-1, 1, 1, channels])

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


def _wide(x):
    """The last axis filled up to a multiple of sixteen. What does not fill a vector of a processor is computed by other
    means than the rest, and so is a sum along the last axis: the last bits of a sample would depend on its place in a
    batch."""
    return tf.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, -x.shape[-1] % 16]])
