"""What is reported of the recorded metrics: names in words, which direction is better, and how columns come about.

Most columns are the mean of a recorded metric over clips. Others are ratios or roots *of means*, so that every clip
weighs by what it has of the matter: a clip without rain adds nothing to a CSI. Those are functions of several recorded
metrics, their components.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from htsr.metrics.ensemble import spread_skill
from htsr.metrics.events import EVENT_SCORES
from htsr.metrics.frame import ratio


class Column(NamedTuple):
    """A reported quantity.

    Attributes:
        label: in words, for plots and reports.
        better: ``higher``, ``lower``, or None where neither is.
        form: how a value is printed.
        components: the recorded metrics it is made of.
        combine: of the means of the components; None for a single one as it is.
    """

    label: str
    better: str | None
    form: str
    components: tuple[str, ...]
    combine: Callable[..., np.ndarray] | None = None


_PLAIN = {
    "mse": ("MSE per pixel", "lower", "#.4g"),
    "mae": ("MAE per pixel", "lower", "#.4g"),
    "mse_sum": ("MSE, sum over the frame", "lower", "#.4g"),
    "mae_sum": ("MAE, sum over the frame", "lower", "#.4g"),
    "rmse": ("RMSE per frame", "lower", "#.4g"),
    "psnr": ("PSNR (dB)", "higher", ".2f"),
    "ssim": ("SSIM", "higher", ".3f"),
    "lpips": ("LPIPS", "lower", ".3f"),
    "crps": ("CRPS per pixel", "lower", "#.4g"),
    "sharp": ("sharp: largest Laplacian, grey levels", None, ".1f"),
    "digits_count": ("frames with the right number of digits", "higher", ".2f"),
    "digits_identity": ("digits recognised", "higher", ".2f"),
    "digits_place": ("digits within 4 px of their place", "higher", ".2f"),
}
_EVENTS = {
    "csi": ("CSI", "higher"),
    "pod": ("probability of detection", "higher"),
    "far": ("false alarm ratio", "lower"),
    "bias": ("frequency bias, 1 is right", None),
    "hss": ("Heidke skill score", "higher"),
}
DEFINITIONS = {
    "rmse_pooled": "root of the mean of mse over clips (and lead times), in the data's units",
    "mae_in_units": "mean of mae over clips (and lead times), in the data's units",
    "sharpness": "mean absolute difference of neighbouring pixels, of the prediction over that of the truth, pooled",
    "crps": "fair continuous ranked probability score of the samples, mean over pixels and channels",
    "spread": "root of the samples' variance, pooled over pixels and clips",
    "spread_skill": "root of (K + 1) / K times the samples' variance over the squared error of their mean, each pooled",
    "csi": "hits over hits, misses and false alarms, counts of pixels pooled over clips; undefined without any",
    "pod": "hits over hits and misses, pooled",
    "far": "false alarms over hits and false alarms, pooled",
    "bias": "hits and false alarms over hits and misses, pooled",
    "hss": "right pixels beyond those of chance over all pixels beyond those of chance, pooled",
    "digits_count": "share of frames in which a detector finds as many digits as there are",
    "digits_identity": "share of digits a classifier names right: one, at the centre of the ink; several, in place",
    "digits_place": "share of digits found within 4 pixels of their true centre",
}
_COMPONENTS = ("gradient", "gradient_truth", "variance", "mse_of_mean")  # recorded, but not columns by themselves


def columns(metrics: Iterable[str], num_samples: int = 1, units: float = 1.0) -> dict[str, Column]:
    """The columns that recorded metrics give, by name.

    Args:
        metrics: names of recorded metrics, those of a mode with its name in front (``openstl.mse``).
        num_samples: futures a clip, for spread–skill.
        units: what the range 0 … 1 of a pixel stands for, for ``rmse_pooled`` and ``mae_in_units``.

    Example:
        >>> list(columns(["mse", "psnr", "hits@0.5", "misses@0.5", "false_alarms@0.5", "correct_negatives@0.5"]))
        ['mse', 'psnr', 'rmse_pooled', 'csi@0.5', 'pod@0.5', 'far@0.5', 'bias@0.5', 'hss@0.5']
    """
    metrics = list(metrics)
    found = {}
    for metric in metrics:
        mode, _, name = metric.rpartition(".") if "@" not in metric else ("", "", metric)
        if name not in _COMPONENTS and "@" not in metric:
            label, better, form = _PLAIN[name]
            found[metric] = Column(f"{name.upper()}, convention of {mode}" if mode else label, better, form, (metric,))
    if "mse" in metrics:
        found["rmse_pooled"] = Column(
            "root of the pooled MSE, in the data's units", "lower", "#.4g", ("mse",), lambda mse: units * np.sqrt(mse)
        )
    if "mae" in metrics and units != 1:
        found["mae_in_units"] = Column(
            "mean absolute error, in the data's units", "lower", "#.4g", ("mae",), lambda mae: units * mae
        )
    if "gradient" in metrics:
        found["sharpness"] = Column(
            "sharpness, 1 is that of the truth", None, ".3f", ("gradient", "gradient_truth"), ratio
        )
    if "variance" in metrics:
        found["spread"] = Column("spread of the samples, stddev", None, "#.4g", ("variance",), np.sqrt)
        found["spread_skill"] = Column(
            "spread over skill, 1 is reliable",
            None,
            ".3f",
            ("variance", "mse_of_mean"),
            lambda variance, mse_of_mean: spread_skill(variance, mse_of_mean, num_samples),
        )
    for threshold in [metric.removeprefix("hits@") for metric in metrics if metric.startswith("hits@")]:
        for score, (components, combine) in EVENT_SCORES.items():
            label, better = _EVENTS[score]
            names = tuple(f"{component}@{threshold}" for component in components)
            found[f"{score}@{threshold}"] = Column(f"{label} at {threshold}", better, ".3f", names, combine)
    return found
