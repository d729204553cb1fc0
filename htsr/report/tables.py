"""What is shown of reduced curves.

As text: a block a metric, a row a lead time, a column a series, each value with its 95 % interval. And the bands of the
horizon curves.
"""

import math
from collections.abc import Mapping
from typing import Any

LEADS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
ENDS = ("mean", "low", "high")
HEADLINES, HEADLINE_LEADS = 5, (1, 10, 50, 100, 300)
_UNRANKED = ("psnr", "ssim", "lpips", "mse")  # headlines of files of earlier versions, which do not say theirs

Block = list[list[str]]


def table(reduced: Mapping[str, Any], report: Mapping[str, Any], reference: str, all_metrics: bool = False) -> str:
    """Return the metrics of an evaluation, or of several models, as text.

    Args:
        reduced: of ``Curves.reduce``.
        report: its provenance.
        reference: the series that differences are relative to.
        all_metrics: every metric with its intervals, in place of the few headlines in one table.
    """
    marks = f"+ {reference} is better than this series, - it is worse: the paired 95 % interval excludes zero"
    exact = [f"{count} frames of {name} are exact" for name, count in report["exact_frames"].items() if count]
    if not all_metrics:
        return "\n".join([f"{title(report)}; mean over clips", marks, *_headlines(reduced, report), *exact])
    lines = [f"{title(report)}; mean over clips [95 % bootstrap interval]", marks]
    for metric, about in reduced["metrics"].items():
        what = f"{about['better']} is better" if about["better"] else "neither is better"
        lines += ["", f"{metric}: {about['label']} ({what})", *aligned(block(reduced, report, metric))]
    for psnr in (metric for metric in reduced["metrics"] if bare_name(metric) == "psnr"):
        pairs = {f"minus {name}": (of[psnr], None) for name, of in reduced["differences"].items() if psnr in of}
        rows = _rows(pairs, reduced["metrics"][psnr], report["horizon"])
        lines += ["", f"{psnr}, {reference} minus the others on the same clips", *aligned(rows)]
    return "\n".join([*lines, *exact])


def headlines(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the few metrics that come first, by their rank.

    Args:
        metrics: as ``Curves.reduce`` describes them, by name.
    """
    ranks = {name: headline_rank(name, about) for name, about in metrics.items()}
    return sorted((name for name, rank in ranks.items() if rank is not None), key=lambda name: ranks[name])[:HEADLINES]


def headline_rank(name: str, about: Mapping[str, Any]) -> int | None:
    """Return a metric's place among the headlines, or None."""
    bare = bare_name(name)
    return about["headline"] if "headline" in about else (_UNRANKED.index(bare) if bare in _UNRANKED else None)


def bare_name(metric: str) -> str:
    """Return a metric's name without the convention in front: ``psnr`` of ``openstl.psnr``, but ``csi@0.5``."""
    return metric if "@" in metric else metric.rpartition(".")[2]


def block(reduced: Mapping[str, Any], report: Mapping[str, Any], metric: str) -> Block:
    """One metric: a head and a row a lead time; series with several samples also by their mean and their best."""
    return _rows(_columns(reduced, report, metric), reduced["metrics"][metric], report["horizon"])


def aligned(rows: Block) -> list[str]:
    """Lines of text with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(rows: Block) -> str:
    """A table in Markdown."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def title(report: Mapping[str, Any]) -> str:
    """What the numbers are of: clips, context, futures."""
    samples = "1 sample" if report["num_samples"] == 1 else f"{report['num_samples']} samples"
    futures = "rollouts of means" if report["noise"] == "mean" else f"{samples} a clip"
    kind = f" ({report['note']})" if "note" in report else ""
    mode = "" if report["metric_mode"] == "htsr-1" else f", metrics by the convention of {report['metric_mode']}"
    return f"{report['num_examples']} clips{kind}, {report['context']} context frames, {futures}{mode}"


def bands(reduced: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, Any, Any]]]:
    """Of the plotted metrics, in words, mean, low and high of every series."""
    found = {}
    for metric, about in reduced["metrics"].items():
        series = {name: columns[metric] for name, columns in reduced["curves"].items() if metric in columns}
        best = f"{metric}_best{report['num_samples']}"
        series |= {
            f"{name}, best of {report['num_samples']}": columns[best]
            for name, columns in reduced["curves"].items()
            if best in columns
        }
        if about["plotted"] and len(series) > 1:
            label = f"{about['label']}, {about['better']} is better" if about["better"] else about["label"]
            found[label] = {name: tuple(curve[end] for end in ENDS) for name, curve in series.items()}
    return found


def leads(horizon: int) -> list[int]:
    """The lead times that tables show."""
    return sorted({lead for lead in LEADS if lead <= horizon} | {horizon})


def _columns(reduced: Mapping[str, Any], report: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """The curves of a metric with their paired differences, or None, by series and rule of several samples."""
    curves, differences, samples = reduced["curves"], reduced["differences"], report["num_samples"]
    found = {}
    for series in curves:
        for rule in ("", f"_mean{samples}", f"_best{samples}"):
            if f"{metric}{rule}" in curves[series]:
                difference = differences.get(series, {}).get(f"{metric}{rule}")
                found[f"{series}{rule}"] = (curves[series][f"{metric}{rule}"], difference)
    return found


def _headlines(reduced: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    """The headline metrics below each other: a line a series, a column a lead time, and the mean over all of them."""
    shown = [lead for lead in HEADLINE_LEADS if lead <= report["horizon"]]
    rows, labels = [["", *map(str, shown), "mean"]], {}
    for metric in headlines(reduced["metrics"]):
        about = reduced["metrics"][metric]
        labels[len(rows)] = f"{about['label']}, {about['better']} is better" if about["better"] else about["label"]
        for name, pair in _columns(reduced, report, metric).items():
            at = [[curve and {end: curve[end][lead - 1] for end in ENDS} for curve in pair] for lead in shown]
            at.append([curve and curve["horizon_mean"] for curve in pair])
            rows.append([f"  {name}", *(_cell(about, *values, interval=False) for values in at)])
    lines = []
    for number, line in enumerate(aligned(rows)):
        lines += [*([labels[number]] if number in labels else []), line]
    return lines


def _rows(columns: Mapping[str, Any], about: Mapping[str, Any], horizon: int) -> Block:
    """A column is a curve and the paired difference that marks it, or None."""
    rows = [["horizon", *columns]]
    for lead in leads(horizon):
        at = [[curve and {end: curve[end][lead - 1] for end in ENDS} for curve in pair] for pair in columns.values()]
        rows.append([str(lead), *(_cell(about, *pair) for pair in at)])
    over = [[curve and curve["horizon_mean"] for curve in pair] for pair in columns.values()]
    rows.append(["all", *(_cell(about, *pair) for pair in over)])
    if all("over_leads" in curve for curve, _ in columns.values()):
        rows.append(["mean of leads", *(_over_leads(about, curve) for curve, _ in columns.values())])
    return rows


def _over_leads(about: Mapping[str, Any], curve: Mapping[str, Any]) -> str:
    """The mean of a score over its lead times, and how many it leaves out."""
    if math.isnan(curve["over_leads"]):
        return "n/a"
    missing = f", {curve['undefined']} without events" if curve["undefined"] else ""
    return f"{curve['over_leads']:{about['form']}}{missing}"


def _cell(
    about: Mapping[str, Any], value: Mapping[str, float], difference: Mapping[str, float] | None, interval: bool = True
) -> str:
    mean, low, high = (value[end] for end in ENDS)
    if math.isnan(mean):
        return "n/a"
    text = f"{mean:{about['form']}}"
    if interval and math.isfinite(low) and math.isfinite(high):
        text += f" [{low:{about['form']}}, {high:{about['form']}}]"
    if difference and about["better"] and (difference["low"] > 0 or difference["high"] < 0):
        text += " +" if (difference["low"] > 0) == (about["better"] == "higher") else " -"
    return text
