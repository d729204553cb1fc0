"""Errors of frames, computed in float64 with NumPy: pure functions, ``(batch, time)`` out.

Frames are floats ``(batch, time, height, width, channel)`` in [0, 1] (data range 1), truth and prediction of one shape;
``InputError`` for anything else. NaN anywhere in a frame, of the prediction or of the truth, makes its values NaN.
"""

from collections.abc import Callable

import numpy as np

from htsr.errors import InputError

MAX_PSNR = 100.0
SSIM_WINDOW = 11
MOVES = 0.1  # a pixel that differs by more from the context's median moves
_BLOCK_VALUES = 2**15  # values of the frames computed at once (8 grey frames of 64x64), which stay in a CPU's cache


def mse(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean squared error per pixel and channel.

    Example:
        >>> float(mse(np.zeros((1, 1, 4, 4, 1)), np.full((1, 1, 4, 4, 1), 0.5))[0, 0])
        0.25
    """
    return _per_frame(_mean_square, *checked_pair(prediction, truth))


def mae(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute error per pixel and channel."""
    return _per_frame(_mean_absolute, *checked_pair(prediction, truth))


def mse_sum(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared error summed over the pixels and channels of a frame, the convention of the Moving MNIST tables."""
    return mse(prediction, truth) * _values_per_frame(truth)


def mae_sum(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Absolute error summed over the pixels and channels of a frame."""
    return mae(prediction, truth) * _values_per_frame(truth)


def rmse(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root of the mean squared error of each frame; its mean over frames is at most the root of their mean MSE."""
    return np.sqrt(mse(prediction, truth))


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
    prediction, truth = checked_pair(prediction, truth)
    bands = _gaussian_bands(truth.shape)
    return _per_frame(lambda a, b: _similarity(a, b, *bands), prediction, truth)


def moving_psnr(prediction: np.ndarray, truth: np.ndarray, median: np.ndarray) -> dict[str, np.ndarray]:
    """PSNR of the pixels that move: those of the truth that differ from the context's median.

    A still background, however well it is predicted, hides nothing here.

    Args:
        prediction: floats ``(batch, time, height, width, channel)`` in [0, 1].
        truth: the same shape.
        median: of the context, ``(batch, 1, height, width, channel)``.

    Returns:
        ``psnr_of_moving``, in dB, at most 100, and ``moves``, 1 in frames with a pixel that differs by more than 0.1 in
        any channel; both 0 where nothing moves. The mean of the one over the mean of the other is the PSNR of the
        frames in which something moves.

    Example:
        >>> black, spot = np.zeros((1, 1, 2, 2, 1)), np.eye(2).reshape(1, 1, 2, 2, 1)
        >>> {name: float(value[0, 0]) for name, value in moving_psnr(0.9 * spot, spot, black).items()}
        {'psnr_of_moving': 20.0, 'moves': 1.0}
    """
    prediction, truth = checked_pair(prediction, truth)
    moving = (np.abs(truth - median) > MOVES).any(axis=-1)
    square = np.square(prediction.astype(np.float64) - truth).mean(axis=-1)
    pixels = np.count_nonzero(moving, axis=(2, 3))
    mean = np.where(moving, square, 0).sum(axis=(2, 3)) / np.maximum(pixels, 1)
    value = np.where(pixels > 0, _decibels(mean), 0.0)
    return {"psnr_of_moving": np.where(np.isnan(square).any(axis=(2, 3)), np.nan, value), "moves": 1.0 * (pixels > 0)}


def gradient(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of vertical neighbours plus that of horizontal ones, over pixels and channels.

    Blur lowers it. The mean gradient of predictions over that of the truth, both averaged over clips first, is their
    sharpness: 1 says as sharp as the truth.

    Args:
        frames: floats ``(batch, time, height, width, channel)`` in [0, 1], at least 2x2 pixels.

    Example:
        >>> float(gradient(np.eye(2).reshape(1, 1, 2, 2, 1))[0, 0])
        2.0

    References:
        Mathieu et al., Deep multi-scale video prediction beyond mean square error, 2015 (arXiv 1511.05440): the image
        gradients of eq. 6.
    """
    frames = np.asarray(frames)
    if frames.ndim != 5 or frames.size == 0 or min(frames.shape[2:4]) < 2:
        raise InputError(
            "gradient needs frames (batch, time, height, width, channel) of at least 2x2 pixels, received shape "
            f"{frames.shape}"
        )
    check_range("frames", frames)
    return _per_frame(_gradient, frames)


def frame_errors(prediction: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Every error of this module by name, in one pass over the frames.

    ``mse, mae, rmse, mse_sum, mae_sum, psnr``, ``ssim`` where frames are as large as its window, and as ``gradient``
    and ``gradient_truth`` the gradients of the prediction and of the truth.
    """
    prediction, truth = checked_pair(prediction, truth)
    large = min(truth.shape[2:4]) >= SSIM_WINDOW
    bands = _gaussian_bands(truth.shape) if large else ()
    computed = [_mean_square, _mean_absolute, lambda a, b: _gradient(a), lambda a, b: _gradient(b)]
    computed += [lambda a, b: _similarity(a, b, *bands)] if large else []
    square, absolute, gradient_prediction, gradient_truth, *similarity = _per_frame(
        lambda a, b: np.stack([compute(a, b) for compute in computed]), prediction, truth
    )
    return {
        "mse": square,
        "mae": absolute,
        "rmse": np.sqrt(square),
        "mse_sum": square * _values_per_frame(truth),
        "mae_sum": absolute * _values_per_frame(truth),
        "psnr": _decibels(square),
        **({"ssim": similarity[0]} if large else {}),
        "gradient": gradient_prediction,
        "gradient_truth": gradient_truth,
    }


def checked_pair(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the precision they have, or ``InputError``."""
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 5 or truth.size == 0:
        raise InputError(
            "prediction and truth must have one shape (batch, time, height, width, channel) without empty axes, "
            f"received {prediction.shape} and {truth.shape}"
        )
    check_range("prediction", prediction)
    check_range("truth", truth)
    return prediction, truth


def check_range(name: str, frames: np.ndarray) -> None:
    """Refuse frames that are not floats in [0, 1] or NaN."""
    if frames.dtype.kind != "f":
        raise InputError(f"{name} must be floats in [0, 1], received {frames.dtype}; divide bytes by 255")
    low, high = np.fmin.reduce(frames, axis=None), np.fmax.reduce(frames, axis=None)  # NaN hides no other value
    if low < 0 or high > 1:
        raise InputError(f"{name} must lie in [0, 1], received [{low:.4g}, {high:.4g}]; clip it first")


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A score that is a ratio, NaN where it is not defined because the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, np.float64), denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)[()]


def _per_frame(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Apply a function of float64 ``(time, height, width, channel)`` that returns ``(..., time)``, to blocks of clips.

    Returns:
        ``(..., batch, time)``.
    """
    batch, time = arrays[0].shape[:2]
    length = max(1, _BLOCK_VALUES // _values_per_frame(arrays[0]))
    clips = []
    for i in range(batch):
        blocks = ([x[i, t : t + length].astype(np.float64) for x in arrays] for t in range(0, time, length))
        clips.append(np.concatenate([function(*block) for block in blocks], axis=-1))
    return np.stack(clips, axis=-2)


def _values_per_frame(frames) -> int:
    return int(np.prod(np.shape(frames)[2:]))


def _mean_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(a - b).mean(axis=(1, 2, 3))


def _mean_absolute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b).mean(axis=(1, 2, 3))


def _gradient(x: np.ndarray) -> np.ndarray:
    return _mean_absolute(x[:, 1:], x[:, :-1]) + _mean_absolute(x[:, :, 1:], x[:, :, :-1])


def _decibels(square: np.ndarray) -> np.ndarray:
    return -10 * np.log10(np.maximum(square, 10 ** (-MAX_PSNR / 10)))


def _gaussian_bands(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What to multiply frames of arrays ``(batch, time, height, width, channel)`` with from the left and the right."""
    height, width = shape[2:4]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"ssim needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, received {height}x{width}; "
            "use larger frames"
        )
    return _gaussian_band(height), _gaussian_band(width).T.copy()


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
