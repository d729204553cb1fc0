"""Every metric, in one table: what it is in words, which direction is better, how it is computed.

Most columns of a result are the mean of a recorded metric over clips. Others are ratios or roots *of means*, so that
every clip weighs by what it has of the matter: a clip without rain adds nothing to a CSI. Those are functions of
several recorded values, their components. A metric is added by a function and a line of the table.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from htsr.metrics.ensemble import spread_skill
from htsr.metrics.events import bias, csi, far, hss, pod
from htsr.metrics.frame import moving_psnr, ratio


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: of its column.
        label: in words, for plots and reports.
        better: ``higher``, ``lower``, or None where neither is.
        form: how a value is printed.
        compute: a function of prediction and truth, floats ``(batch, time, height, width, channel)`` in [0, 1], to
            ``(batch, time)``, or to several such arrays by name, the components. None for metrics that one pass
            records together: errors of frames, events, digits, samples.
        definition: what exactly it is; a result says it.
        headline: its place among the few that the terminal and the cards show; None for the others.
        plotted: whether its curve is drawn.
        components: the recorded values it is made of; () for itself.
        combine: of the means of the components; None for a single one as it is.
        takes: what ``combine`` takes besides: ``num_samples`` or ``units``, what the range 0 … 1 of a pixel stands for.
        needs_median: ``compute`` also takes the context's median, ``(batch, 1, height, width, channel)``.
        conventional: whether other projects compute it in their own way (``htsr.metrics.conventions``).
    """

    name: str
    label: str
    better: str | None
    form: str
    compute: Callable[..., np.ndarray | dict[str, np.ndarray]] | None = None
    definition: str = ""
    headline: int | None = None
    plotted: bool = False
    components: tuple[str, ...] = ()
    combine: Callable[..., np.ndarray] | None = None
    takes: tuple[str, ...] = ()
    needs_median: bool = False
    conventional: bool = False


class Column(NamedTuple):
    """A metric as reported: with a convention in front (``openstl.psnr``) or a threshold behind (``csi@30``)."""

    metric: Metric
    label: str
    components: tuple[str, ...]
    combine: Callable[..., np.ndarray] | None = None


def _root(mse: np.ndarray, units: float) -> np.ndarray:
    return units * np.sqrt(mse)


def _scaled(mae: np.ndarray, units: float) -> np.ndarray:
    return units * mae


_SMALL, _HITS = "#.4g", ("hits", "misses", "false_alarms")
_TABLE = [
    Metric("mse", "MSE per pixel", "lower", _SMALL, conventional=True, plotted=True,
           definition="clipped, mean of the squared error over pixels and channels"),
    Metric("mae", "MAE per pixel", "lower", _SMALL, conventional=True, plotted=True,
           definition="clipped, mean of the absolute error over pixels and channels"),
    Metric("rmse", "RMSE per frame", "lower", _SMALL, conventional=True, definition="root of mse, frame by frame"),
    Metric("mse_sum", "MSE, sum over the frame", "lower", _SMALL, conventional=True,
           definition="clipped, sum of the squared error over pixels and channels"),
    Metric("mae_sum", "MAE, sum over the frame", "lower", _SMALL, conventional=True,
           definition="clipped, sum of the absolute error over pixels and channels"),
    Metric("psnr", "PSNR (dB)", "higher", ".2f", headline=1, plotted=True, conventional=True,
           definition="clipped, over pixels and channels, range 1; 100 dB at most"),
    Metric("ssim", "SSIM", "higher", ".3f", headline=2, plotted=True, conventional=True,
           definition="clipped, Gaussian window 11x11 of stddev 1.5, range 1, mean over channels"),
    Metric("lpips", "LPIPS", "lower", ".3f", headline=3, plotted=True, conventional=True,
           definition="AlexNet v0.1, prediction clipped, [0, 1] mapped to [-1, 1]"),
    Metric("sharp", "sharp: largest Laplacian, grey levels", None, ".1f"),
    Metric("crps", "CRPS per pixel", "lower", _SMALL,
           definition="fair continuous ranked probability score of the samples, mean over pixels and channels"),
    Metric("digits_count", "frames with the right number of digits", "higher", ".2f", plotted=True,
           definition="share of frames in which a detector finds as many digits as there are"),
    Metric("digits_identity", "digits recognised", "higher", ".2f", plotted=True,
           definition="share of digits a classifier names right: one, at the centre of the ink; several, in place"),
    Metric("digits_place", "digits within 4 px of their place", "higher", ".2f", headline=4, plotted=True,
           definition="share of digits found within 4 pixels of their true centre"),
    Metric("rmse_pooled", "root of the pooled MSE, in the data's units", "lower", _SMALL,
           components=("mse",), combine=_root, takes=("units",),
           definition="root of the mean of mse over clips (and lead times), in the data's units"),
    Metric("mae_in_units", "mean absolute error, in the data's units", "lower", _SMALL,
           components=("mae",), combine=_scaled, takes=("units",),
           definition="mean of mae over clips (and lead times), in the data's units"),
    Metric("psnr_moving", "PSNR of moving pixels (dB)", "higher", ".2f", moving_psnr, headline=6, plotted=True,
           components=("psnr_of_moving", "moves"), combine=ratio, needs_median=True,
           definition="PSNR of the pixels that differ from the context's median by more than 0.1 in any channel; at "
           "most 100 dB; frames in which nothing moves are left out"),
    Metric("sharpness", "sharpness, 1 is that of the truth", None, ".3f", headline=7, plotted=True,
           components=("gradient", "gradient_truth"), combine=ratio,
           definition="mean absolute difference of neighbouring pixels, prediction's over truth's, pooled"),
    Metric("spread", "spread of the samples, stddev", None, _SMALL, components=("variance",), combine=np.sqrt,
           definition="root of the samples' variance, pooled over pixels and clips"),
    Metric("spread_skill", "spread over skill, 1 is reliable", None, ".3f",
           components=("variance", "mse_of_mean"), combine=spread_skill, takes=("num_samples",),
           definition="root of (K + 1) / K times the samples' variance over their mean's squared error, each pooled"),
    Metric("csi", "CSI", "higher", ".3f", headline=5, components=_HITS, combine=csi,
           definition="hits over hits, misses and false alarms, pixels pooled over clips; undefined without any"),
    Metric("pod", "probability of detection", "higher", ".3f", components=("hits", "misses"), combine=pod,
           definition="hits over hits and misses, pooled"),
    Metric("far", "false alarm ratio", "lower", ".3f", components=("hits", "false_alarms"), combine=far,
           definition="false alarms over hits and false alarms, pooled"),
    Metric("bias", "frequency bias, 1 is right", None, ".3f", components=_HITS, combine=bias,
           definition="hits and false alarms over hits and misses, pooled"),
    Metric("hss", "Heidke skill score", "higher", ".3f", components=(*_HITS, "correct_negatives"), combine=hss,
           definition="right pixels beyond those of chance over all pixels beyond those of chance, pooled"),
]  # fmt: skip
METRICS = {metric.name: metric for metric in _TABLE}


def columns(recorded: Iterable[str], num_samples: int = 1, units: float = 1.0) -> dict[str, Column]:
    """Return the columns that recorded values give, by name.

    Args:
        recorded: names of recorded values, those of a convention with its name in front (``openstl.mse``), those of a
            threshold with it behind (``hits@30``).
        num_samples: futures a clip.
        units: what the range 0 … 1 of a pixel stands for.

    Example:
        >>> list(columns(["mse", "psnr", "hits@0.5", "misses@0.5", "false_alarms@0.5", "correct_negatives@0.5"]))
        ['mse', 'psnr', 'rmse_pooled', 'csi@0.5', 'pod@0.5', 'far@0.5', 'bias@0.5', 'hss@0.5']
    """
    recorded, given = list(recorded), {"num_samples": num_samples, "units": units}
    found = {}
    for name in recorded:
        mode, _, bare = name.rpartition(".") if "@" not in name else ("", "", "")
        if bare in METRICS and not METRICS[bare].components:
            metric = METRICS[bare]
            label = f"{bare.upper()}, convention of {mode}" if mode else metric.label
            found[name] = Column(metric, label, (name,))
    thresholds = dict.fromkeys(name.partition("@")[2] for name in recorded)
    for threshold in thresholds:
        for metric in METRICS.values():
            behind = f"@{threshold}" if threshold else ""
            components = tuple(f"{component}{behind}" for component in metric.components)
            if not components or not set(components) <= set(recorded) or (metric.combine is _scaled and units == 1):
                continue
            extra = {name: given[name] for name in metric.takes}
            combine = functools.partial(metric.combine, **extra) if extra else metric.combine
            label = f"{metric.label} at {threshold}" if threshold else metric.label
            found[f"{metric.name}{behind}"] = Column(metric, label, components, combine)
    return found
