"""What recurs: how much moments differ, after how many frames they come back, and which to show in the future."""

from typing import NamedTuple

import tensorflow as tf

from htsr.models.htsr.looks import period_of, unlikeness

_LATEST = 6  # moments in which a frame is compared with the one a period earlier


class Recurring(NamedTuple):
    """What the observed frames, the moments, show as a whole: ``frames (batch, n, height, width, channel)``; how much
    they differ, ``(batch, 1, n, n)``; and after how many they recur, int32 ``(batch, 1)``."""

    frames: tf.Tensor
    unlike: tf.Tensor
    period: tf.Tensor


def find(changes, frames, seen) -> tuple[Recurring, tf.Tensor]:
    """Find after how many frames all of a frame recurs, and how well it did lately.

    Args:
        changes: of the frames from their mean, ``(batch, n, height, width, channel)``.
        frames: themselves.
        seen: 1 for each that there was, else 0, ``(n,)``.

    Returns:
        ``Recurring``, and the logarithm of the error, ``(batch,)``.
    """
    visible = tf.ones_like(changes[..., :1]) * seen[:, None, None, None]
    unlike = unlikeness(tf.transpose(changes * visible, [0, 1, 4, 2, 3])[:, None], visible[:, None, ..., 0])
    period = period_of(unlike, tf.ones_like(unlike[..., 0]) * seen)
    moments = frames.shape[1] - 1 - tf.range(min(_LATEST, frames.shape[1]))
    lately = tf.gather(unlike[:, 0], moments, axis=1)
    before = tf.maximum(moments - period, 0)
    error = tf.reduce_mean(tf.gather(lately, before, batch_dims=2), -1)
    return Recurring(frames, unlike + 1e3 * (1.0 - seen), period), tf.math.log(error + 0.03) / 3.0


def weights_of(unlike, likeness, hidden=0.0) -> tf.Tensor:
    """Weights of moments, by how much they differ from the look that is wanted."""
    return tf.nn.softmax(-tf.exp(10.0 * likeness) * unlike - hidden, -1)


def itself(frames) -> tf.Tensor:
    """Added to how much moments differ, it keeps each from being drawn from itself."""
    return 1e3 * tf.eye(frames.shape[1])


def a_period_before(unlike, period, ahead) -> tf.Tensor:
    """How much the moments differ from that a whole number of periods before the frames ``ahead`` ``(batch, time)``."""
    period = period[:, :, None]
    return tf.gather(unlike, unlike.shape[-1] - period + ahead[:, None] % period, batch_dims=2)
