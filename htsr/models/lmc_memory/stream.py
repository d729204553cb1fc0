"""The mean of a ``MotionEncoder``'s maps while frames arrive one by one, in constant memory.

The encoder sees some frames before and after each of its maps, and pads with zeros where a clip begins and ends. With
its pools of pairs, map p depends on the differences 8p - 14 to 8p + 21 of a clip: once these are there, it stays as it
is, and it can be computed without what lies before them. So the mean of the maps that are settled and the frames that
later maps depend on are enough, and the result is that of the whole clip but for rounding.
"""

from typing import NamedTuple

import tensorflow as tf

from htsr.models.lmc_memory.memory import MotionEncoder

_STRIDE = 8  # differences from a map to the next
_FULL = 39  # frames that settle three maps; those settled, the oldest ``_STRIDE`` frames are not needed any more
_SETTLED = 3
_MARGIN = 2  # first maps of the recent frames that are wrong for what was dropped before them, and settled long ago


class Motion(NamedTuple):
    """What the maps of a stream of frames are made of.

    Attributes:
        recent: the last frames in order, then zeros: float32 ``(batch, _FULL, height, width, channel)``.
        settled: the mean of the maps that no later frame changes and whose frames were dropped, float32.
    """

    recent: tf.Tensor
    settled: tf.Tensor


def begin(encoder: MotionEncoder, clip: tf.Tensor) -> Motion:
    """The state after a clip ``(batch, time, height, width, channel)``."""
    num_frames = tf.shape(clip, tf.int64)[1]
    maps = tf.cast(encoder.maps(_differences(clip)), tf.float32)
    count, dropped = _counts(num_frames)
    settled = tf.reduce_sum(maps[:, :count], 1) / tf.cast(tf.maximum(count, 1), tf.float32)
    recent = clip[:, dropped:]
    recent = tf.pad(recent, [[0, 0], [0, _FULL - (num_frames - dropped)], [0, 0], [0, 0], [0, 0]])
    return Motion(tf.ensure_shape(recent, [None, _FULL, *clip.shape[2:]]), settled)


def add(encoder: MotionEncoder, motion: Motion, frame: tf.Tensor, num_frames: tf.Tensor) -> Motion:
    """The state after one more ``frame (batch, height, width, channel)``; int64 ``num_frames`` were there before it."""
    count, dropped = _counts(num_frames)
    mine = tf.range(_FULL, dtype=tf.int64) == num_frames - dropped
    recent = tf.where(mine[:, None, None, None], frame[:, None], motion.recent)

    def drop():
        skip = tf.where(dropped > 0, _MARGIN, 0)
        maps = tf.cast(encoder.maps(_differences(recent)), tf.float32)[:, skip:_SETTLED]
        settled = _with(motion.settled, count, maps)
        return Motion(tf.pad(recent[:, _STRIDE:], [[0, 0], [0, _STRIDE], [0, 0], [0, 0], [0, 0]]), settled)

    return tf.cond(num_frames + 1 - dropped == _FULL, drop, lambda: Motion(recent, motion.settled))


def mean(encoder: MotionEncoder, motion: Motion, num_frames: tf.Tensor) -> tf.Tensor:
    """The encoder's result for all ``num_frames`` frames: float32."""
    count, dropped = _counts(num_frames)
    maps = encoder.maps(_differences(motion.recent[:, : num_frames - dropped]))
    return _with(motion.settled, count, tf.cast(maps, tf.float32)[:, tf.where(dropped > 0, _MARGIN, 0) :])


def _counts(num_frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The maps in the mean of the settled ones, and the frames dropped, of int64 ``num_frames``."""
    times = tf.maximum((num_frames - (_FULL - _STRIDE)) // _STRIDE, 0)
    return tf.where(times > 0, times + _MARGIN, 0), times * _STRIDE


def _with(mean_so_far: tf.Tensor, count: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """The mean with further maps ``(batch, time, ...)``; not by way of the sum, which has no end."""
    more = tf.cast(tf.shape(maps)[1], tf.float32)
    total = tf.maximum(tf.cast(count, tf.float32) + more, 1.0)
    return mean_so_far + (tf.reduce_sum(maps, 1) - more * mean_so_far) / total


def _differences(clip: tf.Tensor) -> tf.Tensor:
    return clip[:, 1:] - clip[:, :-1]
