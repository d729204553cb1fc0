"""The part of a video that a prediction starts from."""

import collections
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from htsr.data.video.files import ARRAYS, FrameFormat, Video
from htsr.data.video.reader import VideoReader
from htsr.errors import InputError


class Context(NamedTuple):
    """What a prediction starts from.

    ``frames`` are uint8 (time, height, width, channel), ``numbers`` says which ones of the input they are. ``total`` is
    the input's length, None where it was not read to its end; ``size`` the (height, width, channels) it has itself.
    """

    frames: np.ndarray
    numbers: range
    total: int | None
    size: tuple[int, int, int]
    fps: float | None
    note: str | None


def last_frames(frames: Iterable[np.ndarray], count: int, stride: int) -> np.ndarray:
    """Return the last ``count`` frames, ``stride`` apart, or as many as there are; the very last one is among them.

    No more than what these frames span is kept in memory. At least one frame must come.
    """
    kept = collections.deque(frames, maxlen=(count - 1) * stride + 1)
    return np.stack(list(kept)[(len(kept) - 1) % stride :: stride])


def read_context(video: Video, form: FrameFormat, count: int, stride: int, start: int | None) -> Context:
    """Read ``count`` frames, ``stride`` apart, or as many as there are; no more than they span is kept in memory.

    Args:
        video: which one.
        form: what frames become.
        start: the first of them; None takes the last ones of the video.

    Raises:
        InputError: the video is damaged, or ends before ``start``.
    """
    look = VideoReader(video, None)
    next(iter(look))
    span = (count - 1) * stride + 1
    # Files of other kinds are read from their beginning: they are not always sought exactly, nor is their length exact.
    exact = video.path.is_dir() or video.path.suffix.lower() in (*ARRAYS, ".gif")
    stated = look.stated or 0
    begin = (max(0, stated - span) if start is None else start) if exact else 0
    stop = None if start is None else start + span
    reader = VideoReader(video, form, begin)
    with tqdm(reader, total=stop or stated, initial=begin, desc="reading", unit="frame", disable=None) as progress:
        if start is None:
            frames = last_frames(progress, count, stride)
        else:
            frames = list(itertools.islice(progress, start - begin, start - begin + span))[::stride]
    end = begin + reader.decoded
    total = stated if exact else end
    if len(frames) == 0:
        raise InputError(f"--start {start} is beyond the end: {video.name} has {total} frames, 0 to {total - 1}")
    first = end - 1 - (len(frames) - 1) * stride if start is None else start
    known = total if exact or end != stop else None
    return Context(np.stack(frames), range(first, end, stride), known, look.size, look.fps, reader.note)
