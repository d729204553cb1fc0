"""Predictions of one clip as pictures: its futures side by side, each after the observed frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from htsr.report import figures

SLOWEST, FASTEST = 1, 50  # frames per second of a GIF, which viewers show no faster
PICTURED = 8  # futures, side by side
GIF_FRAMES = 300  # predicted frames in a GIF, which is built in memory; the strip spans the whole horizon


def label_futures(prediction: np.ndarray) -> dict[str, np.ndarray]:
    """Name the futures of an array (num_samples, horizon, height, width, channel) as pictures do."""
    if len(prediction) == 1:
        return {"prediction": prediction[0]}
    return {f"sample {number}": sample for number, sample in enumerate(prediction, 1)}


def save_animation(path: Path, context: np.ndarray, futures: Mapping[str, np.ndarray], fps: float) -> None:
    """Write futures side by side as ``path`` says: a .gif, or an .mp4.

    Args:
        path: the file.
        context: the observed frames, uint8 (time, height, width, channel).
        futures: label → uint8 (horizon, height, width, channel), all of one length.
        fps: frames per second; of a .gif brought within what viewers can show.
    """
    if path.suffix == ".gif":
        figures.save_gif(path, rows_after(context, futures), len(context), min(max(fps, SLOWEST), FASTEST))
    else:
        figures.save_mp4(path, rows_after(context, futures), len(context), fps)


def rows_after(context: np.ndarray, futures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put the observed frames before each future."""
    return {label: np.concatenate([context, future]) for label, future in futures.items()}


def save_pictures(out: Path, context: np.ndarray, futures: Mapping[str, np.ndarray], fps: float) -> None:
    """Write strip.png, prediction.gif (its first ``GIF_FRAMES`` predicted frames) and prediction.mp4."""
    figures.save_strip(out / "strip.png", rows_after(context, futures), len(context))
    beginning = {label: future[:GIF_FRAMES] for label, future in futures.items()}
    save_animation(out / "prediction.gif", context, beginning, fps)
    save_animation(out / "prediction.mp4", context, futures, fps)
