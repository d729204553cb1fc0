"""Normalisation over a batch."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("htsr")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation as PyTorch computes it, a weight and a bias per channel; epsilon 1e-5.

    In training the batch is that of all replicas, and the averages move by a tenth towards its mean and its unbiased
    variance; Keras's layer takes the biased one. Otherwise the averages are what is normalised with.

    Call arguments:
        x: ``(batch, ..., channels)``; in training ``(batch, rows, columns, channels)``.
        training: whether to normalise with the batch.

    Returns:
        The same shape.
    """

    def build(self, shape):
        common = {"shape": shape[-1:], "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **common)
        self.beta = self.add_weight(name="beta", initializer="zeros", **common)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", trainable=False, **common)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", trainable=False, **common)

    def call(self, x, training=False):
        if training:
            gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
            replica = tf.distribute.get_replica_context()
            if replica.num_replicas_in_sync > 1:
                y, mean, variance = _normalized_over_replicas(x, gamma, beta, replica)
            else:  # the variance that is returned is the unbiased one
                y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5, is_training=True)
            self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * tf.stop_gradient(mean))
            self.moving_variance.assign(0.9 * self.moving_variance + 0.1 * tf.stop_gradient(variance))
            return y
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + 1e-5)
        return tf.cast(tf.cast(x, tf.float32) * scale + (self.beta - self.moving_mean * scale), self.compute_dtype)


def _normalized_over_replicas(x, gamma, beta, replica):
    """What ``fused_batch_norm`` returns of the batch of which every replica has an equal part."""
    values = tf.cast(x, tf.float32)
    mean = replica.all_reduce("MEAN", tf.reduce_mean(values, [0, 1, 2]))
    variance = replica.all_reduce("MEAN", tf.reduce_mean(tf.square(values - mean), [0, 1, 2]))
    y = tf.cast((values - mean) * tf.math.rsqrt(variance + 1e-5) * gamma + beta, x.dtype)
    count = tf.cast(tf.size(values[..., 0]) * replica.num_replicas_in_sync, tf.float32)
    return y, mean, variance * count / (count - 1.0)
