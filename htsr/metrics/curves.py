"""Metric values over the lead time: gathered for every (sample, clip, lead time), reduced once at the end.

A stochastic model gives several futures of a clip, and there is one stated rule for each way to report them:

* ``psnr``: one future per clip (the first sample), averaged over clips;
* ``psnr_mean10``: the mean over all 10 samples, then over clips;
* ``psnr_best10``: for every clip the sample whose PSNR, averaged over all lead times, is best. **That one sample
  supplies every metric**, so the ``best`` columns describe one set of videos. They grow with the number of samples:
  compare only equal numbers.

Intervals are percentile bootstrap intervals over clips (Efron 1979): clips are drawn with replacement, whole.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from htsr.errors import InputError

CONFIDENCE = 0.95
RESAMPLES = 1000


class Curves:
    """Values of several series (a model, baselines) on the same clips.

    Example:
        >>> curves = Curves()
        >>> curves.add("model", {"psnr": np.array([[[20.0, 18.0], [22.0, 16.0]]])})  # 1 sample, 2 clips, 2 lead times
        >>> curves.values("model", "psnr").mean(axis=0)
        array([21., 17.])
    """

    def __init__(self) -> None:
        self._batches: dict[str, dict[str, list[np.ndarray]]] = {}

    @property
    def series(self) -> list[str]:
        """The names of the series, in the order they were first added."""
        return list(self._batches)

    def metrics(self, series: str) -> list[str]:
        """The names of the metrics of a series."""
        return list(self._of(series))

    def add(self, series: str, values: Mapping[str, np.ndarray]) -> None:
        """Append a batch of clips to a series.

        Args:
            series: its name.
            values: for every metric an array ``(sample, clip, lead time)``; kept as float32.

        Raises:
            InputError: the shapes differ from one another, or from earlier batches in more than the number of clips.
        """
        arrays = {metric: np.asarray(array, np.float32) for metric, array in values.items()}
        batches = self._batches.setdefault(series, {metric: [] for metric in arrays})
        earlier = [before.shape for arrays_before in batches.values() for before in arrays_before[:1]]
        shapes = [array.shape for array in arrays.values()]
        regular = all(len(shape) == 3 for shape in shapes) and len(set(shapes)) == 1
        if (
            not regular
            or list(arrays) != list(batches)
            or {shape[::2] for shape in shapes + earlier} != {shapes[0][::2]}
        ):
            received = ", ".join(f"{metric} {array.shape}" for metric, array in arrays.items())
            raise InputError(
                f"series {series!r}: every batch needs {', '.join(batches)}, all of one shape (sample, clip, lead "
                f"time) with the samples and lead times of the first batch, received {received}"
            )
        for metric, array in arrays.items():
            batches[metric].append(array)

    def array(self, series: str, metric: str) -> np.ndarray:
        """All values, float32 ``(sample, clip, lead time)``."""
        batches = self._of(series)
        if metric not in batches:
            raise InputError(f"series {series!r} has no metric {metric!r}; it has {', '.join(batches)}")
        return np.concatenate(batches[metric], axis=1)

    def values(self, series: str, metric: str, rule: str = "single") -> np.ndarray:
        """One float64 value per ``(clip, lead time)``; the rule is ``single``, ``mean`` or ``best``."""
        samples = self.array(series, metric).astype(np.float64)
        if rule == "single":
            return samples[0]
        if rule == "mean":
            return samples.mean(axis=0)
        if rule == "best":
            return samples[self.best_sample(series), np.arange(samples.shape[1])]
        raise InputError(f"rule must be 'single', 'mean' or 'best', received {rule!r}")

    def best_sample(self, series: str) -> np.ndarray:
        """For every clip the sample with the best PSNR averaged over the lead times, int ``(clip,)``."""
        scores = self.array(series, "psnr").astype(np.float64).mean(axis=2)
        return np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=0)

    def reduce(self, reference: str, seed: int = 0) -> dict[str, Any]:
        """Curves of every series, and of the paired differences ``reference`` minus every other series.

        Returns:
            ``{"curves": {series: {column: curve}}, "differences": {series: {column: curve}}}``; a column is a metric
            (``psnr``) or, with several samples, also its ``psnr_mean<K>`` and ``psnr_best<K>``; a curve is
            ``{"mean": (T,), "low": (T,), "high": (T,), "horizon_mean": {"mean", "low", "high"}}``: the mean over clips
            with its 95 % interval per lead time, and the same for the average over all lead times.
        """
        columns = {series: self._columns(series) for series in self.series}
        curves = {
            series: {column: _curve(values, seed) for column, (_, values) in columns[series].items()}
            for series in self.series
        }
        differences = {
            other: {
                column: _curve(values - self.values(other, metric), seed)
                for column, (metric, values) in columns[reference].items()
            }
            for other in self.series
            if other != reference
        }
        return {"curves": curves, "differences": differences}

    def save(self, folder: str | Path, reduced: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Write ``curves.npz`` (every value, ``<series>/<metric>``: ``(sample, clip, lead time)``) and ``curves.json``.

        The JSON file holds ``provenance`` and what ``reduce`` returned; values that are not finite are ``null``.
        """
        arrays = {
            f"{series}/{metric}": self.array(series, metric) for series in self.series for metric in self._of(series)
        }
        np.savez_compressed(Path(folder) / "curves.npz", **arrays)
        content = _plain({"provenance": provenance, **reduced})
        (Path(folder) / "curves.json").write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )

    def _columns(self, series: str) -> dict[str, tuple[str, np.ndarray]]:
        columns = {}
        for metric in self._of(series):
            samples = len(self.array(series, metric))
            for rule in ("single", "mean", "best") if samples > 1 else ("single",):
                name = metric if rule == "single" else f"{metric}_{rule}{samples}"
                columns[name] = (metric, self.values(series, metric, rule))
        return columns

    def _of(self, series: str) -> dict[str, list[np.ndarray]]:
        if series not in self._batches:
            raise InputError(f"no series is called {series!r}; there are {', '.join(self._batches) or 'none yet'}")
        return self._batches[series]


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the mean over clips.

    Args:
        values: ``(clip, ...)``.
        seed: of the 1000 resamples; one seed draws the same clips for every array with that many clips.

    Returns:
        Lower and upper ends, float64 ``(...)``; NaN for a single clip, about which nothing can be said.
    """
    values = np.asarray(values, np.float64)
    clips = len(values)
    if clips < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    counts = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES)
    means = counts / clips @ values.reshape(clips, -1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def _curve(values: np.ndarray, seed: int) -> dict[str, Any]:
    low, high = bootstrap_interval(values, seed)
    over_horizon = values.mean(axis=1)
    horizon_low, horizon_high = bootstrap_interval(over_horizon, seed)
    return {
        "mean": values.mean(axis=0),
        "low": low,
        "high": high,
        "horizon_mean": {"mean": over_horizon.mean(), "low": horizon_low, "high": horizon_high},
    }


def _plain(value: Any) -> Any:
    """What JSON can say: lists for arrays, null for values that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
