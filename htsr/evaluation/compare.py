"""Several models on the same clips: paired differences, intervals and significance.

Every difference is taken clip by clip, so the difficulty of a clip cancels. Intervals and p-values are those of
``htsr.metrics.statistics``.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.baselines import BASELINES, MODEL, SERIES, TRUTH
from htsr.evaluation.pictures import chosen_clips, draw_curves, predict_clips, save_pictures
from htsr.evaluation.result import Result
from htsr.metrics import Curves
from htsr.metrics.statistics import holm, sign_flip_p_value
from htsr.models.base import VideoModel
from htsr.report.html import write_report
from htsr.report.tables import aligned, block, headlines, markdown, table, title
from htsr.runs.folder import result_file, upgrade_eval

SAME = ("clips_sha256", "context", "horizon", "num_examples", "num_samples", "select", "metric_mode")
PICTURES = 4


def compare(
    results: Mapping[str, Path], models: Mapping[str, VideoModel], clips: Clips, out: str | Path, seed: int = 0
) -> dict[str, Any]:
    """Compare evaluations; print a table; write ``curves.json``, ``curves.png``, ``comparison.md``, ``report.html``.

    Args:
        results: name → folder of an evaluation, at least two; the first one is what the others are compared with.
        models: the models by the same names, for the pictures.
        clips: those of the evaluations.
        out: folder, made when missing.
        seed: of the bootstrap and of the permutations.

    Returns:
        What ``Curves.reduce`` returned for all models and the baselines; ``["p_values"][metric][name]`` beside it.

    Raises:
        InputError: the evaluations are not of the same clips.
    """
    evaluations = {name: _read(folder) for name, folder in results.items()}
    reference = next(iter(evaluations))
    _check_same(evaluations)
    curves = _joined(results)
    about = evaluations[reference]
    low, high = about.get("units", (0.0, 1.0))
    reduced = curves.reduce(reference, seed, about["select"], high - low)
    reduced["p_values"] = _p_values(curves, reduced, reference, [name for name in results if name != reference], seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    shared = ("metric_spec", *SAME, "split", "validation", "data", "note", "units", "definitions", "best_rule")
    report = {
        **{name: about[name] for name in (*shared, "interval") if name in about},
        "reference": reference,
        "noise": next((e["noise"] for e in evaluations.values() if not e["noise"].startswith("none")), about["noise"]),
        "seed": seed,
        "series": {
            **{name: _described(evaluation) for name, evaluation in evaluations.items()},
            **{name: SERIES[name] for name in (*BASELINES, TRUTH) if name in curves.series},
        },
        "exact_frames": {name: evaluation["exact_frames"][MODEL] for name, evaluation in evaluations.items()},
        "warnings": [f"{name}: {text}" for name, evaluation in evaluations.items() for text in evaluation["warnings"]],
        "pictures": _illustrate(models, clips, evaluations, chosen_clips(curves, reference)[:PICTURES], out),
        "runs": evaluations,
    }
    print(table(reduced, report, reference))
    print("", *_significance(reduced, reference), sep="\n")
    result = Result(reduced, report, out)
    result.save()
    draw_curves(result)
    tables = out / result.file(".md").name.replace("curves", "comparison", 1)
    tables.write_text(_markdown(reduced, report, reference), encoding="utf-8", errors="backslashreplace")
    print(f"\nreport: {write_report(out)}")
    return reduced


def _read(folder: Path) -> dict[str, Any]:
    """The provenance of an evaluation, its settings in today's words."""
    return upgrade_eval(json.loads(result_file(folder, ".json").read_text(encoding="utf-8"))["provenance"])


def _check_same(evaluations: Mapping[str, Mapping[str, Any]]) -> None:
    first, *others = evaluations
    for other in others:
        for key in SAME:
            values = evaluations[first][key], evaluations[other][key]
            if values[0] != values[1]:
                raise InputError(
                    f"{first} and {other} were evaluated differently: {key} is {values[0]} and {values[1]}; evaluate "
                    "both under one --protocol"
                )


def _joined(results: Mapping[str, Path]) -> Curves:
    """The models' values under their names, and the baselines, which are those of any."""
    curves = Curves()
    for name, folder in results.items():
        found = Curves.load(result_file(folder, ".npz"))
        curves.add(name, {metric: found.array(MODEL, metric) for metric in found.metrics(MODEL)})
    for series in found.series:
        if series != MODEL:
            curves.add(series, {metric: found.array(series, metric) for metric in found.metrics(series)})
    return curves


def _p_values(curves: Curves, reduced: Mapping[str, Any], reference: str, others: list[str], seed: int):
    """Metric → model → corrected p-value of its mean difference from the reference over the horizon."""
    found = {}
    for metric in reduced["metrics"]:
        if all(metric in curves.metrics(name) for name in (reference, *others)):
            own = curves.values(reference, metric).mean(axis=1)
            raw = {other: sign_flip_p_value(own - curves.values(other, metric).mean(axis=1), seed) for other in others}
            found[metric] = holm(raw)
    return found


def _illustrate(
    models: Mapping[str, VideoModel],
    clips: Clips,
    evaluations: Mapping[str, Mapping[str, Any]],
    pictures: list[dict[str, Any]],
    out: Path,
) -> list[dict[str, Any]]:
    """Strips and GIFs: the truth, and every model's first prediction below each other."""
    drawn = []
    for picture in pictures:
        rows = {}
        for name, model in models.items():
            ((truth, samples),) = predict_clips(model, clips, [picture["clip"]], evaluations[name])
            rows |= {clips.label("truth"): truth, name: samples[0]}
        context = next(iter(evaluations.values()))["context"]
        drawn.append({**picture, **save_pictures(out, f"clip_{picture['clip']}", rows, context)})
    return drawn


def _described(evaluation: Mapping[str, Any]) -> str:
    return f"checkpoint {evaluation['checkpoint']['step']} of {evaluation['run']}, futures: {evaluation['noise']}"


def _significance(reduced: Mapping[str, Any], reference: str) -> list[str]:
    """Lines of text: the mean differences over the horizon with their intervals and p-values."""
    rows = [["metric", *(f"{reference} minus {name}" for name in next(iter(reduced["p_values"].values())))]]
    for metric, p_values in reduced["p_values"].items():
        form = reduced["metrics"][metric]["form"].lstrip("+")  # differences have a sign in any case
        cells = []
        for name, p in p_values.items():
            over = reduced["differences"][name][metric]["horizon_mean"]
            cells.append(f"{over['mean']:+{form}} [{over['low']:+{form}}, {over['high']:+{form}}] p {_p_text(p)}")
        rows.append([metric, *cells])
    return [
        f"mean over the horizon, {reference} minus the other on the same clips; p: sign flips, Holm",
        *aligned(rows),
    ]


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _markdown(reduced: Mapping[str, Any], report: Mapping[str, Any], reference: str) -> str:
    """The headline metrics as tables for a document."""
    parts = [f"{title(report)}; mean [95 % bootstrap interval]; + {reference} is better, - it is worse (paired 95 %)."]
    for metric in headlines(reduced["metrics"]):
        label = reduced["metrics"][metric]["label"]
        parts.append(f"{label}:\n\n{markdown(block(reduced, report, metric))}")
    return "\n\n".join(parts) + "\n"
