"""What a report is made of: the content of ``curves.json`` as metrics, lines and values, and pictures.

Anything but the curves may be missing from a file, as from those of earlier versions.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from htsr.errors import InputError
from htsr.report.tables import ENDS, bare_name, headline_rank

STYLES = 16  # pairs of colour and dash pattern in report.css

_KNOWN = {  # of files that do not describe their metrics
    "psnr": {"label": "PSNR (dB)", "better": "higher", "form": ".2f"},
    "ssim": {"label": "SSIM", "better": "higher", "form": ".3f"},
    "lpips": {"label": "LPIPS", "better": "lower", "form": ".3f"},
    "mse": {"label": "MSE per pixel", "better": "lower"},
    "mae": {"label": "MAE per pixel", "better": "lower"},
    "mse_sum": {"label": "MSE, sum over the frame", "better": "lower"},
    "mae_sum": {"label": "MAE, sum over the frame", "better": "lower"},
}
_RULE = re.compile(r"_(mean|best)(\d+)$")  # the end of a column's name that says how it came from several samples


class Picture(NamedTuple):
    """A figure of the report: an animation, a still picture, or both of one thing.

    Attributes:
        title: first line of the caption.
        detail: second line.
        animation: a GIF file, or None.
        still: a PNG file, or None.
        alternative: what the picture shows, for those who cannot see it.
    """

    title: str
    detail: str
    animation: Path | None
    still: Path | None
    alternative: str


class Value(NamedTuple):
    """A mean with its 95 % interval; None where there is none."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """A curve of a metric: whose and which column, its look, and whether it has a paired difference."""

    label: str
    series: str
    column: str
    style: int
    paired: bool


class Metric(NamedTuple):
    """A metric in words, the digits after the point (None: four significant ones), its curves, its headline's rank."""

    name: str
    label: str
    better: str | None
    digits: int | None
    lines: list[Line]
    headline: int | None = None


class Content(NamedTuple):
    """What ``curves.json`` holds."""

    provenance: Mapping[str, Any]
    metrics: list[Metric]
    curves: Mapping[str, Any]
    differences: Mapping[str, Any]
    p_values: Mapping[str, Any]
    reference: str

    def value(self, line: Line, lead: int | None) -> Value:
        """Of a curve at a lead time, or over the whole horizon (None)."""
        return _value(self.curves[line.series][line.column], lead)

    def difference(self, line: Line, lead: int | None) -> Value:
        """The reference minus the curve's series, on the same clips."""
        return _value(self.differences[line.series][line.column], lead) if line.paired else Value()


def parse(content: Mapping[str, Any]) -> Content:
    """Read what ``curves.json`` holds.

    Raises:
        InputError: there are no curves, or the reference is none of their series.
    """
    provenance, curves = content.get("provenance") or {}, content.get("curves")
    if not curves or not any(curves.values()):
        raise InputError("the report needs curves, but curves.json has none; run the evaluation again")
    reference = provenance.get("reference") or ("model" if "model" in curves else next(iter(curves)))
    if reference not in curves:
        raise InputError(f"provenance.reference is {reference!r}, but the series are {', '.join(curves)}")
    differences = content.get("differences") or {}
    metrics = _metrics(content.get("metrics"), curves, differences)
    return Content(provenance, metrics, curves, differences, content.get("p_values") or {}, reference)


def finite(value: Any) -> float | None:
    """The value if it is a number, or None."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _metrics(
    described: Mapping[str, Any] | None, curves: Mapping[str, Any], differences: Mapping[str, Any]
) -> list[Metric]:
    """The headline metrics, then the others, each with its lines: every series and, of several samples, every rule."""
    if described is None:
        columns = dict.fromkeys(column for series in curves.values() for column in series)
        described = {name: {} for name in columns if not _RULE.search(name) or _RULE.sub("", name) not in columns}
    found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in described}
    for series, columns in curves.items():
        for column in columns:
            name = column if column in found else _RULE.sub("", column)
            found.get(name, []).append((f"{series}{_rule(column.removeprefix(name))}", series, column))
    every = [label for lines in found.values() for label, *_ in lines]
    labels = list(dict.fromkeys([*curves, *every]))  # series first: their looks are those of curves.png
    metrics = []
    for name, given in described.items():
        about: dict[str, Any] = {**_KNOWN.get(bare_name(name), {}), **given}
        form = re.fullmatch(r"\.(\d)f", about.get("form", ""))
        lines = [
            Line(label, series, column, labels.index(label) % STYLES, column in differences.get(series, {}))
            for label, series, column in found[name]
        ]
        if lines:
            digits = int(form[1]) if form else None
            rank = headline_rank(name, about)
            metrics.append(Metric(name, about.get("label", name), about.get("better"), digits, lines, rank))
    return sorted(metrics, key=lambda metric: math.inf if metric.headline is None else metric.headline)


def _rule(suffix: str) -> str:
    match = _RULE.search(suffix)
    return f", {match[1]} of {match[2]}" if match else ""


def _value(curve: Mapping[str, Any], lead: int | None) -> Value:
    if lead is None:
        return Value(*(finite((curve.get("horizon_mean") or {}).get(end)) for end in ENDS))
    return Value(*(finite(next(iter((curve.get(end) or [])[lead - 1 : lead]), None)) for end in ENDS))
