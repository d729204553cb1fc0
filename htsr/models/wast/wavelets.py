"""The Haar wavelets of WaST, and its loss on high frequencies."""

import numpy as np
import tensorflow as tf

# Low or high along time, rows and columns.
BANDS = ("LLL", "LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH")
_SCALE = 0.5**0.5


def haar(x) -> dict[str, tf.Tensor]:
    """Return the eight bands of a clip by name.

    Args:
        x: ``(batch, time, rows, columns, channels)``, the middle three even.

    Returns:
        Each ``(batch, time / 2, rows / 2, columns / 2, channels)``.
    """
    bands = [x]
    for axis in (1, 2, 3):
        bands = [part for band in bands for part in _split(band, axis)]
    return dict(zip(BANDS, bands, strict=True))


def inverse_haar(bands: dict[str, tf.Tensor]) -> tf.Tensor:
    """Invert ``haar``."""
    parts = [bands[name] for name in BANDS]
    for axis in (3, 2, 1):
        parts = [_join(low, high, axis) for low, high in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _split(x, axis: int):
    before = (slice(None),) * axis
    even, odd = x[(*before, slice(0, None, 2))], x[(*before, slice(1, None, 2))]
    return _SCALE * (even + odd), _SCALE * (even - odd)


def _join(low, high, axis: int):
    x = _SCALE * tf.stack([low + high, low - high], axis + 1)
    shape = low.shape.as_list()
    shape[axis] *= 2
    return tf.reshape(x, [-1, *shape[1:]])


def high_frequency_loss(frames, truth):
    r"""Return WaST's focal loss on high frequencies, per clip.

    Of the low band of a two-dimensional Haar transform of each frame the spectrum is taken. With D the squared
    distance of both spectra, :math:`w = \ln(1 + \sqrt{D})`, divided by its largest value in the frame and without a
    gradient, the loss is the mean of :math:`w D` over frames and frequencies, those near zero left out.

    Args:
        frames, truth: float32 ``(batch, time, height, width, channel)``, height and width even.

    Returns:
        ``(batch,)``.
    """
    error = tf.transpose(frames - truth, [0, 1, 4, 2, 3])
    low = 0.5 * sum(error[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    rows, columns = low.shape[-2:]
    spectrum = tf.signal.fft2d(tf.cast(low, tf.complex64))
    distance = (tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))) / (rows * columns)
    weight = tf.math.log1p(tf.sqrt(tf.stop_gradient(distance)))
    weight = tf.math.divide_no_nan(weight, tf.reduce_max(weight, [-2, -1], keepdims=True))
    return tf.reduce_mean(weight * distance * high_frequencies(rows, columns), [1, 2, 3, 4])


def high_frequencies(rows: int, columns: int) -> np.ndarray:
    """Return where a spectrum counts, float32 ``(rows, columns)``: 1, but 0 within a tenth of the longer side of its
    corners, where the low frequencies are."""
    row, column = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (rows, columns))
    return (np.hypot(row[:, None], column) > 0.1 * max(rows, columns)).astype(np.float32)
