"""Events forecast and observed: how often a quantity is at least a threshold in both, in one or in neither.

Every pixel and channel of a frame is one forecast of an event, and a frame gives the four counts of a contingency
table. Scores are computed from *pooled* counts: summed (or averaged, which is the same for a score) over clips, and
over lead times where one number is wanted. That is not the mean of the scores of clips or of lead times: pooling lets
an event weigh the same wherever it occurs, whereas a mean of scores gives a frame with one rainy pixel the weight of a
storm, and has to leave out or to invent the score of a frame without any event. Here a score without its events is
NaN ("n/a").

Reference: Wilks, Statistical Methods in the Atmospheric Sciences, third edition, 2011, section 8.2.
"""

from collections.abc import Sequence

import numpy as np

from htsr.errors import InputError
from htsr.metrics.frame import checked_pair, ratio


def event_counts(
    prediction: np.ndarray, truth: np.ndarray, thresholds: Sequence[float], units: tuple[float, float] = (0.0, 1.0)
) -> dict[str, np.ndarray]:
    """Contingency tables of every frame, an event being a quantity of at least a threshold.

    Pixels where the truth is NaN (not measured) are left out; a frame whose prediction is NaN anywhere else has counts
    of NaN, since neither "event" nor "no event" was forecast there. Thresholds are rounded to the precision of the
    frames, so that a quantity equal to the threshold is an event although it was stored as, say, float32 in [0, 1].

    Args:
        prediction: floats ``(batch, time, height, width, channel)`` in [0, 1].
        truth: the same shape.
        thresholds: quantities, see ``check_thresholds``.
        units: the quantities that 0 and 1 stand for.

    Returns:
        For every threshold ``hits@30``, ``misses@30``, ``false_alarms@30`` and ``correct_negatives@30``: pixels,
        float64 ``(batch, time)``.

    Raises:
        InputError: the frames differ in shape or are no floats in [0, 1], or a threshold is refused.

    Example:
        >>> forecast, observed = np.array([[0.9, 0.9, 0.2, 0.2]]), np.array([[0.9, 0.2, 0.9, np.nan]])
        >>> counts = event_counts(*(x.reshape(1, 1, 1, 4, 1) for x in (forecast, observed)), [50], units=(0, 100))
        >>> {name: int(count[0, 0]) for name, count in counts.items()}
        {'hits@50': 1, 'misses@50': 1, 'false_alarms@50': 1, 'correct_negatives@50': 0}
    """
    check_thresholds(thresholds, units)
    prediction, truth = checked_pair(prediction, truth)
    low, high = units
    measured = ~np.isnan(truth)
    unknown = (np.isnan(prediction) & measured).any(axis=(2, 3, 4))
    pixels = _count(measured)
    counts = {}
    for threshold in thresholds:
        level = float(
            (threshold - low) / (high - low)
        )  # a Python float takes on the precision of what it is compared to
        forecast, observed = (prediction >= level) & measured, truth >= level
        hits = _count(forecast & observed)
        misses, false_alarms = _count(observed) - hits, _count(forecast) - hits
        table = {
            "hits": hits,
            "misses": misses,
            "false_alarms": false_alarms,
            "correct_negatives": pixels - hits - misses - false_alarms,
        }
        counts |= {f"{name}@{threshold:g}": np.where(unknown, np.nan, count) for name, count in table.items()}
    return counts


def check_thresholds(thresholds: Sequence[float], units: tuple[float, float] = (0.0, 1.0)) -> None:
    """Refuse thresholds that do not increase, that every or no pixel can reach, or that print alike (``%g``)."""
    low, high = units
    if not -np.inf < low < high < np.inf:
        raise InputError(f"units must be two finite quantities, the lower one first, received ({low}, {high})")
    received = f"received {', '.join(map(str, thresholds)) or 'none'}"
    if len(thresholds) < 1 or not all(low < threshold <= high for threshold in thresholds):
        raise InputError(
            f"thresholds must be one or more quantities above {low:g} and at most {high:g}, which frames of [0, 1] "
            f"stand for, {received}"
        )
    names = [f"{threshold:g}" for threshold in thresholds]
    if sorted(set(thresholds)) != list(thresholds) or len(set(names)) < len(names):
        raise InputError(f"thresholds must increase and differ in their first six digits, {received}; sort them")


def csi(hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray) -> np.ndarray:
    """Critical success index (threat score): hits over all events that were forecast or observed."""
    return ratio(hits, hits + misses + false_alarms)


def pod(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """Probability of detection (hit rate): the share of observed events that were forecast."""
    return ratio(hits, hits + misses)


def far(hits: np.ndarray, false_alarms: np.ndarray) -> np.ndarray:
    """False alarm *ratio*: the share of forecast events that were not observed; not the false alarm rate."""
    return ratio(false_alarms, hits + false_alarms)


def bias(hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray) -> np.ndarray:
    """Frequency bias: events forecast per event observed, 1 when there are as many."""
    return ratio(hits + false_alarms, hits + misses)


def hss(hits: np.ndarray, misses: np.ndarray, false_alarms: np.ndarray, correct_negatives: np.ndarray) -> np.ndarray:
    """Heidke skill score: correct forecasts beyond those of chance, as a share of the most possible; 0 is chance."""
    skill = 2 * (hits * correct_negatives - misses * false_alarms)
    most = (hits + misses) * (misses + correct_negatives) + (hits + false_alarms) * (false_alarms + correct_negatives)
    return ratio(skill, most)


def _count(pixels: np.ndarray) -> np.ndarray:
    return np.count_nonzero(pixels, axis=(2, 3, 4))
