"""Plots of numbers: curves over the horizon or a training.

They use the colours of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers can tell apart, and a
line style each.
"""

import functools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from htsr.errors import InputError

_backend = os.environ.pop("MPLBACKEND", None)  # of a notebook, say: Matplotlib refuses to be imported with some
try:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

Band = tuple[np.ndarray, np.ndarray, np.ndarray]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))


def as_by_default(draw):
    """Draw with Matplotlib's own settings: those of the user's matplotlibrc may need LaTeX, or hide what is drawn."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.style.context("default"):
            return draw(*args, **kwargs)

    return drawn


@as_by_default
def save_curves(path: str | Path, curves: Mapping[str, Mapping[str, Band]], title: str, subtitle: str) -> None:
    """Plot metrics over the horizon, a panel a metric, with 95 % intervals as bands.

    Args:
        path: the file, ``.png``.
        curves: metric in words → series (model or baseline) → mean, low and high, each ``(horizon,)``.
        title: first line.
        subtitle: second line: what the numbers are of (clips, samples, context).
    """
    if not curves:
        raise InputError("no curves to plot; give at least one metric")
    figure, panels = begin(len(curves), title, subtitle)
    draw_bands(panels, curves, looks_of(name for series in curves.values() for name in series))
    finish(figure, panels, path)


@as_by_default
def save_training_curves(path: str | Path, records: Sequence[Mapping[str, object]], title: str = "Training") -> None:
    """Plot what a training logged, over its steps.

    Every finite number but the step is a curve. Names that differ in a leading ``valid/`` or a trailing level number
    (``nll`` and ``valid/nll``, ``kl_0`` and ``kl_1``) share a panel. Long curves are averaged to 400 points; axes
    show the middle 99 % of the values.

    Args:
        path: the file, ``.png``.
        records: lines of ``metrics.jsonl``, each with ``step`` and any numbers.
        title: first line.
    """
    curves = _by_panel(records)
    if not curves:
        raise InputError("no training records with numbers to plot; metrics.jsonl is written by htsr train")
    figure, panels = begin(len(curves), title, f"{len(records)} records")
    for panel, (quantity, series) in zip(panels, curves.items(), strict=True):
        for index, (name, points) in enumerate(series.items()):
            steps, values = (_binned(np.array(column), 400) for column in zip(*points, strict=True))
            panel.plot(steps, values, label=name, marker="o" if len(steps) < 20 else None, markersize=3, **_look(index))
        values = [value for points in series.values() for _, value in points]
        low, high = np.percentile(values, [0.5, 99.5])
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        panel.set_ylim(low - margin, high + margin)
        label(panel, quantity, "training steps")
        if len(series) > 1:
            panel.legend(fontsize=8)
    finish(figure, [], path)


def begin(count: int, title: str, subtitle: str) -> tuple[Figure, list]:
    """Begin a figure: itself and its panels, at most three side by side."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.4 * columns, 3.1 * rows + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}\n{subtitle}", fontsize=11, x=0.01, ha="left")
    panels = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def looks_of(names: Iterable[str]) -> dict[str, dict]:
    """Give every series its look."""
    return {name: _look(index) for index, name in enumerate(dict.fromkeys(names))}


def draw_bands(panels: list, curves: Mapping[str, Mapping[str, Band]], looks: Mapping[str, dict]) -> None:
    """Plot the curves of a metric, with their intervals, on each panel."""
    for panel, (metric, series) in zip(panels, curves.items(), strict=True):
        for name, (mean, low, high) in series.items():
            frames = np.arange(1, len(mean) + 1)
            panel.fill_between(frames, low, high, color=looks[name]["color"], alpha=0.15, linewidth=0)
            panel.plot(frames, mean, label=name, marker="o" if len(mean) == 1 else None, **looks[name])
        label(panel, metric, "frames after the context")


def label(panel, heading: str, axis: str) -> None:
    """Say what a panel shows, and what its horizontal axis counts."""
    panel.set_title(heading, fontsize=10, loc="left")
    panel.set_xlabel(axis)


def _look(index: int) -> dict:
    """Return colour and line style of the index-th series: colours return with other line styles."""
    turn, place = divmod(index, len(OKABE_ITO))
    return {
        "color": OKABE_ITO[place],
        "linestyle": LINE_STYLES[(place + 4 * turn) % len(LINE_STYLES)],
        "linewidth": 1.6,
    }


def finish(figure: Figure, panels: list, path: str | Path) -> None:
    """Write the figure, with one legend below for the panels given."""
    series = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if series:
        figure.legend(series.values(), series.keys(), loc="outside lower left", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, format="png")


def _by_panel(records: Sequence[Mapping[str, object]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return panel → curve → (step, value) pairs."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for name, value in record.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if number and name != "step":
                quantity = re.sub(r"_\d+$", "", name.removeprefix("valid/"))
                curves.setdefault(quantity, {}).setdefault(name, []).append((record["step"], value))
    return curves


def _binned(values: np.ndarray, points: int) -> np.ndarray:
    """Return the means of equally many neighbours, at most ``points`` of them."""
    return np.array([part.mean() for part in np.array_split(values, min(points, len(values)))])
