"""Grey windows of video files, decoded by OpenCV when they are asked for."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from htsr.errors import InputError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our message is the one line about a damaged file

import cv2

SUFFIXES = (".avi", ".mp4")
_FILES_KEPT = 8


class VideoWindows:
    """Non-overlapping windows of ``seq_len`` frames, in file order; what is left over at a file's end is not used.

    Args:
        files: videos, all of the size ``image_size`` × ``image_size``.
        seq_len: frames per window.
        image_size: pixels.

    Raises:
        InputError: a file is unreadable or of another size, or no file is long enough.
    """

    def __init__(self, files: Sequence[Path], seq_len: int, image_size: int):
        lengths = []
        for path in files:
            frames, height, width = _header(path)
            if (height, width) != (image_size, image_size):
                raise InputError(f"video {path} is {width} x {height}, expected {image_size} x {image_size}; resize it")
            lengths.append(frames)
        self._windows = [
            (path, start)
            for path, frames in zip(files, lengths, strict=True)
            for start in range(0, frames - seq_len + 1, seq_len)
        ]
        if not self._windows:
            raise InputError(
                f"no video in {files[0].parent} has {seq_len} frames: {len(files)} of {min(lengths)} to {max(lengths)}"
                " frames found; choose a smaller seq_len"
            )
        self.shape = (seq_len, image_size, image_size, 1)
        self.num_clips = len(self._windows)
        self._read = functools.lru_cache(maxsize=_FILES_KEPT)(read_grey)

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The window, uint8 (time, height, width, 1); the same in every epoch."""
        path, start = self._windows[index]
        return self._read(path)[start : start + self.shape[0]]


def list_videos(folder: Path) -> list[Path]:
    """The .avi and .mp4 files of a folder by name; an `InputError` where there are none."""
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected one with .avi or .mp4 files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"folder {folder} has no .avi or .mp4 files; put the videos there")
    return files


def read_grey(path: Path) -> np.ndarray:
    """All frames of a video in grey, uint8 (time, height, width, 1); an `InputError` unless all can be decoded."""
    frames, height, width = _header(path)
    video = np.empty((frames, height, width, 1), np.uint8)
    capture, decoded = cv2.VideoCapture(str(path)), 0
    try:
        while decoded < frames and (image := capture.read()[1]) is not None and image.shape[:2] == (height, width):
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=video[decoded])
            decoded += 1
    finally:
        capture.release()
    if decoded < frames:
        raise InputError(f"video {path} is damaged: frame {decoded} of {frames} cannot be decoded; replace the file")
    return video


def _header(path: Path) -> tuple[int, int, int]:
    """(frames, height, width) as the file states them."""
    capture = cv2.VideoCapture(str(path))
    try:
        keys = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        frames, height, width = (int(capture.get(key)) for key in keys)
    finally:
        capture.release()
    if min(frames, height, width) < 1:
        raise InputError(f"cannot read the video {path}; replace or remove the file")
    return frames, height, width
