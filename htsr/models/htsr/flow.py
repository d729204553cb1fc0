"""How what is not background moves: every pixel of it has a velocity of its own, and goes on with it."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from htsr.models.htsr import tracking

_SPEEDS = np.arange(-3.0, 3.1, 0.5)  # pixels a frame, along each axis
_LAGS = (2, 4, 8)  # so many frames back is looked
_WINDOW = 11  # pixels, around one, that move as it does
_SMOOTH = 5  # pixels, over which velocities are averaged
_LASTS = 8.0  # frames, for which a difference from the background that covers nothing is believed
_EFFORT = 2e-3  # of velocities that are as good the slowest: what a speed of 1 costs, as a mean squared difference


class Flow(NamedTuple):
    """Of the last frame: what covers the background, colour times coverage, less that of the background, and coverage,
    ``(batch, height, width, channel + 1)``; how it moves along (y, x), pixels a frame, ``(batch, height, width, 2)``;
    and how else the frame differs from the background, ``(batch, height, width, channel)``."""

    covering: tf.Tensor
    velocity: tf.Tensor
    rest: tf.Tensor


def find(frames, seen, background) -> tuple[Flow, tf.Tensor]:
    """Find how what covers the background moves: of a grid of velocities the one with which the surroundings of a pixel
    are found best in frames before the last one, then in between by a parabola.

    Args:
        frames: ``(batch, n, height, width, channel)``.
        seen: 1 for each that there was, else 0, ``(n,)``.
        background: ``(batch, height, width, channel)``.

    Returns:
        The flow, and the mean squared difference that it leaves of what covers the background, ``(batch,)``.
    """
    height, width = frames.shape[2:4]
    cover = tracking.coverage(tracking.difference(frames[:, -1:], background))[:, 0, ..., None]
    last, count, pad = frames[:, -1] - background, len(_SPEEDS), int(_SPEEDS[-1] * _LAGS[-1])
    velocities = np.array(list(itertools.product(_SPEEDS, _SPEEDS)))
    unlike = tf.zeros([len(velocities), 1, 1, 1])
    for lag in _LAGS:
        if lag < frames.shape[1]:
            before = tf.pad(frames[:, -1 - lag] - background, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
            corners = pad - (lag * velocities).astype(int)
            moved = (before[:, y : y + height, x : x + width] for y, x in corners)
            unlike += seen[-1 - lag] * tf.stack([tf.reduce_sum(tf.square(frame - last), -1) for frame in moved])
    costs = tf.nn.avg_pool2d(tf.transpose(unlike * cover[..., 0], [1, 2, 3, 0]), _WINDOW, 1, "SAME")
    costs += _EFFORT * np.square(velocities).sum(-1).astype(np.float32)
    flat = tf.reshape(costs, [-1, count**2])
    best = tf.argmin(flat, -1, tf.int32)
    place = best // count, best % count
    between = tracking.between(tf.reshape(flat, [-1, count, count]), *place)
    velocity = _SPEEDS[0] + (_SPEEDS[1] - _SPEEDS[0]) * (tf.cast(tf.stack(place, -1), tf.float32) + between)
    velocity = tf.reshape(velocity, [-1, height, width, 2])
    weight = cover + 1e-3
    velocity = _mean(velocity * weight) / _mean(weight)
    error = tf.reduce_sum(tf.reduce_min(costs, -1), [1, 2]) / (tf.reduce_sum(cover, [1, 2, 3]) + 1.0)
    return Flow(tf.concat([cover * last, cover], -1), velocity, (1.0 - cover) * last), error


def carry(flow: Flow, background, times) -> tf.Tensor:
    """The frames after ``times (batch, time)`` frames, ``(batch, time, height, width, channel)``."""
    height, width, channels = background.shape[1:]
    size = (height + 3) * (width + 3)  # with an edge, where goes what leaves
    pixels = np.stack(np.mgrid[:height, :width], -1).astype(np.float32)
    place = 1.0 + pixels + times[:, :, None, None, None] * flow.velocity[:, None]
    place = tf.clip_by_value(place, 0.0, np.float32([height + 1, width + 1]))
    whole = tf.floor(place)
    shares = tf.unstack(place - whole, axis=-1)
    frames = tf.range(tf.size(times)) * size
    row, column = tf.unstack(tf.cast(whole, tf.int32), axis=-1)
    index = tf.reshape(frames, tf.concat([tf.shape(times), [1, 1]], 0)) + row * (width + 3) + column
    total = tf.zeros([tf.size(times) * size, channels + 1])
    for below, right in itertools.product((0, 1), repeat=2):
        share = [share if there else 1.0 - share for share, there in zip(shares, (below, right), strict=True)]
        value = (share[0] * share[1])[..., None] * flow.covering[:, None]
        where = tf.reshape(index + below * (width + 3) + right, [-1, 1])
        total = tf.tensor_scatter_nd_add(total, where, tf.reshape(value, [-1, channels + 1]))
    total = tf.reshape(total, tf.concat([tf.shape(times), [height + 3, width + 3, channels + 1]], 0))
    colour, cover = tf.split(total[:, :, 1:-2, 1:-2], [channels, 1], -1)
    colour /= tf.maximum(cover, 1.0)  # where things meet they are averaged
    return background[:, None] + colour + tf.exp(-times[..., None, None, None] / _LASTS) * flow.rest[:, None]


def _mean(maps) -> tf.Tensor:
    return tf.nn.avg_pool2d(maps, _SMOOTH, 1, "SAME")
