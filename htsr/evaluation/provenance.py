"""How the numbers of an evaluation came about, and what a reader of them must be warned of."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from htsr.data.clips import Clips
from htsr.evaluation.baselines import BASELINES, MODEL, SERIES, TRUTH
from htsr.evaluation.result import Unfinished
from htsr.metrics import METRIC_SPEC, Curves, Mode, frechet_distance
from htsr.metrics.curves import Select
from htsr.metrics.frame import MAX_PSNR
from htsr.metrics.fvd import describe
from htsr.metrics.metric import METRICS
from htsr.metrics.statistics import CONFIDENCE, RESAMPLES
from htsr.runs import environment

_BEST_RULES = {
    "psnr": "per clip, the sample with the best PSNR averaged over the horizon supplies every metric",
    "per_metric": "per clip and metric, the sample that is best by that metric averaged over the horizon",
}


def provenance_of(
    found: Unfinished,
    clips: Clips,
    mode: Mode,
    settings: Mapping[str, Any],
    metrics: Iterable[str],
    no_fvd: str | None,
) -> dict[str, Any]:
    """Return what a result says of itself: ``settings``, all else that is known, and warnings.

    Without the features of FVD ``no_fvd`` is the reason; ``metrics`` are those that the values were reduced to.
    """
    curves, select = found.curves, settings["select"]
    names = {metric.partition("@")[0] for metric in metrics}
    definitions = {name: about.definition for name, about in METRICS.items() if name in names and about.definition}
    report = {
        "metric_spec": METRIC_SPEC,
        **settings,
        "series": {name: SERIES[name] for name in curves.series},
        "definitions": {**mode.definition, **definitions},
        "best_rule": _BEST_RULES[select],
        "interval": f"{CONFIDENCE:.0%} percentile bootstrap over clips, {RESAMPLES} resamples",
        "clips_sha256": found.sha256(settings["num_examples"]),
        "first_clip_sha256": found.sha256(1),
        "fvd": no_fvd or _frechet(found.features, settings["fvd_frames"]),
        "exact_frames": _exact_frames(curves),
        "environment": environment.describe(),
    }
    if clips.note:
        report["note"] = clips.note
    if clips.source.units:
        report["units"] = list(clips.source.units)
    if mode.name != METRIC_SPEC:
        best = settings["num_samples"] > 1 and select == "per_metric"
        report["published_rule"] = f"best of {settings['num_samples']} by each metric" if best else "first sample"
        report["published_row"] = _published_rows(mode, curves, "best" if best else "single", select)
    return report | {"warnings": _warnings(report, curves, mode), "resumed_at_clip": found.resumed_at}


def _exact_frames(curves: Curves) -> dict[str, int]:
    """Of every series, the frames that are the true ones."""
    psnr = {s: metric for s in curves.series for metric in curves.metrics(s) if metric.rpartition(".")[2] == "psnr"}
    return {series: int((curves.array(series, metric) >= MAX_PSNR).sum()) for series, metric in psnr.items()}


def _frechet(features: Curves, num_frames: int) -> dict[str, Any] | str:
    """FVD of every series against the true frames."""
    if features.num_clips() < 2:
        return "skipped: FVD needs at least 2 clips"
    truth = features.values(TRUTH, "i3d")
    values = {
        series: frechet_distance(features.values(series, "i3d"), truth) for series in features.series if series != TRUTH
    }
    return {"spec": describe(len(truth), num_frames), "values": values}


def _published_rows(mode: Mode, curves: Curves, rule: str, select: Select) -> dict[str, dict[str, float]]:
    """The numbers that the convention's own tables have, of every series."""
    rows = {}
    for series in (MODEL, *BASELINES):
        lpips = mode.column("lpips") in curves.metrics(series)
        rows[series] = mode.row(functools.partial(curves.values, series, rule=rule, select=select), lpips)
    return rows


def _warnings(report: Mapping[str, Any], curves: Curves, mode: Mode) -> list[str]:
    metrics = curves.metrics(MODEL)
    missing = int(np.isnan(curves.array(MODEL, metrics[0])).any(axis=2).sum())
    no_ssim = mode.name == METRIC_SPEC and "ssim" not in metrics
    found = [
        f"{missing} predictions hold values that are not numbers" if missing else "",
        mode.warning,
        "SSIM is left out: its window takes frames of at least 11x11 pixels" if no_ssim else "",
        report.get("seen_in_training"),
    ]
    return [text for text in found if text]
