"""Sampled futures as a forecast of a distribution: is the truth one more sample of it?

The fair continuous ranked probability score (CRPS) of members ``x_1 … x_K`` and truth ``y``, per pixel,

    ``mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 K (K - 1))``,

has the same expectation for every number of members, and members drawn as the truth is minimise that expectation
(Ferro, Fair scores for ensemble forecasts, 2014, doi 10.1002/qj.2270). It is the absolute error for a forecast without
spread, and never negative. Spread is reliable when the variance of the members predicts the squared error of their
mean (Fortin et al., Why should ensemble spread match the RMSE of the ensemble mean?, 2014, doi
10.1175/JHM-D-14-0008.1).
"""

import numpy as np

from htsr.errors import InputError
from htsr.metrics.frame import check_range, ratio


def ensemble_errors(samples: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """``crps``, ``variance`` and ``mse_of_mean``, averaged over the pixels and channels of each frame.

    In float64, one frame of all samples at a time. NaN in a frame of any sample or of the truth makes its values NaN.

    Args:
        samples: floats ``(num_samples, batch, time, height, width, channel)`` in [0, 1], at least two samples.
        truth: the same without the first axis.

    Returns:
        Fair CRPS, variance of the samples (over ``num_samples - 1``) and squared error of their mean; float64
        ``(batch, time)`` each.

    Raises:
        InputError: for fewer samples, other shapes or values.

    Example:
        >>> errors = ensemble_errors(np.array([0.25, 0.75]).reshape(2, 1, 1, 1, 1, 1), np.ones((1, 1, 1, 1, 1)))
        >>> {name: float(error[0, 0]) for name, error in errors.items()}
        {'crps': 0.25, 'variance': 0.125, 'mse_of_mean': 0.25}
    """
    samples, truth = np.asarray(samples), np.asarray(truth)
    if samples.ndim != 6 or len(samples) < 2 or samples.shape[1:] != truth.shape or samples.size == 0:
        raise InputError(
            "samples must have shape (num_samples, batch, time, height, width, channel) with at least two samples and "
            f"truth the same without the first axis, received {samples.shape} and {truth.shape}"
        )
    check_range("samples", samples)
    check_range("truth", truth)
    errors = {name: np.empty(truth.shape[:2]) for name in ("crps", "variance", "mse_of_mean")}
    for clip, lead in np.ndindex(truth.shape[:2]):
        values = _frame_errors(samples[:, clip, lead], truth[clip, lead])
        for name, value in zip(errors, values, strict=True):
            errors[name][clip, lead] = value
    return errors


def spread_skill(variance: np.ndarray, mse_of_mean: np.ndarray, num_samples: int) -> np.ndarray:
    """Spread over skill, ``sqrt((K + 1) / K variance / mse_of_mean)``: 1 is reliable, below 1 overconfident.

    The truth lies as far from the mean of all futures as a sample does, and ``K`` samples know that mean only up to
    ``variance / K``: hence ``(K + 1) / K`` (Fortin et al. 2014).

    Args:
        variance, mse_of_mean: of ``ensemble_errors``, averaged over clips (and lead times): a ratio of means, since
            the ratio of a single frame says little.
        num_samples: ``K``.

    Returns:
        The ratio, NaN where ``mse_of_mean`` is 0.

    Example:
        >>> float(spread_skill(0.5, 0.75, num_samples=2))
        1.0
    """
    return np.sqrt((num_samples + 1) / num_samples * ratio(variance, mse_of_mean))


def _frame_errors(samples: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """CRPS, variance and squared error of the mean of one frame; samples ``(num_samples, height, width, channel)``."""
    number = len(samples)
    members = np.ascontiguousarray(samples.reshape(number, -1).T)  # sorting neighbours in memory is faster
    members.sort(axis=-1)
    deviations = members - truth.reshape(-1, 1).astype(np.float64)
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - K - 1) x_(i) for the sorted members x_(1) ... x_(K)
    weights = (2 * np.arange(1, number + 1) - number - 1) / (number * (number - 1))
    crps = np.abs(deviations).mean() - (weights * deviations.mean(axis=0)).sum()
    return crps, deviations.var(axis=1, ddof=1).mean(), np.square(deviations.mean(axis=1)).mean()
