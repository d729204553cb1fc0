"""Predictions that anyone can make: what a model has to beat."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Baseline(NamedTuple):
    """A baseline.

    Attributes:
        what: it predicts, in words.
        predict: one frame from the context ``(batch, time, height, width, channel)``, for all lead times:
            ``(batch, 1, height, width, channel)``.
    """

    what: str
    predict: Callable[[np.ndarray], np.ndarray]


BASELINES = {
    "copy_last": Baseline("the last context frame, repeated", lambda context: context[:, -1:]),
    "mean_frame": Baseline("the mean of the context frames, repeated", lambda context: context.mean(1, keepdims=True)),
    "median_frame": Baseline(
        "the median of the context frames, repeated",
        lambda context: np.median(context, 1, keepdims=True),
    ),
    "black": Baseline("black frames", lambda context: np.zeros_like(context[:, :1])),
}
MODEL, TRUTH = "model", "truth"
SERIES = {
    MODEL: "the model's predictions",
    **{name: baseline.what for name, baseline in BASELINES.items()},
    TRUTH: "the true frames themselves: the ceiling of what is read from frames",
}
