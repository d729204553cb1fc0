"""Metric values over the lead time: gathered for every (sample, clip, lead time), reduced once at the end.

A stochastic model gives several futures of a clip, and there is one stated rule for each way to report them:

* ``psnr``: one future per clip (the first sample), averaged over clips;
* ``psnr_mean10``: the mean over all 10 samples, then over clips;
* ``psnr_best10``: for every clip the sample whose PSNR, averaged over all lead times, is best. **That one sample
  supplies every metric**, so the ``best`` columns describe one set of videos. With ``select="per_metric"``, the habit
  of the literature, every metric picks its own sample. Best columns grow with the number of samples: compare only
  equal numbers.
"""

import functools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from htsr.errors import InputError
from htsr.files import new_file
from htsr.metrics.metric import columns
from htsr.metrics.statistics import Reduced, curve_of, resampling

Select = Literal["psnr", "per_metric"]
_LAYOUT = "layout.json"


class Curves:
    """Values of several series (a model, baselines) on the same clips.

    Args:
        folder: where values are kept while they are gathered, a file a series and metric, so that memory does not grow
            with the number of clips and a later process goes on where one stopped; None keeps them in memory.

    Example:
        >>> curves = Curves()
        >>> curves.add("model", {"psnr": np.array([[[20.0, 18.0], [22.0, 16.0]]])})  # 1 sample, 2 clips, 2 lead times
        >>> curves.values("model", "psnr").mean(axis=0)
        array([21., 17.])
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._values: dict[str, dict[str, _Values]] = {}
        if self._folder is not None and (self._folder / _LAYOUT).exists():
            try:
                layout = json.loads((self._folder / _LAYOUT).read_text(encoding="utf-8"))
            except ValueError:
                raise InputError(f"{self._folder / _LAYOUT} is damaged; remove the folder {self._folder}") from None
            for series, metrics in layout.items():
                self._values[series] = {
                    metric: _Values(self._path(series, metric), *shape) for metric, shape in metrics.items()
                }

    @classmethod
    def load(cls, path: str | Path, metric: str | None = None) -> "Curves":
        """Read the values that ``save`` wrote into memory, those of one metric (``psnr``, of any convention) or all."""
        series: dict[str, dict[str, np.ndarray]] = {}
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                owner, _, column = name.rpartition("/")
                if metric in (None, column.rpartition(".")[2]):
                    series.setdefault(owner, {})[column] = arrays[name]
        curves = cls()
        for owner, values in series.items():
            curves.add(owner, values)
        return curves

    @property
    def series(self) -> list[str]:
        """The names of the series, in the order they were first added."""
        return list(self._values)

    def metrics(self, series: str) -> list[str]:
        """The names of the metrics of a series."""
        return list(self._of(series))

    def num_clips(self) -> int:
        """Clips of which all series have all values."""
        return min((column.num_clips for metrics in self._values.values() for column in metrics.values()), default=0)

    def truncate(self, num_clips: int) -> None:
        """Forget all clips but the first ``num_clips``: those a process that was killed may not have finished."""
        for metrics in self._values.values():
            for column in metrics.values():
                column.truncate(num_clips)

    def add(self, series: str, values: Mapping[str, np.ndarray]) -> None:
        """Append a batch of clips to a series.

        Args:
            series: its name.
            values: for every metric an array ``(sample, clip, lead time)``; kept as float32.

        Raises:
            InputError: the numbers of clips or lead times differ between metrics, or metrics, samples and lead times
                from earlier batches.
        """
        arrays = {metric: np.asarray(array, np.float32) for metric, array in values.items()}
        known = self._values.get(series)
        shapes = {metric: array.shape[::2] for metric, array in arrays.items()}
        regular = all(array.ndim == 3 for array in arrays.values()) and len({a.shape[1:] for a in arrays.values()}) == 1
        if not regular or (known is not None and shapes != {metric: column.shape for metric, column in known.items()}):
            received = ", ".join(f"{metric} {array.shape}" for metric, array in arrays.items())
            raise InputError(
                f"series {series!r}: every batch needs {', '.join(known or arrays)}, each (sample, clip, lead time) "
                f"with the samples and lead times of the first batch, received {received}"
            )
        if known is None:
            known = {metric: _Values(self._path(series, metric), *shape) for metric, shape in shapes.items()}
            self._values[series] = known
            self._save_layout()
        for metric, array in arrays.items():
            known[metric].append(array.swapaxes(0, 1))

    def array(self, series: str, metric: str) -> np.ndarray:
        """All values, float32 ``(sample, clip, lead time)``."""
        values = self._of(series)
        if metric not in values:
            raise InputError(f"series {series!r} has no metric {metric!r}; it has {', '.join(values)}")
        return values[metric].array().swapaxes(0, 1)

    def values(self, series: str, metric: str, rule: str = "single", select: Select = "psnr") -> np.ndarray:
        """One float64 value per ``(clip, lead time)``; the rule is ``single``, ``mean`` or ``best``."""
        return self._reader(series, metric, rule, select, self.best_sample)(slice(None))

    def best_sample(self, series: str, metric: str | None = None) -> np.ndarray:
        """For every clip the sample that is best by a metric (default: PSNR) averaged over lead times, ``(clip,)``.

        A sample with values that are not numbers is never best, unless all are.
        """
        if metric is None:
            metric = next((name for name in self._of(series) if name.rpartition(".")[2] == "psnr"), "psnr")
        scores = self.array(series, metric).mean(axis=2, dtype=np.float64)
        if columns([metric])[metric].metric.better == "lower":
            scores = -scores
        return np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=0)

    def columns(self, series: str, select: Select = "psnr", units: float = 1.0) -> dict[str, "Reduced"]:
        """The columns of a series by name: a metric (``psnr``) or, with several samples, also its ``psnr_mean<K>`` and
        ``psnr_best<K>``."""
        samples = max(len(self.array(series, metric)) for metric in self._of(series))
        best_sample = functools.cache(self.best_sample)  # most columns ask for that of the PSNR
        found = {}
        for name, column in columns(self._of(series), samples, units).items():
            several = len(self.array(series, column.components[0])) > 1
            for rule in ("single", "mean", "best") if several else ("single",):
                shown = name if rule == "single" else f"{name}_{rule}{samples}"
                readers = tuple(self._reader(series, metric, rule, select, best_sample) for metric in column.components)
                found[shown] = Reduced(name, column, readers, self.array(series, column.components[0]).shape[1:])
        return found

    def reduce(
        self, reference: str, seed: int = 0, select: Select = "psnr", units: float = 1.0
    ) -> dict[str, dict[str, Any]]:
        """Curves of every series, and of the paired differences ``reference`` minus every other series.

        Args:
            reference: a series.
            seed: of the bootstrap.
            select: how ``best`` picks a sample, by ``psnr`` or ``per_metric``.
            units: what the range 0 … 1 stands for.

        Returns:
            Three tables,
            ``{"metrics": {metric: {"label", "better", "form", "headline", "plotted"}}, "curves": {series: {column:
            curve}}, "differences": {series: {column: curve}}}``; a column is a metric or, with K samples, also
            ``<metric>_mean<K>`` and ``<metric>_best<K>``; a curve is
            ``{"mean": (T,), "low": (T,), "high": (T,), "horizon_mean": {"mean", "low", "high"}}``: the mean over clips
            with its 95 % interval per lead time, and the same over all lead times, of ratios and roots that of the
            pooled components. For event scores ``undefined`` counts the lead times without events, and ``over_leads``
            is the mean over the others, which is another number than the pooled one.
        """
        if select not in get_args(Select):
            raise InputError(f"select must be one of {', '.join(get_args(Select))}, received {select!r}")
        found = {series: self.columns(series, select, units) for series in self.series}
        weights = resampling(self.num_clips(), seed)
        curves = {
            series: {name: curve_of([column], weights) for name, column in found[series].items()}
            for series in self.series
        }
        differences = {}
        for other in (series for series in self.series if series != reference):
            pairs = {}
            for name, column in found[reference].items():
                partner = found[other].get(name) or found[other].get(column.name)
                if partner is not None:
                    pairs[name] = curve_of([column, partner], weights)
            if pairs:
                differences[other] = pairs
        metrics = {
            reduced.name: {
                "label": reduced.column.label,
                **{name: getattr(reduced.column.metric, name) for name in ("better", "form", "headline", "plotted")},
            }
            for series in self.series
            for reduced in found[series].values()
        }
        return {"metrics": metrics, "curves": curves, "differences": differences}

    def save(self, path: str | Path) -> None:
        """Write every value to a ``.npz`` file: ``<series>/<metric>``, ``(sample, clip, lead time)``."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for series in self.series:
                for metric in self._of(series):
                    with archive.open(f"{series}/{metric}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, self.array(series, metric), allow_pickle=False)

    def _reader(
        self, series: str, metric: str, rule: str, select: Select, best_sample: Callable[..., np.ndarray]
    ) -> Callable[[slice], np.ndarray]:
        """A function from a slice of lead times to one float64 value per ``(clip, lead time)``.

        It opens the values anew at every call: what stays mapped counts as memory of the process.
        """
        read = functools.partial(self.array, series, metric)
        read()  # refuses names that are not there
        if rule not in ("single", "mean", "best"):
            raise InputError(f"rule must be 'single', 'mean' or 'best', received {rule!r}")
        if rule == "single":
            return lambda leads: read()[0, :, leads].astype(np.float64)
        if rule == "mean":
            return lambda leads: read()[:, :, leads].mean(axis=0, dtype=np.float64)
        own = select == "per_metric" and metric in columns([metric]) and columns([metric])[metric].metric.better
        chosen = best_sample(series, metric if own else None)
        return lambda leads: read()[chosen, np.arange(len(chosen)), leads].astype(np.float64)

    def _of(self, series: str) -> "dict[str, _Values]":
        if series not in self._values:
            raise InputError(f"no series is called {series!r}; there are {', '.join(self._values) or 'none yet'}")
        return self._values[series]

    def _path(self, series: str, metric: str) -> Path | None:
        return self._folder and self._folder / f"{series}.{metric}.f32"

    def _save_layout(self) -> None:
        if self._folder is None:
            return
        layout = {series: {name: of.shape for name, of in metrics.items()} for series, metrics in self._values.items()}
        with new_file(self._folder / _LAYOUT) as file:
            json.dump(layout, file)


class _Values:
    """The values of one metric, clip by clip, in memory or in a file that is only appended to."""

    def __init__(self, path: Path | None, samples: int, leads: int):
        self._path, self.shape = path, (samples, leads)
        self._pieces: list[np.ndarray] = []

    @property
    def num_clips(self) -> int:
        if self._path is None:
            return sum(map(len, self._pieces))
        size = self._path.stat().st_size if self._path.exists() else 0
        return size // (4 * self.shape[0] * self.shape[1])

    def append(self, values: np.ndarray) -> None:
        """Add ``(clip, sample, lead time)``."""
        if self._path is None:
            self._pieces.append(values)
        else:
            with open(self._path, "ab") as file:
                file.write(np.ascontiguousarray(values, "<f4").tobytes())

    def truncate(self, num_clips: int) -> None:
        if self._path is None:
            self._pieces = [self.array()[:num_clips]]
        elif self._path.exists():
            with open(self._path, "r+b") as file:
                file.truncate(4 * num_clips * self.shape[0] * self.shape[1])

    def array(self) -> np.ndarray:
        if self._path is None:
            return np.concatenate(self._pieces)
        return np.memmap(self._path, "<f4", "r", shape=(self.num_clips, *self.shape))
