"""Likelihoods and divergences: pure functions of distribution parameters, reduced to ``(batch, time)``.

The only module that imports TensorFlow Probability, which takes more than a second: where it is needed.
"""

import math
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    import tensorflow_probability as tfp


def diagonal_normal(mean: tf.Tensor, stddev: tf.Tensor, event_dims: int = 1) -> "tfp.distributions.Distribution":
    """A normal with independent components whose last ``event_dims`` axes are one event."""
    from tensorflow_probability import distributions as tfd

    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=event_dims)


def gaussian_nll(frames: tf.Tensor, prediction: tf.Tensor, stddev: float) -> tf.Tensor:
    """Negative log-likelihood of frames ``(batch, time, height, width, channel)``: ``(batch, time)``, nats."""
    return -diagonal_normal(prediction, tf.cast(stddev, prediction.dtype), event_dims=3).log_prob(frames)


def calibrated_nll(frames: tf.Tensor, prediction: tf.Tensor, floor: float) -> tf.Tensor:
    r"""As ``gaussian_nll``, with the variance of each frame at its optimum, the mean squared error, plus ``floor ** 2``
    (Rybkin et al., "Simple and effective VAE training with calibrated decoders", ICML 2021, their optimal sigma):
    :math:`\frac{D}{2} (1 + \ln 2 \pi (MSE + floor^2))`."""
    error = tf.reduce_mean(tf.square(frames - prediction), [2, 3, 4])
    size = tf.cast(tf.reduce_prod(tf.shape(frames)[2:]), error.dtype)
    return 0.5 * size * (1.0 + tf.math.log(2.0 * math.pi * (error + floor**2)))


def gaussian_kl(q_mean: tf.Tensor, q_stddev: tf.Tensor, p_mean: tf.Tensor, p_stddev: tf.Tensor) -> tf.Tensor:
    """``KL(q || p)`` of diagonal normals ``(batch, time, units)``, summed over units: ``(batch, time)``, nats."""
    from tensorflow_probability import distributions as tfd

    return tfd.kl_divergence(diagonal_normal(q_mean, q_stddev), diagonal_normal(p_mean, p_stddev))
