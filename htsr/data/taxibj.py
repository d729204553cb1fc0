"""TaxiBJ: taxi flow into and out of the cells of a 32 x 32 grid over Beijing, every 30 minutes (arXiv:1610.00081).

A value is a count of trips, min-max scaled to [0, 1]; channel 0 is the inflow, channel 1 the outflow. There are 1293
levels, so windows are float32. Papers predict 4 frames from 4 (MIM, arXiv:1811.07490, and those after it). Two
published layouts are read: OpenSTL's ready-made clips and the original record with its dates.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from htsr.checks import require_choice, require_int
from htsr.data.clips import SPLITS, Clips
from htsr.data.sources import WindowSource
from htsr.errors import DAMAGE, InputError

Source = Literal["openstl", "original"]
FILES = {"openstl": ("dataset.npz",), "original": tuple(f"BJ{year}_M32x32_T30_InOut.h5" for year in (13, 14, 15, 16))}
PUBLISHED_UNITS = (0.0, 1292.0)
_FRAME = (2, 32, 32)
_HALF_HOURS = 48  # a day
_PART = 28 * _HALF_HOURS


def taxibj(
    split: str,
    *,
    batch_size: int,
    seq_len: int = 8,
    seed: int = 0,
    source: Source = "openstl",
    datadir: str | None = None,
) -> Clips:
    """Clips of crowd flow, float32 windows of (seq_len, 32, 32, 2); a new one begins every half hour.

    ``clips.source.units`` are the counts that 0 and 1 stand for: ``rmse_in_trips = (units[1] - units[0]) * mse**0.5``.

    Args:
        split: "train", "valid" or "test"; no two splits share a frame.
        batch_size: clips per batch.
        seq_len: frames per clip; at most 8 with source "openstl".
        seed: of the training order.
        source: "openstl": ``<datadir>/dataset.npz`` with ``X_train``, ``Y_train``, ``X_test``, ``Y_test``, floats
            (clip, 4, 2, 32, 32) in [-1, 1], context and future, in order of time; units as published, 0 and 1292.
            "test" is all of the test arrays, "valid" the last twentieth of the training clips, at least one, and
            "train" those before it; clips that share a frame with a later split are left out.
            "original": ``<datadir>/BJ13_M32x32_T30_InOut.h5`` to ``BJ16_…``, each with ``data``, counts
            (frame, 2, 32, 32), and ``date``, strings YYYYMMDD and the half hour 01 … 48. As published, days with
            missing half hours are dropped, negative counts are 0, "test" is the last 28 of the days left, and
            minimum and maximum are those of everything before it (values of "test" outside are cut; the published
            maximum, 1292, lies before). "valid" is the 28 days before "test". A clip never spans a missing half hour.
        datadir: folder of the files.

    Deviation: OpenSTL validates on the test set; here "valid" comes out of the training part. A clip of the original
    record lies wholly inside its split, so "test" has somewhat fewer clips than the 1,344 of the papers.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or not of this form.
    """
    require_choice("split", split, SPLITS)
    require_choice("source", source, get_args(Source))
    require_int("seq_len", seq_len, least=1)
    if datadir is None:
        raise InputError("taxibj reads files: datadir, their folder, is missing; name it")
    folder = Path(datadir)
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected the one with the files of TaxiBJ")
    missing = [name for name in FILES[source] if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"folder {folder} has no {', '.join(missing)}, which source={source} reads; put OpenSTL's dataset.npz there"
            " and set source=openstl, or BJ13_M32x32_T30_InOut.h5 to BJ16_M32x32_T30_InOut.h5 and source=original"
        )
    read = _openstl if source == "openstl" else _original
    return Clips(read(folder, split, seq_len), batch_size, seed)


class FlowClips(WindowSource):
    """Clips as rows of indices into a table of frames, which overlapping clips share.

    Args:
        frames: channels first, (frame, 2, 32, 32), scaled; what lies outside [0, 1] is cut.
        clips: indices of frames, (clip, time).
        units: the counts that 0 and 1 stand for.
    """

    def __init__(self, frames: np.ndarray, clips: np.ndarray, units: tuple[float, float]):
        self._frames = np.ascontiguousarray(np.moveaxis(np.clip(frames, 0, 1), 1, -1), np.float32)
        self._clips = clips
        self.units = units
        self.num_clips = len(clips)
        self.shape = (clips.shape[1], *self._frames.shape[1:])

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The clip, float32 (time, 32, 32, 2) in [0, 1]; the same in every epoch."""
        return self._frames[self._clips[index]]


def _openstl(folder: Path, split: str, seq_len: int) -> FlowClips:
    path = folder / "dataset.npz"
    if seq_len > 8:
        raise InputError(f"seq_len is {seq_len}, but the clips of {path} have 8 frames; choose at most 8")
    table: dict[bytes, int] = {}
    clips = _numbered_clips(path, "test", table)
    if split != "test":
        rest = _apart_from(clips, _numbered_clips(path, "train", table))
        held_out = max(1, len(rest) // 20)
        valid = rest[-held_out:]
        clips = valid if split == "valid" else _apart_from(valid, rest[:-held_out])
    if not len(clips):
        raise InputError(f"{path} has too few clips for a {split} split that shares no frame with the others")
    frames = np.frombuffer(b"".join(table), np.float32).reshape(-1, *_FRAME)
    least, most = frames.min(), frames.max()
    if not -1.00001 <= least <= most <= 1.00001:  # so is nan
        raise InputError(f"{path}: expected values in [-1, 1], received {least} to {most}; fetch OpenSTL's file again")
    return FlowClips((frames + 1) / 2, clips[:, :seq_len], PUBLISHED_UNITS)


def _numbered_clips(path: Path, part: str, table: dict[bytes, int]) -> np.ndarray:
    """All clips of "train" or "test" as frame numbers (clip, 8); equal frames have one number, new ones are added."""
    halves = []
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            for name in (f"X_{part}", f"Y_{part}"):
                values = file[name]
                if values.dtype.kind != "f" or values.shape[1:] != (4, *_FRAME):
                    raise ValueError(f"{name} is {values.dtype} {values.shape}, expected floats (clip, 4, 2, 32, 32)")
                frames = values.astype(np.float32, copy=False).reshape(-1, *_FRAME)
                numbers = [table.setdefault(frame.tobytes(), len(table)) for frame in frames]
                halves.append(np.array(numbers, int).reshape(-1, 4))
        return np.concatenate(halves, axis=1)
    except DAMAGE as error:
        raise InputError(
            f"cannot read {path} ({error}); expected OpenSTL's dataset.npz with X_train, Y_train, X_test and Y_test"
        ) from None


def _apart_from(held_out: np.ndarray, clips: np.ndarray) -> np.ndarray:
    return clips[~np.isin(clips, held_out).any(axis=1)]


def _original(folder: Path, split: str, seq_len: int) -> FlowClips:
    years = [_complete_days(folder / name) for name in FILES["original"]]
    counts, times = (np.concatenate(parts) for parts in zip(*years, strict=True))
    if len(counts) <= 2 * _PART:
        days = len(counts) // _HALF_HOURS
        raise InputError(f"{folder} has {days} days with all 48 half hours; more than 56 are needed for the splits")
    least, most = float(counts[:-_PART].min()), float(counts[:-_PART].max())
    if least == most:
        raise InputError(f"all counts in {folder} are {least:g} before the test split; fetch the files again")
    part = {"train": slice(-2 * _PART), "valid": slice(-2 * _PART, -_PART), "test": slice(-_PART, None)}[split]
    counts, times = counts[part], times[part]
    run = np.cumsum(np.diff(times, prepend=times[0]) != 1)  # frames of one run follow each other by half hours
    starts = np.arange(len(run) - seq_len + 1)
    starts = starts[run[starts] == run[starts + seq_len - 1]]
    if not len(starts):
        raise InputError(
            f"seq_len is {seq_len}, but the longest run of half hours in the {split} split of {folder} is"
            f" {np.bincount(run).max()} frames; choose at most that"
        )
    return FlowClips((counts - least) / (most - least), starts[:, np.newaxis] + np.arange(seq_len), (least, most))


def _complete_days(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Counts, float32 (frame, 2, 32, 32), and times in half hours, (frame,), of the days with all their frames."""
    import h5py  # comes with keras

    try:
        with h5py.File(path, "r") as file:
            counts, dates = (np.array(file.get(name)) for name in ("data", "date"))
        if counts.dtype.kind not in "uif" or counts.shape[1:] != _FRAME or dates.shape != counts.shape[:1]:
            raise ValueError(
                f"data is {counts.dtype} {counts.shape} with date {dates.shape}, expected (frame, 2, 32, 32), (frame,)"
            )
        if not np.isfinite(counts).all():
            raise ValueError("data has values that are not finite")
        times = _half_hours(dates)
    except DAMAGE as error:
        raise InputError(f"cannot read {path} ({error}); fetch the file of TaxiBJ again") from None
    days, frames = np.unique(times // _HALF_HOURS, return_counts=True)
    kept = np.isin(times // _HALF_HOURS, days[frames == _HALF_HOURS])
    return np.maximum(counts[kept], 0).astype(np.float32), times[kept]


def _half_hours(dates: np.ndarray) -> np.ndarray:
    """Half hours since 1970-01-01 of dates such as ``b"2013070101"``."""
    texts = dates.astype("S").astype("U").tolist()
    for text in texts:
        if len(text) != 10 or not text.isdecimal() or not 1 <= int(text[8:]) <= _HALF_HOURS:
            raise ValueError(f"date {text!r}, expected YYYYMMDD and a half hour 01 to 48")
    days = np.array([f"{text[:4]}-{text[4:6]}-{text[6:8]}" for text in texts], "datetime64[D]").astype(np.int64)
    return days * _HALF_HOURS + np.array([int(text[8:]) for text in texts], np.int64) - 1
