"""What stays behind the things that move."""

import tensorflow as tf

from htsr.models.htsr.looks import shifted

_AROUND = 5  # pixels around a thing that are not believed to be background
_ENOUGH = 5  # frames that show a pixel uncovered


def median(frames, shown) -> tf.Tensor:
    """Of the pixels that are shown, 1 or 0, ``(batch, n, height, width, 1)``."""
    ordered = tf.transpose(tf.sort(tf.where(shown > 0, frames, 2.0), 1), [0, 2, 3, 4, 1])
    number = tf.cast(tf.reduce_sum(shown, 1), tf.int32)[..., None] + tf.zeros_like(ordered[..., :1], tf.int32)
    middle = tf.maximum(tf.concat([number - 1, number], -1), 0) // 2
    return tf.reduce_mean(tf.gather(ordered, middle, batch_dims=4), -1)


def uncovered(frames, seen, crops, away, otherwise) -> tf.Tensor:
    """The median of what things do not cover, for pixels of which enough is seen.

    Args:
        frames: ``(batch, n, height, width, channel)``.
        seen: 1 for each that there was, else 0, ``(n,)``.
        crops: of the things, coverage and visibility last, ``(batch, K, n, channel, height, width)``.
        away: where the things are, from where they lie in the crops, ``(batch, K, n, 2)``.
        otherwise: for the other pixels, ``(batch, height, width, channel)``.
    """
    cover, visible = tf.split(tf.reduce_sum(crops[:, :, :, -2:], 2, keepdims=True), 2, 3)
    cover = shifted(tf.repeat(cover / (visible + 1e-3), frames.shape[1], 2), away)
    cover = tf.reduce_max(cover, [1, 3])[..., None]
    near = tf.nn.max_pool2d(tf.reshape(cover, [-1, *frames.shape[2:4], 1]), 2 * _AROUND + 1, 1, "SAME")
    free = tf.cast(tf.reshape(near, tf.shape(cover)) < 0.5, tf.float32) * seen[:, None, None, None]
    enough = tf.reduce_sum(free, 1) >= _ENOUGH
    return tf.where(enough, median(frames, free), otherwise)
