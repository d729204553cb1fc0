"""Noise as a pure function of (seed, stream, row, step).

A counter-based generator, Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), turned into normals by Box-Muller. It is built from integer operations alone, so that the bits are
the same eagerly, in a graph, under XLA and on any device, and it is addressed by indices rather than by shapes: the
noise of one row and step does not depend on how many rows or steps are drawn with it. TensorFlow's own stateless
generators give neither.
"""

import math

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple, counter: tuple) -> tuple[tf.Tensor, tf.Tensor]:
    """Encrypt ``counter`` with ``key``: two pairs of uint32 tensors (broadcast together) to two uint32 tensors."""
    k0, k1 = (_uint32(k) for k in key)
    keys = (k0, k1, tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(k0, k1), tf.constant(0x1BD11BDA, tf.uint32)))
    x0, x1 = (_uint32(c) for c in counter)
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            left = tf.bitwise.left_shift(x1, tf.constant(rotation, tf.uint32))
            right = tf.bitwise.right_shift(x1, tf.constant(32 - rotation, tf.uint32))
            x1 = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_or(left, right), x0)
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return x0, x1


def fold(seed, stream) -> tf.Tensor:
    """A new seed, one for every ``stream``: int32, the shape of ``seed`` and ``stream`` broadcast together."""
    return tf.bitcast(threefry((seed, 0), (stream, 0))[0], tf.int32)


def rows(count) -> tf.Tensor:
    """Return what tells the rows of a batch apart, int32 ``(count,)``: each one's place in the batch of all replicas.

    Under a ``tf.distribute`` strategy every replica has an equal part of it; the noise of a row is then the same on
    however many replicas.
    """
    replica = tf.distribute.get_replica_context()
    first = count * replica.replica_id_in_sync_group if replica is not None and replica.num_replicas_in_sync > 1 else 0
    return first + tf.range(count)


def normal(seed, rows, steps, units: int) -> tf.Tensor:
    """Standard normal noise.

    Args:
        seed: int32, scalar or ``(rows,)``: one for all rows or one each.
        rows: int32 ``(rows,)``, the identity of each row.
        steps: int32 or int64 ``(steps,)``, the index of each step.
        units: numbers per row and step.

    Returns:
        float32 ``(rows, steps, units)``; element ``[r, s, u]`` depends on ``(seed[r], rows[r], steps[s], u)`` alone.
    """
    seed = tf.reshape(tf.convert_to_tensor(seed, tf.int32), [-1, 1, 1])
    pairs = (units + 1) // 2
    counter = tf.reshape(tf.cast(steps, tf.int64) * pairs, [1, -1, 1]) + tf.range(pairs, dtype=tf.int64)
    lower = tf.cast(tf.bitwise.bitwise_and(counter, 0xFFFFFFFF), tf.uint32)
    upper = tf.cast(tf.bitwise.right_shift(counter, tf.constant(32, tf.int64)), tf.uint32)  # 0 up to 10^8 steps
    bits = threefry((seed, 0x68747372), (_uint32(tf.reshape(rows, [-1, 1, 1])) + upper, lower))
    u0, u1 = map(_fraction, bits)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(u0)), 2.0 * math.pi * u1
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], -1)[..., :units]


def uniform(seed) -> tf.Tensor:
    """One number in (0, 1) for every int32 ``seed``: float32 of its shape."""
    return _fraction(threefry((seed, 0), (0, 0))[0])


def _fraction(bits: tf.Tensor) -> tf.Tensor:
    """23 bits and a half: never 0, so the logarithm is finite."""
    return (tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) + 0.5) * 2.0**-23


def _uint32(value) -> tf.Tensor:
    if isinstance(value, int):
        return tf.constant(value & 0xFFFFFFFF, tf.uint32)
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.uint32 else tf.bitcast(tf.cast(value, tf.int32), tf.uint32)
