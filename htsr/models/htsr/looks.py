"""How the looks of a thing at different moments compare, and how pictures are moved."""

import tensorflow as tf

_PAIRS = 4.0  # of moments, from which on a lag is believed
_APART = 0.1  # brightness; what differs more from its average is hardly believed
_ROUNDS = 4  # of averaging and looking what differs
_FORGETTING = 0.98  # weight of a moment when a period is looked for, relative to that of the next one


def shifted(pictures, by) -> tf.Tensor:
    """Move pictures ``(..., channel, height, width)`` by (y, x) pixels ``(..., 2)``, linear in between, 0 from outside.

    As two products with banded matrices: quick everywhere, and differentiable in ``by``.
    """
    height, width = pictures.shape[-2:]
    rows, columns = _band(height, by[..., None, 0]), _band(width, by[..., None, 1])
    return tf.matmul(tf.matmul(rows, pictures), columns, transpose_b=True)


def _band(size: int, offset) -> tf.Tensor:
    i = tf.range(size, dtype=tf.float32)
    return tf.nn.relu(1.0 - tf.abs(i[:, None] - i - offset[..., None, None]))


def unlikeness(colour, visible) -> tf.Tensor:
    """Squared differences between moments where both are visible, over the usual energy: ``(batch, K, n, n)``.

    Args:
        colour: times visibility, ``(batch, K, n, channel, height, width)``.
        visible: ``(batch, K, n, height, width)``.
    """
    energy = tf.reduce_sum(tf.square(colour), 3) / (visible + 1e-3)
    lead = tf.shape(colour)[:3]
    energy, visible, colour = (tf.reshape(x, tf.concat([lead, [-1]], 0)) for x in (energy, visible, colour))
    squares = tf.matmul(energy, visible, transpose_b=True)
    squares += tf.linalg.matrix_transpose(squares) - 2.0 * tf.matmul(colour, colour, transpose_b=True)
    usual = tf.reduce_sum(energy, [2, 3]) / (tf.reduce_sum(tf.reduce_max(visible, -1), 2) + 1e-3) + 1.0
    return tf.nn.relu(squares) / usual[..., None, None]


def believed(crops, weights) -> tf.Tensor:
    """Crops as far as they can be believed, pixel by pixel: each counts the less, the farther it is from the average of
    those that look the same (an M-estimator, Geman & McClure 1985, by iteratively reweighted averages).

    What covered a thing at some moment, or was cut out a little off, is left out so, and averages stay sharp.

    Args:
        crops: colour, coverage and visibility, all times visibility, ``(batch, K, n, channel + 2, height, width)``.
        weights: of the crops in the average for each of them, ``(batch, K, n, n)``.

    Returns:
        The crops with less visibility.
    """
    colour, flat = crops[:, :, :, :-2] / (crops[:, :, :, -1:] + 1e-3), tf.concat([tf.shape(crops)[:3], [-1]], 0)
    found = crops
    for _ in range(_ROUNDS):
        mean = tf.reshape(tf.matmul(weights, tf.reshape(found, flat)), tf.shape(crops))
        mean = mean[:, :, :, :-2] / (mean[:, :, :, -1:] + 1e-3)
        apart = tf.reduce_sum(tf.square(colour - mean), 3, keepdims=True) / _APART**2
        found = crops * (tf.square(1.0 / (1.0 + apart)) + 1e-3)
    return found


def period_of(unlike, usable) -> tf.Tensor:
    """The lag whose moments are least unlike, compared with those of shorter lags (de Cheveigne & Kawahara, "YIN",
    2002): int32 ``(batch, K)``.

    Args:
        unlike: of ``unlikeness``.
        usable: 1 for a moment to go by, else 0, ``(batch, K, n)``.
    """
    count = unlike.shape[-1]
    recent = _FORGETTING ** tf.range(count - 1.0, -0.5, -1.0)
    both = usable[..., :, None] * usable[..., None, :] * recent[:, None]
    lags = max(1, count - 2)
    # A row a lag, filled up with zeros; the first one, of no lag, is left out.
    pairs, different = (tf.linalg.diag_part(x, k=(-lags, 0))[..., 1:, :] for x in (both, unlike))
    number = tf.reduce_sum(pairs, -1)
    mean = tf.reduce_sum(pairs * different, -1) / (number + 1e-6)
    cost = tf.where(number > _PAIRS, mean, 1e3)
    relative = cost * tf.range(1.0, lags + 1.0) / (tf.cumsum(cost, -1) + 1e-6)
    return 1 + tf.argmin(relative, -1, tf.int32)
