"""How a camera moves: it zooms and pans from one frame to the next, and goes on doing so."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_ZOOMS = np.linspace(0.9, 1.12, 12, dtype=np.float32)
_PANS = np.arange(-12.0, 12.1, 1.5, dtype=np.float32)  # pixels a frame
_REFINED = 3  # times, by half a step to either side
_SEEN = 0.3  # share of a frame that two frames have to have in common
_LEAST, _MOST = 0.2, 5.0  # zooms


class Camera(NamedTuple):
    """What a frame does to the one before: it is scaled around its middle by ``zoom (batch,)`` and moved by
    ``pan (batch, 2)`` pixels along (y, x)."""

    zoom: tf.Tensor
    pan: tf.Tensor


def find(before, after) -> tuple[Camera, tf.Tensor]:
    """Find how the camera moved between two frames, ``(batch, height, width, channel)``: all of a grid are tried on
    frames of half the size, then the best one is refined.

    Returns:
        The motion, and the mean squared error that it leaves, ``(batch,)``.
    """
    before, after = (tf.reduce_mean(x, -1) for x in (before, after))
    grid = np.array(list(itertools.product(_ZOOMS, _PANS / 2, _PANS / 2)), np.float32)
    error = _errors(*(tf.nn.avg_pool2d(x[..., None], 2, 2, "VALID")[..., 0] for x in (before, after)), grid[None])
    # Of motions that are as good the smallest.
    effort = 1e-5 * np.abs(grid - [1.0, 0.0, 0.0]).dot([50.0, 1.0, 1.0]).astype(np.float32)
    best = tf.gather(grid * np.float32([1.0, 2.0, 2.0]), tf.argmin(error + effort, -1))
    steps = np.array([_ZOOMS[1] - _ZOOMS[0], _PANS[1] - _PANS[0], _PANS[1] - _PANS[0]], np.float32) / 2
    around = np.array(list(itertools.product([0.0, -1.0, 1.0], repeat=3)), np.float32)
    for _ in range(_REFINED):
        tried = best[:, None] + around * steps
        errors = _errors(before, after, tried)
        best = tf.gather(tried, tf.argmin(errors, -1), batch_dims=1)
        steps /= 2
    return Camera(best[:, 0], best[:, 1:]), tf.reduce_min(errors, -1)


def carry(frame, camera: Camera, times) -> tuple[tf.Tensor, tf.Tensor]:
    """What a frame becomes after the camera went on for ``times (batch, time)`` frames.

    Returns:
        The frames, ``(batch, time, height, width, channel)``, 0 where nothing is known, and 1 where something is.
    """
    # In double precision, so that a frame's bits do not depend on how many are carried together.
    one, pan, times = (tf.cast(x, tf.float64) for x in (camera.zoom[:, None], camera.pan[:, None], times))
    zoom = tf.clip_by_value(one**times, _LEAST, _MOST)
    change = one - 1.0
    small = tf.abs(change) < 1e-4
    number = tf.where(small, times, (zoom - 1.0) / tf.where(small, tf.ones_like(change), change))
    pan = tf.cast(pan * number[..., None], tf.float32)
    pictures = tf.transpose(frame, [0, 3, 1, 2])[:, None]
    pictures, known = _moved(pictures, tf.cast(zoom, tf.float32)[..., None], pan[:, :, None])
    return tuple(tf.transpose(x, [0, 1, 3, 4, 2]) for x in (pictures, known))


def _moved(pictures, zoom, pan) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and move pictures ``(..., height, width)``, linear in between: 0 where nothing is known; and 1 where
    something is."""
    rows, columns = (_sources(length, zoom, pan[..., axis]) for axis, length in enumerate(pictures.shape[-2:]))
    known = tf.reduce_sum(rows, -1)[..., :, None] * tf.reduce_sum(columns, -1)[..., None, :]
    return tf.matmul(tf.matmul(rows, pictures), columns, transpose_b=True), known


def _sources(length: int, zoom, pan) -> tf.Tensor:
    """What rows, or columns, are taken from: a banded matrix."""
    i, middle = tf.range(length, dtype=tf.float32), (length - 1) / 2
    source = (i - middle - pan[..., None]) / zoom[..., None] + middle
    return tf.nn.relu(1.0 - tf.abs(source[..., None] - i))


def _errors(before, after, motions) -> tf.Tensor:
    """Mean squared errors ``(batch, motions)`` of ``(1 or batch, motions, 3)``, where the frames overlap."""
    moved, known = _moved(before[:, None], motions[..., 0], motions[..., 1:])
    known = tf.cast(known > 0.99, tf.float32)
    number = tf.reduce_sum(known, [2, 3])
    error = tf.reduce_sum(known * tf.square(moved - after[:, None]), [2, 3])
    size = before.shape[1] * before.shape[2]
    return error / (number + 1.0) + tf.cast(number / size < _SEEN, tf.float32)
