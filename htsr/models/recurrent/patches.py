"""Frames as maps of patches: space to depth, in the index orders of the published recurrent models."""

from typing import Literal

import tensorflow as tf

# What of a patch's channel index is slowest to fastest. Only weights trained elsewhere care.
PatchOrder = Literal["row_column_channel", "channel_column_row"]
_AXES = {
    "row_column_channel": (0, 1, 3, 2, 4, 5),  # (dy * size + dx) * channels + c: OpenSTL, tf.nn.space_to_depth
    "channel_column_row": (0, 1, 3, 5, 4, 2),  # (c * size + dx) * size + dy: CMS-LSTM
}


def to_patches(frames: tf.Tensor, size: int, order: PatchOrder = "row_column_channel") -> tf.Tensor:
    """Frames to patches.

    Args:
        frames: ``(..., height, width, channel)``; ``size`` divides height and width.
        size: side of a patch.
        order: of the channels, slowest first.

    Returns:
        ``(..., height / size, width / size, channel * size ** 2)``.

    Example:
        >>> frame = tf.reshape(tf.range(8), [2, 2, 2])
        >>> to_patches(frame, 2).numpy().tolist()
        [[[0, 1, 2, 3, 4, 5, 6, 7]]]
        >>> to_patches(frame, 2, "channel_column_row").numpy().tolist()
        [[[0, 4, 2, 6, 1, 5, 3, 7]]]
    """
    height, width, channels = frames.shape[-3:]
    x = tf.reshape(frames, [-1, height // size, size, width // size, size, channels])
    x = tf.transpose(x, _AXES[order])
    grid = [height // size, width // size, channels * size**2]
    return tf.reshape(x, tf.concat([tf.shape(frames)[:-3], grid], 0))


def from_patches(patches: tf.Tensor, size: int, order: PatchOrder = "row_column_channel") -> tf.Tensor:
    """The inverse of ``to_patches``."""
    rows, columns, channels = patches.shape[-3:]
    permutation = _AXES[order]
    sizes = (rows, size, columns, size, channels // size**2)  # of the axes as to_patches finds them, without the first
    x = tf.reshape(patches, [-1, *(sizes[axis - 1] for axis in permutation[1:])])
    x = tf.transpose(x, [permutation.index(axis) for axis in range(6)])
    frame = [rows * size, columns * size, channels // size**2]
    return tf.reshape(x, tf.concat([tf.shape(patches)[:-3], frame], 0))
