"""Statistics over clips: bootstrap intervals, and p-values of paired differences.

Intervals are percentile bootstrap intervals (Efron 1979): clips are drawn with replacement, whole. p-values are of the
sign-flip permutation test of the mean difference (two-sided; Good, Permutation Tests, 2000), corrected for the number
of comparisons (Holm 1979).
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from htsr.metrics.metric import Column

CONFIDENCE = 0.95
RESAMPLES = 1000
SIGN_FLIPS = 10_000
_BLOCK = 64  # lead times that are resampled at once
_FLIPS_AT_ONCE = 1000


class Reduced(NamedTuple):
    """A column of one series: what it is, how to read its components at a slice of lead times, clips and lead times."""

    name: str
    column: Column
    readers: tuple[Callable[[slice], np.ndarray], ...]
    shape: tuple[int, ...]

    def combine(self, means: list[np.ndarray]) -> np.ndarray:
        """The column of the means of its components."""
        return means[0] if self.column.combine is None else self.column.combine(*means)


def curve_of(columns: list[Reduced], weights: np.ndarray) -> dict[str, Any]:
    """Reduce a column, or the difference of two, to its curve over the same resampled clips."""
    clips, leads = columns[0].shape
    totals = [[np.zeros(clips) for _ in column.readers] for column in columns]
    blocks = []
    for begin in range(0, leads, _BLOCK):
        part = slice(begin, min(begin + _BLOCK, leads))
        values = [[read(part) for read in column.readers] for column in columns]
        blocks.append(_reduced(columns, values, weights))
        for column, total in zip(values, totals, strict=True):
            for i, component in enumerate(column):
                total[i] += component.sum(axis=1)
    mean, low, high = (np.concatenate(ends) for ends in zip(*blocks, strict=True))
    over_horizon = [[total[:, None] / leads for total in column] for column in totals]
    whole = (end[0] for end in _reduced(columns, over_horizon, weights))
    curve = {
        "mean": mean,
        "low": low,
        "high": high,
        "horizon_mean": dict(zip(("mean", "low", "high"), whole, strict=True)),
    }
    if any("@" in column.name for column in columns):
        defined = mean[np.isfinite(mean)]
        curve["undefined"] = mean.size - defined.size
        curve["over_leads"] = float(defined.mean()) if defined.size else np.nan
    return curve


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the mean over clips.

    Args:
        values: ``(clip, ...)``.
        seed: of the 1000 resamples; one seed draws the same clips for every array with that many clips.

    Returns:
        Lower and upper ends, float64 ``(...)``; NaN for a single clip, about which nothing can be said.
    """
    values = np.asarray(values, np.float64)
    low, high = _interval(resampling(len(values), seed) @ values.reshape(len(values), -1))
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def resampling(num_clips: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights ``(resample, clip)``, rows summing to 1; NaN for a single clip."""
    if num_clips < 2:
        return np.full((1, num_clips), np.nan)
    equal = np.full(num_clips, 1 / num_clips)
    return np.random.default_rng(seed).multinomial(num_clips, equal, size=RESAMPLES) / num_clips


def sign_flip_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference under random signs; the observed signs count as one of the draws.

    Args:
        differences: one a clip, float ``(clip,)``.
        seed: of the draws.

    Returns:
        NaN where a difference is not a number.
    """
    if not np.isfinite(differences).all():
        return float("nan")
    rng = np.random.default_rng(seed)
    observed = abs(differences.mean())
    extreme = 0
    for _ in range(0, SIGN_FLIPS, _FLIPS_AT_ONCE):
        signs = rng.choice([-1.0, 1.0], size=(_FLIPS_AT_ONCE, len(differences)))
        extreme += int((np.abs(signs @ differences) / len(differences) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (SIGN_FLIPS + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979); those that are NaN stay so and do not count.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected = {name: p for name, p in p_values.items() if math.isnan(p)}
    found, most = {name: p for name, p in p_values.items() if name not in corrected}, 0.0
    for rank, (name, p) in enumerate(sorted(found.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(found) - rank) * p))
        corrected[name] = most
    return corrected


def _reduced(
    columns: list[Reduced], values: list[list[np.ndarray]], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and interval ``(lead time,)`` of components ``(clip, lead time)``, combined; the difference of two columns.

    An infinite value (an exact frame, in conventions that allow it) leaves the mean infinite and no interval.
    """

    def combined(average: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        first, *rest = (
            column.combine([average(component) for component in components])
            for column, components in zip(columns, values, strict=True)
        )
        return first - rest[0] if rest else first

    with np.errstate(invalid="ignore"):
        mean = combined(lambda component: component.mean(axis=0))
        resampled = combined(lambda component: weights @ component)
    return mean, *_interval(resampled)


def _interval(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of ``(resample, value)``; resamples in which a ratio is undefined are left out."""
    tail = (1 - CONFIDENCE) / 2
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        partial = np.isnan(resampled).any(axis=0)  # NumPy takes these one by one, which is slow
        if partial.any():
            low[partial], high[partial] = np.nanquantile(resampled[:, partial], [tail, 1 - tail], axis=0)
    return low, high
