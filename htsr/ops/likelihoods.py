"""Likelihoods and divergences: pure functions of distribution parameters, reduced to ``(batch, time)``.

The only module that imports TensorFlow Probability.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def diagonal_normal(mean: tf.Tensor, stddev: tf.Tensor, event_dims: int = 1) -> tfd.Distribution:
    """A normal with independent components whose last ``event_dims`` axes are one event."""
    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=event_dims)


def gaussian_nll(frames: tf.Tensor, prediction: tf.Tensor, stddev: float) -> tf.Tensor:
    """Negative log-likelihood of frames ``(batch, time, height, width, channel)``: ``(batch, time)``, nats."""
    return -diagonal_normal(prediction, tf.cast(stddev, prediction.dtype), event_dims=3).log_prob(frames)


def gaussian_kl(q_mean: tf.Tensor, q_stddev: tf.Tensor, p_mean: tf.Tensor, p_stddev: tf.Tensor) -> tf.Tensor:
    """``KL(q || p)`` of diagonal normals ``(batch, time, units)``, summed over units: ``(batch, time)``, nats."""
    return tfd.kl_divergence(diagonal_normal(q_mean, q_stddev), diagonal_normal(p_mean, p_stddev))
