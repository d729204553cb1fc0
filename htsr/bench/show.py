"""Show what was measured: a table for the terminal, and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from htsr.bench.measure import CURVES, FIGURES
from htsr.report import plots
from htsr.report.tables import aligned


def table(report: Mapping[str, Any]) -> str:
    """Return the figures of a report as text, a line each."""
    if "curve" in report:
        return "\n".join(aligned(_curve_rows(report["curve"], report["records"])))
    compared = report["against"] is not None
    head = ["", "wall", "lowest, highest", "processor", "peak memory", "of the limit"]
    rows = [[*head, *(["against", "times faster", "lowest, highest", "by processor time"] * compared)]]
    for name, figure in report["figures"].items():
        wall, part = figure["wall"], figure["share"]
        times = [_seconds(wall[key]) for key in ("median", "low", "high")]
        rows.append([FIGURES[name], times[0], ", ".join(times[1:]), _seconds(figure["processor"]["median"])])
        used = figure["memory"] / (report["limits"]["memory"] / 2**20)
        rows[-1] += [f"{figure['memory']:,.0f} MiB, {used:.0%}", "" if part is None else f"{part:.0%}"]
        if compared:
            wall, processor = figure["faster"]["wall"], figure["faster"]["processor"]
            rows[-1] += [_seconds(figure["against"]["wall"]["median"]), f"{wall['median']:.3f}"]
            rows[-1] += [f"{wall['low']:.3f}, {wall['high']:.3f}", f"{processor['median']:.3f}"]
    return "\n".join([*aligned(rows), "", *limits_in_words(report["limits"], report["load"])])


def limits_in_words(found: Mapping[str, Any], load: float) -> list[str]:
    """Return what the machine can do, in a few lines, and its load average before."""
    lines = [f"{found['machine']['processor']}, {found['machine']['threads']} threads, of which the limits are"]
    for dtype in ("float32", "bfloat16"):
        speeds = [f"{kind} {found[kind][dtype] / 1e9:,.0f}" for kind in ("products", "convolutions")]
        lines.append(f"  {dtype}: {', '.join(speeds)} GFLOP/s")
    lines.append(f"  copies {found['copy'] / 1e9:.1f} GB/s, imports of TensorFlow and Keras {found['import']:.1f} s")
    return [*lines, f"load average before: {load:.1f}"]


@plots.as_by_default
def draw(report: Mapping[str, Any], path: str | Path) -> None:
    """Plot a report: times over the values of a curve; else, for each figure, its share of the limit or the ratio."""
    about = report["limits"]["machine"]
    subtitle = f"{about['processor']}, {about['threads']} threads, {report['date']}"
    if "curve" in report:
        _draw_curve(report, path, subtitle)
        return
    figures = report["figures"]
    compared = report["against"] is not None
    figure, (panel,) = plots.begin(1, f"{report['config']}, {report['dtype']}", subtitle)
    names = [FIGURES[name] for name in figures]
    if compared:
        ratios = [value["faster"]["wall"] for value in figures.values()]
        middle = [value["median"] for value in ratios]
        ends = [[m - v["low"] for m, v in zip(middle, ratios, strict=True)]]
        ends.append([v["high"] - m for m, v in zip(middle, ratios, strict=True)])
        panel.barh(names, middle, xerr=[[max(0.0, end) for end in side] for side in ends], color=plots.OKABE_ITO[0])
        panel.axvline(1.0, color="black", linewidth=1)
    else:
        panel.barh(names, [100 * (value["share"] or 0.0) for value in figures.values()], color=plots.OKABE_ITO[0])
    panel.invert_yaxis()
    plots.label(panel, "speed", "times faster" if compared else "% of the machine's limit")
    plots.finish(figure, [], path)


def _draw_curve(report: Mapping[str, Any], path: str | Path, subtitle: str) -> None:
    name, records = report["curve"], report["records"]
    figure, panels = plots.begin(2, f"{report['config']}, {report['dtype']}", subtitle)
    for panel, heading, of in zip(
        panels,
        ("seconds", "peak memory, MiB"),
        (lambda figure: figure["wall"]["median"], lambda figure: figure["memory"]),
        strict=True,
    ):
        measured = [key for key in FIGURES if key in records[0]]
        looks = plots.looks_of(measured)
        for key in measured:
            values = [of(record[key]) for record in records]
            panel.plot([record[name] for record in records], values, label=FIGURES[key], marker="o", **looks[key])
        panel.set_ylim(bottom=0)
        plots.label(panel, heading, CURVES[name][1])
    plots.finish(figure, panels, path)


def _curve_rows(name: str, records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    measured = [key for key in FIGURES if key in records[0]]
    rows = [[CURVES[name][1], *(f"{FIGURES[key]}: {part}" for key in measured for part in ("wall", "memory"))]]
    for record in records:
        cells = [str(record[name])]
        for key in measured:
            cells += [_seconds(record[key]["wall"]["median"]), f"{record[key]['memory']:,.0f} MiB"]
        rows.append(cells)
    return rows


def _seconds(value: float) -> str:
    """Return a time in the unit it is best read in."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1e3 * value:.1f} ms" if value >= 1e-3 else f"{1e6 * value:.0f} µs"
