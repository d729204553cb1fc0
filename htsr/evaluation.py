"""Long-horizon evaluation: open-loop rollouts of test clips, scored frame by frame beside three baselines.

Clips pass through one small batch at a time and predictions one piece of the horizon at a time; only the numbers of
each frame are kept, so memory grows with neither the number of clips nor (beyond the batch of clips itself) the
horizon. Predictions are clipped to [0, 1] once; frame ``k`` after the context is scored against frame ``k`` of the
truth. The baselines see the same context: its last frame repeated, its mean frame repeated, and black frames.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from htsr import environment, plots
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.metrics import LPIPS, METRIC_SPEC, Curves, frame_errors
from htsr.metrics.perceptual import MIN_SIZE
from htsr.models.base import VideoModel

MODEL = "model"
BASELINES = {
    "copy_last": lambda observed: observed[:, -1:],
    "mean_frame": lambda observed: observed.mean(axis=1, keepdims=True),
    "black": lambda observed: np.zeros_like(observed[:, :1]),
}
SET_BY_PROGRAM = ("model", "clips", "out", "provenance")  # arguments of `evaluate` that no config can give
CHUNK = 50  # predicted frames scored at once
GIF_FRAMES = 300  # predicted frames in a GIF, which is built in memory; the strip spans the whole horizon
PLOTTED = ("psnr", "ssim", "lpips", "mse", "mae")
_HIGHER_IS_BETTER = ("psnr", "ssim")
_FORMATS = {"psnr": ".2f", "ssim": ".3f", "lpips": ".3f"}
_TABLE_HORIZONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

Values = dict[str, np.ndarray]


class Evaluation(NamedTuple):
    """What ``evaluate`` found: every value, what ``Curves.reduce`` made of them, and how they came about."""

    curves: Curves
    reduced: dict[str, Any]
    provenance: dict[str, Any]


def evaluate(
    model: VideoModel,
    clips: Clips,
    *,
    out: str | Path,
    context: int = 36,
    horizon: int = 300,
    num_examples: int | None = 100,
    num_samples: int = 1,
    batch_size: int = 4,
    seed: int = 0,
    noise: Literal["sample", "mean"] = "sample",
    num_pictures: int = 4,
    lpips: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score a model on clips; print a table; write ``curves.json``, ``curves.npz``, ``curves.png``, strips and GIFs.

    A clip's prediction depends on ``seed`` and the clip's index, not on the batch it happens to be in.

    Args:
        model: what to score.
        clips: clips of at least ``context + horizon`` frames; their first frames are used.
        out: folder of the results; made when missing.
        context: frames shown to the model.
        horizon: frames it predicts after them.
        num_examples: clips, the first ones in file order; None takes all.
        num_samples: futures per clip; with several, columns ``<metric>_mean<K>`` and ``<metric>_best<K>`` are added
            (see ``htsr.metrics.curves`` for the rules).
        batch_size: clips predicted at once, each ``num_samples`` times.
        seed: of the model's noise and of the bootstrap.
        noise: ``sample``, or ``mean``: one rollout a clip with means in place of samples.
        num_pictures: clips that get a strip and a GIF (truth, prediction of the first sample, absolute difference); a
            GIF ends after 300 predicted frames.
        lpips: also compute LPIPS, which needs frames of at least 31x31 pixels.
        provenance: whatever else ``curves.json`` should say: split, checkpoint, config.

    Raises:
        InputError: an argument is out of range, or model, clips and arguments do not fit each other.
    """
    started = time.monotonic()
    _check(model, clips, lpips, noise, context, horizon, num_samples, batch_size, seed, num_pictures)
    examples = clips.examples(num_examples)
    total = clips.num_clips if num_examples is None else num_examples
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    curves, network = Curves(), LPIPS() if lpips else None
    with tqdm(total=total, desc="clips", unit="clip", disable=None) as progress:
        for first, clip in _batches(examples, batch_size):
            observed, future = clip[:, :context], clip[:, context : context + horizon]
            seeds = clip_seeds(seed, range(first, first + len(clip)))
            chunks = model.rollout_chunks(
                observed, horizon, num_samples=num_samples, seed=seeds, noise=noise, chunk=CHUNK
            )
            pictured = max(0, min(len(clip), num_pictures - first))
            scores, pictures = _score(chunks, observed, future, network, pictured)
            for series, values in scores.items():
                curves.add(series, values)
            for i, prediction in enumerate(pictures):
                truth = _to_bytes(clip[i, : context + horizon])
                _save_pictures(out, first + i, clips.label("truth"), truth, prediction, context)
            progress.update(len(clip))
    reduced = curves.reduce(MODEL, seed)
    report = {
        "metric_spec": METRIC_SPEC,
        "context": context,
        "horizon": horizon,
        "num_examples": total,
        "num_samples": num_samples,
        "seed": seed,
        "noise": noise if model.stochastic else "none: the model is deterministic",
        "best_rule": "per clip, the sample with the best PSNR averaged over the horizon supplies every metric",
        "interval": "95 % percentile bootstrap over clips, 1000 resamples",
        "lpips": "AlexNet-lin v0.1" if lpips else "skipped: lpips=false",
        "exact_frames": {name: int((curves.array(name, "mse") == 0).sum()) for name in curves.series},
        **(provenance or {}),
        "environment": environment.describe(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_memory_mib": peak_memory_mib(),
    }
    if clips.note:
        report["note"] = clips.note
    units = getattr(clips.source, "units", None)
    if units:
        report["units"] = list(units)
        report["rmse_pooled"] = {name: _root(c["mse"], units[1] - units[0]) for name, c in reduced["curves"].items()}
    print(table(reduced, report))
    curves.save(out, reduced, report)
    _save_plot(out / "curves.png", reduced, report)
    return Evaluation(curves, reduced, report)


def table(reduced: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The numbers as text: a block a metric, a row a lead time, a column a series, each with its 95 % interval."""
    horizon, samples = report["horizon"], report["num_samples"]
    leads = sorted({lead for lead in _TABLE_HORIZONS if lead <= horizon} | {horizon})
    curves, differences = reduced["curves"], reduced["differences"]
    lines = [
        f"{_title(report)}; mean over clips [95 % bootstrap interval]",
        "+ the model is better than this baseline, - it is worse: the paired 95 % interval excludes zero",
    ]
    for metric in curves["black"]:
        own = {metric, f"{metric}_mean{samples}", f"{metric}_best{samples}"}
        columns = {
            f"{MODEL}{name.removeprefix(metric)}": (curve, None) for name, curve in curves[MODEL].items() if name in own
        }
        columns |= {name: (curves[name][metric], differences[name][metric]) for name in BASELINES}
        direction = "higher" if metric in _HIGHER_IS_BETTER else "lower"
        lines += ["", f"{metric} ({direction} is better)", *_block(metric, columns, leads)]
    if "rmse_pooled" in report:
        columns = {name: (curve, None) for name, curve in report["rmse_pooled"].items()}
        low, high = report["units"]
        lines += ["", f"rmse_pooled, in the data's units: 0 is {low:g}, 1 is {high:g}", *_block("rmse", columns, leads)]
    columns = {f"minus {name}": (differences[name]["psnr"], None) for name in BASELINES}
    lines += ["", "psnr, model minus baseline on the same clips", *_block("psnr", columns, leads)]
    lines += [f"{count} frames of {name} are exact" for name, count in report["exact_frames"].items() if count]
    return "\n".join(lines)


def peak_memory_mib() -> int:
    """The most memory this process has had in use so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)


def _check(model, clips, lpips, noise, context, horizon, num_samples, batch_size, seed, num_pictures) -> None:
    least = {"context": 1, "horizon": 1, "num_samples": 1, "batch_size": 1, "seed": 0, "num_pictures": 0}
    given = (context, horizon, num_samples, batch_size, seed, num_pictures)
    for (name, minimum), value in zip(least.items(), given, strict=True):
        if value < minimum:
            raise InputError(f"eval.{name} must be at least {minimum}, received {value}")
    if noise == "mean" and num_samples > 1:
        raise InputError(
            f"eval.noise=mean gives one future, but eval.num_samples is {num_samples}; set one or the other"
        )
    if num_samples > 1 and not model.stochastic:
        raise InputError(f"this model has one future for a context, but eval.num_samples is {num_samples}; set it to 1")
    frames, *shape = clips.shape
    if frames < context + horizon:
        raise InputError(
            f"the clips have {frames} frames, but context {context} and horizon {horizon} need {context + horizon}; "
            "use longer clips or a shorter horizon"
        )
    if tuple(shape) != tuple(model.frame_shape):
        raise InputError(
            f"the model predicts frames of {tuple(model.frame_shape)}, but the clips have {tuple(shape)}; "
            "evaluate on the data it was trained for"
        )
    if lpips and (min(shape[:2]) < MIN_SIZE or shape[2] not in (1, 3)):
        raise InputError(
            f"LPIPS needs frames of at least {MIN_SIZE}x{MIN_SIZE} pixels with 1 or 3 channels, received "
            f"{'x'.join(map(str, shape))}; set eval.lpips=false"
        )


def _batches(examples: Iterator[np.ndarray], batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Clips by at most ``batch_size``, each batch with the index of its first clip."""
    first = 0
    for clip in examples:
        for begin in range(0, len(clip), batch_size):
            yield first + begin, clip[begin : begin + batch_size]
        first += len(clip)


def clip_seeds(seed: int, indices: range) -> np.ndarray:
    """The rollout seeds of clips, int32: functions of the evaluation's seed and a clip's index alone."""
    states = [np.random.SeedSequence([seed, index]).generate_state(1)[0] for index in indices]
    return (np.array(states) >> 1).astype(np.int32)


def _score(
    chunks, observed, future, network: LPIPS | None, pictured: int
) -> tuple[dict[str, Values], list[np.ndarray]]:
    """Score one batch.

    Args:
        chunks: consecutive pieces ``(sample, batch, time, height, width, channel)`` of the prediction.
        observed, future: context and truth ``(batch, time, height, width, channel)``.
        network: for LPIPS, or None.
        pictured: of how many clips to return the prediction.

    Returns:
        For every series its values ``(sample, batch, horizon)`` by metric; predictions, uint8 ``(horizon, ...)``.
    """
    stills = {name: baseline(observed) for name, baseline in BASELINES.items()}
    features = {name: network.features(still) for name, still in stills.items()} if network else {}
    pieces: dict[str, list[Values]] = {name: [] for name in (MODEL, *stills)}
    kept, begin = [], 0
    for chunk in chunks:
        prediction = np.clip(chunk, 0, 1)
        truth = future[:, begin : begin + prediction.shape[2]]
        begin += prediction.shape[2]
        truth_features = network.features(truth) if network else None
        samples = [_values(sample, truth, network, truth_features) for sample in prediction]
        pieces[MODEL].append({metric: np.stack([values[metric] for values in samples]) for metric in samples[0]})
        for name, still in stills.items():
            frames = np.broadcast_to(still, truth.shape)
            values = _values(frames, truth, network, truth_features, features.get(name))
            pieces[name].append({metric: array[None] for metric, array in values.items()})
        kept.append(_to_bytes(prediction[0, :pictured]))
    joined = {
        name: {metric: np.concatenate([piece[metric] for piece in parts], axis=2) for metric in parts[0]}
        for name, parts in pieces.items()
    }
    return joined, list(np.concatenate(kept, axis=1))


def _values(prediction, truth, network: LPIPS | None, truth_features, features=None) -> Values:
    """Every metric ``(batch, time)``; ``features`` of the prediction where they are known already."""
    values = frame_errors(prediction, truth)
    if network:
        features = network.features(prediction) if features is None else features
        values["lpips"] = network.distance(features, truth_features)
    return values


def _to_bytes(frames: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.nan_to_num(frames)).astype(np.uint8)


def _save_pictures(out: Path, index: int, label: str, truth: np.ndarray, prediction: np.ndarray, context: int) -> None:
    prediction = np.concatenate([truth[:context], prediction])
    difference = np.abs(truth.astype(np.int16) - prediction).astype(np.uint8)
    rows = {label: truth, "prediction": prediction, "difference": difference}
    plots.save_strip(out / f"clip_{index}.png", rows, context)
    start = {name: row[: context + GIF_FRAMES] for name, row in rows.items()}
    plots.save_gif(out / f"clip_{index}.gif", start, context)


def _save_plot(path: Path, reduced: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    curves, samples = reduced["curves"], report["num_samples"]
    bands: dict[str, dict[str, plots.Band]] = {}
    for metric in (name for name in PLOTTED if name in curves[MODEL]):
        shown = {name: columns[metric] for name, columns in curves.items()}
        if samples > 1:
            shown[f"best of {samples}"] = curves[MODEL][f"{metric}_best{samples}"]
        bands[metric] = {name: (curve["mean"], curve["low"], curve["high"]) for name, curve in shown.items()}
    plots.save_curves(path, bands, "Open-loop prediction", _title(report))


def _title(report: Mapping[str, Any]) -> str:
    samples = "1 sample" if report["num_samples"] == 1 else f"{report['num_samples']} samples"
    futures = "rollouts of means" if report["noise"] == "mean" else f"{samples} a clip"
    kind = f" ({report['note']})" if "note" in report else ""
    return f"{report['num_examples']} clips{kind}, {report['context']} context frames, {futures}"


def _block(metric: str, columns: Mapping[str, Any], leads: list[int]) -> list[str]:
    """One block of the table; a column is a curve and the paired difference that marks it, or None."""
    rows = [["horizon", *columns]]
    for lead in leads:
        rows.append([str(lead), *(_cell(metric, *_at(lead - 1, *column)) for column in columns.values())])
    rows.append(["mean", *(_cell(metric, *_at("horizon_mean", *column)) for column in columns.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _root(curve: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """A curve of mean squared errors as one of their roots, times ``scale``."""
    return {
        name: _root(value, scale) if isinstance(value, Mapping) else scale * np.sqrt(value)
        for name, value in curve.items()
    }


def _at(where, *curves) -> list[dict[str, float] | None]:
    """Mean, low and high of curves at a lead time, or of their ``"horizon_mean"``."""
    if where == "horizon_mean":
        return [curve and curve[where] for curve in curves]
    return [curve and {name: curve[name][where] for name in ("mean", "low", "high")} for curve in curves]


def _cell(metric: str, value: Mapping[str, float], difference: Mapping[str, float] | None) -> str:
    form = _FORMATS.get(metric, "#.4g")
    text = f"{value['mean']:{form}}"
    if not math.isnan(value["low"]):
        text += f" [{value['low']:{form}}, {value['high']:{form}}]"
    if difference and (difference["low"] > 0 or difference["high"] < 0):
        text += " +" if (difference["low"] > 0) == (metric in _HIGHER_IS_BETTER) else " -"
    return text
