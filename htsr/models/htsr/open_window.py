"""What HTSR keeps of a window of its slowest level while the frames of it arrive one by one.

A level's prior in an open window gives way to its posterior when the window is complete, and then all faster levels go
through that window again, below another state. Everything before the window of the slowest level is settled; the
features of the frames in it, summed per tick as far as they have arrived, are enough to go through it as often as is
needed. So the memory of a stream is constant, however long it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from htsr.models.htsr.rssm import State


class OpenWindow(NamedTuple):
    """A window of the slowest level, of ``size`` frames, which is not complete.

    Attributes:
        before: the levels' states before it, fastest level first.
        embeds: the features of every level's ticks in it, sums over the frames that have arrived, zeros where none
            has: float32 ``(batch, ticks, features)``.
        seen: float32 ``(size,)``, 1 for a frame that was observed, 0 for one that was predicted or is to come.
    """

    before: tuple[State, ...]
    embeds: tuple[tf.Tensor, ...]
    seen: tf.Tensor


def after_context(
    embeds: Sequence[tf.Tensor], states: Sequence[State], num_frames, periods: Sequence[int]
) -> OpenWindow:
    """The window that a context of ``num_frames`` frames ends in, empty where the context fills the last one.

    Args:
        embeds: the features of every level's ticks in the context, ``(batch, ticks, features)``.
        states: of every level, after each of these ticks, ``(batch, ticks, ...)``.
        num_frames: int32 scalar.
        periods: frames of a tick of every level, fastest level first.
    """
    size = periods[-1]
    filled = num_frames % size
    before, rest = [], []
    for embed, state, period in zip(embeds, states, periods, strict=True):
        done = (num_frames - filled) // period
        before.append(State(*(tf.pad(s, [[0, 0], [1, 0], [0, 0]])[:, done] for s in state)))
        ticks = size // period
        padded = tf.pad(embed[:, done:], [[0, 0], [0, ticks - (tf.shape(embed)[1] - done)], [0, 0]])
        rest.append(tf.ensure_shape(padded, [None, ticks, embed.shape[-1]]))
    return OpenWindow(tuple(before), tuple(rest), tf.cast(tf.range(size) < filled, tf.float32))


def add(window: OpenWindow, embeds: Sequence[tf.Tensor], index, periods: Sequence[int]) -> OpenWindow:
    """The window with an observed frame.

    Args:
        embeds: the features of the frame for every level, ``(batch, 1, features)``.
        index: of the frame in the window, int32 scalar.
        periods: as in ``after_context``.
    """
    added = []
    for total, embed, period in zip(window.embeds, embeds, periods, strict=True):
        mine = tf.range(total.shape[1]) == index // period
        added.append(total + tf.where(mine[:, None], embed, 0.0))
    return window._replace(embeds=tuple(added), seen=tf.where(tf.range(periods[-1]) == index, 1.0, window.seen))


def or_next(window: OpenWindow, states: tuple[State, ...], complete: tf.Tensor) -> OpenWindow:
    """The window itself, or where it is ``complete`` the empty one after it, with the levels' ``states`` of now."""
    following = OpenWindow(states, *tf.nest.map_structure(tf.zeros_like, window[1:]))
    return tf.nest.map_structure(lambda a, b: tf.where(complete, a, b), following, window)
