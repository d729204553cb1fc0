"""Pictures of a result: its curves, and strips and GIFs of its clips, predicted again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from htsr.data.clips import Clips
from htsr.evaluation.baselines import MODEL
from htsr.evaluation.evaluate import predict
from htsr.evaluation.result import Result
from htsr.metrics import Curves
from htsr.models.base import VideoModel
from htsr.report import figures, plots
from htsr.report.prediction import GIF_FRAMES, label_futures
from htsr.report.tables import bands, title

GIF_SAMPLES = 3
RULE = "PSNR of the first sample averaged over the horizon"


def illustrate(result: Result, model: VideoModel, clips: Clips, num_pictures: int = 6) -> list[dict[str, Any]]:
    """Draw the curves of a result, and strips and GIFs of some of its clips, predicted again.

    Args:
        result: of the model on the clips.
        model, clips: of the evaluation.
        num_pictures: clips that get a strip and a GIF (truth, the first samples, absolute difference of the first):
            the best, the median and the worst by PSNR, then the first ones; a GIF ends after 300 predicted frames.

    Returns:
        Which clips were drawn, why, and the names of their files.
    """
    settings, pictures = result.provenance, []
    draw_curves(result)
    chosen = chosen_clips(Curves.load(result.file(".npz"), "psnr"), MODEL)[:num_pictures]
    together = max(1, (settings["rows"] or 1) // settings["num_samples"])  # as many as fill a group of rows
    for begin in range(0, len(chosen), together):
        group = chosen[begin : begin + together]
        predicted = predict_clips(model, clips, [picture["clip"] for picture in group], settings)
        for picture, (truth, samples) in zip(group, predicted, strict=True):
            difference = np.abs(truth.astype(np.int16) - samples[0]).astype(np.uint8)
            rows = {clips.label("truth"): truth, **label_futures(samples), "difference": difference}
            drawn = save_pictures(result.folder, f"clip_{picture['clip']}", rows, settings["context"])
            pictures.append({**picture, **drawn})
    return pictures


def draw_curves(result: Result) -> None:
    """Plot the horizon curves of a result."""
    about = result.provenance
    plots.save_curves(result.file(".png"), bands(result.reduced, about), "Open-loop prediction", title(about))


def chosen_clips(curves: Curves, series: str) -> list[dict[str, Any]]:
    """All clips in the order in which they are shown: the best, the median and the worst, then the first ones."""
    metric = next(name for name in curves.metrics(series) if name.rpartition(".")[2] == "psnr")
    score = curves.array(series, metric)[0].mean(axis=1, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(score), -np.inf, score), kind="stable")
    roles = {int(order[-1]): "best", int(order[len(order) // 2]): "median", int(order[0]): "worst"}
    roles |= {index: "first" for index in range(len(score)) if index not in roles}
    return [{"clip": index, "role": role, "rule": RULE, "psnr": float(score[index])} for index, role in roles.items()]


def predict_clips(
    model: VideoModel, clips: Clips, indices: Sequence[int], settings: Mapping[str, Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict clips as the evaluation of these settings did: of each the truth ``(context + horizon, ...)``, and its
    first futures, led by the context, ``(sample, context + horizon, ...)``, uint8."""
    context, horizon = settings["context"], settings["horizon"]
    known = np.concatenate([next(clips.examples(index + 1, index, 1)) for index in indices])[:, : context + horizon]
    chunks = predict(model, known[:, :context], indices, settings)
    predicted = np.concatenate([to_bytes(np.clip(chunk[:GIF_SAMPLES], 0, 1)) for chunk in chunks], axis=2)
    truth = to_bytes(known)
    seen = np.broadcast_to(truth[:, :context], (len(predicted), *truth[:, :context].shape))
    return list(zip(truth, np.concatenate([seen, predicted], axis=2).swapaxes(0, 1), strict=True))


def save_pictures(out: Path, name: str, rows: Mapping[str, np.ndarray], context: int) -> dict[str, str]:
    """Write strip and GIF of rows of frames, uint8, led by the context: their file names."""
    names = {"strip": f"{name}.png", "gif": f"{name}.gif"}
    figures.save_strip(out / names["strip"], rows, context)
    figures.save_gif(out / names["gif"], {label: row[: context + GIF_FRAMES] for label, row in rows.items()}, context)
    return names


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames in [0, 1] as uint8, for pictures; what is not a number is black."""
    return np.rint(255 * np.nan_to_num(frames)).astype(np.uint8)
