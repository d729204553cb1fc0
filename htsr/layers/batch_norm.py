"""Normalisation over a batch."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("htsr")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation as PyTorch computes it, a weight and a bias per channel; epsilon 1e-5.

    In training the averages move by a tenth towards the mean and the unbiased variance of the batch; Keras's layer
    takes the biased variance. Otherwise the averages are what is normalised with.

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
            # The variance that is returned is the unbiased one.
            y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5, is_training=True)
            self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * tf.stop_gradient(mean))
            self.moving_variance.assign(0.9 * self.moving_variance + 0.1 * tf.stop_gradient(variance))
            return y
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + 1e-5)
        return tf.cast(tf.cast(x, tf.float32) * scale + (self.beta - self.moving_mean * scale), self.compute_dtype)
