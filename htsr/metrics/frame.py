"""Errors of frames, computed in float64 with NumPy: pure functions, ``(batch, time)`` out.

All take a prediction and the truth, floats ``(batch, time, height, width, channel)`` in [0, 1] (data range 1), and
raise ``InputError`` for anything else. NaN in, NaN out.
"""

from collections.abc import Iterator

import numpy as np

from htsr.errors import InputError

MAX_PSNR = 100.0
SSIM_WINDOW = 11


def mse(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean squared error per pixel and channel.

    Example:
        >>> float(mse(np.zeros((1, 1, 4, 4, 1)), np.full((1, 1, 4, 4, 1), 0.5))[0, 0])
        0.25
    """
    return _per_clip(_mean_square, prediction, truth)


def mae(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute error per pixel and channel."""
    return _per_clip(_mean_absolute, prediction, truth)


def mse_sum(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared error summed over the pixels and channels of a frame, the convention of the Moving MNIST tables."""
    return mse(prediction, truth) * _values_per_frame(truth)


def mae_sum(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Absolute error summed over the pixels and channels of a frame."""
    return mae(prediction, truth) * _values_per_frame(truth)


def psnr(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio, ``10 log10(1 / mse)`` dB over all channels; at most 100 dB, so never infinite."""
    return _decibels(mse(prediction, truth))


def ssim(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity: Gaussian window 11x11, stddev 1.5, valid positions, mean over positions and channels.

    ``K1 = 0.01, K2 = 0.03``, data range 1: the numbers of ``tf.image.ssim(prediction, truth, max_val=1)``.

    Raises:
        InputError: also for frames smaller than the window.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004, section III.B.
    """
    height, width = np.shape(truth)[2:4] if np.ndim(truth) == 5 else (SSIM_WINDOW, SSIM_WINDOW)
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"ssim needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, received {height}x{width}; "
            "use larger frames"
        )
    rows, columns = _gaussian_band(height), _gaussian_band(width).T.copy()
    return _per_clip(lambda a, b: _similarity(a, b, rows, columns), prediction, truth)


def frame_errors(prediction: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """``mse, mae, mse_sum, mae_sum, psnr, ssim`` by name, without computing a difference twice."""
    square, absolute = mse(prediction, truth), mae(prediction, truth)
    return {
        "mse": square,
        "mae": absolute,
        "mse_sum": square * _values_per_frame(truth),
        "mae_sum": absolute * _values_per_frame(truth),
        "psnr": _decibels(square),
        "ssim": ssim(prediction, truth),
    }


def _per_clip(function, prediction, truth) -> np.ndarray:
    """Apply a function of float64 ``(time, height, width, channel)`` clip by clip: temporaries stay small."""
    return np.stack([function(a, b) for a, b in _checked(prediction, truth)])


def _checked(prediction, truth) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 5 or truth.size == 0:
        raise InputError(
            "prediction and truth must have one shape (batch, time, height, width, channel) without empty axes, "
            f"received {prediction.shape} and {truth.shape}"
        )
    for name, frames in (("prediction", prediction), ("truth", truth)):
        if frames.dtype.kind != "f":
            raise InputError(f"{name} must be floats in [0, 1], received {frames.dtype}; divide bytes by 255")
        low, high = frames.min(), frames.max()
        if low < 0 or high > 1:
            raise InputError(f"{name} must lie in [0, 1], received [{low:.4g}, {high:.4g}]; clip it first")
    for a, b in zip(prediction, truth, strict=True):
        yield a.astype(np.float64), b.astype(np.float64)


def _values_per_frame(truth) -> int:
    return int(np.prod(np.shape(truth)[2:]))


def _mean_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(a - b).mean(axis=(1, 2, 3))


def _mean_absolute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b).mean(axis=(1, 2, 3))


def _decibels(square: np.ndarray) -> np.ndarray:
    return -10 * np.log10(np.maximum(square, 10 ** (-MAX_PSNR / 10)))


def _gaussian_band(size: int) -> np.ndarray:
    """``(size - 10, size)``: every row is the window at one valid position, so filtering is a product of matrices."""
    window = np.exp(-0.5 * ((np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) / 1.5) ** 2)
    window /= window.sum()
    band = np.zeros((size - SSIM_WINDOW + 1, size))
    for i, row in enumerate(band):
        row[i : i + SSIM_WINDOW] = window
    return band


def _similarity(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    a, b = (np.ascontiguousarray(np.moveaxis(x, -1, 1)) for x in (a, b))  # (time, channel, height, width)
    mean_a, mean_b, moment_ab, moment_sum = (rows @ (x @ columns) for x in (a, b, a * b, a * a + b * b))
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    luminance = (2 * product + 0.01**2) / (squares + 0.01**2)
    structure = (2 * (moment_ab - product) + 0.03**2) / (moment_sum - squares + 0.03**2)
    return (luminance * structure).mean(axis=(1, 2, 3))
