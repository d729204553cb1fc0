"""Files of radar frames: pictures of grey levels and arrays, one frame or one sequence a file; read when asked for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from htsr.data.video.cache import StoredVideo
from htsr.data.video.files import MAX_SIDE, READ_ERRORS, convert, frame_format
from htsr.data.video.pictures import ArrayFile, open_array, read_picture
from htsr.errors import InputError

# isort: split
import cv2  # after htsr.data.video.files, which chooses what OpenCV prints

_MAX_ARRAY_BYTES = 1 << 31  # of a .npz file, which is unpacked whole
_TIMES = 10**7  # from here on a number in a file's name is a time, whose steps need not be equal


class RadarSequence(NamedTuple):
    """A sequence: its name below the folder of the data, the folder of its files, those, and how many frames there are.

    A file is a frame, or the only one has all of them, ``stacked``.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    frames: int
    stacked: bool = False


def picture_sequence(path: Path, folder: Path) -> RadarSequence:
    """A folder of frames, .png or .npy, in the order of the last number in their names.

    Raises:
        InputError: there are none, or of both kinds; numbers are missing, or there twice.
    """
    name = path.relative_to(folder).as_posix()
    files = [file.name for file in path.iterdir() if not file.name.startswith(".")]
    files = [file for file in files if file.lower().endswith((".png", ".npy"))]
    if not files or len({file.lower()[-4:] for file in files}) > 1:
        reason = "has .png and .npy frames" if files else "has no frames"
        raise InputError(f"sequence {path} {reason}; expected numbered .png frames, or numbered .npy frames")
    parts = [re.findall(r"\d+", Path(file).stem) for file in files]
    if not all(parts):
        raise InputError(f"frame {path / files[[not p for p in parts].index(True)]} has no number; rename or remove it")
    numbers = {file: int(part[-1]) for file, part in zip(files, parts, strict=True)}
    files.sort(key=numbers.__getitem__)
    steps = np.diff([numbers[file] for file in files])
    if len(steps) and not steps.min():
        twice = [files[i] for i in (steps.argmin(), steps.argmin() + 1)]
        raise InputError(f"sequence {path}: {' and '.join(twice)} have the same number; rename or remove one")
    if len(steps) and steps.max() > steps.min() and numbers[files[-1]] < _TIMES:
        gap = [files[i] for i in (steps.argmax(), steps.argmax() + 1)]
        raise InputError(f"sequence {path} lacks frames between {' and '.join(gap)}; add them, or number frames anew")
    return RadarSequence(name, path, tuple(files), len(files))


def array_sequence(path: Path, folder: Path) -> RadarSequence:
    """A .npy or .npz file of one array (time, height, width).

    Raises:
        InputError: it is no such file, or too large a one to unpack.
    """
    frames = _opened(path, 3).shape[0]
    return RadarSequence(path.relative_to(folder).as_posix(), path.parent, (path.name,), frames, stacked=True)


class RadarFiles:
    """Sequences as a `VideoStore`: frames of one size and type, grey levels (uint8) or, made from dBZ, float32 in
    [0, 1].

    Args:
        sequences: which ones.
        dbz: what 0 and 1 stand for.
        image_size: of the frames, as in `htsr.data.radar.radar`.
        unmeasured: a grey level that becomes 0.

    Raises:
        InputError: the first frame cannot be read, or ``image_size`` is refused.
    """

    def __init__(
        self,
        sequences: Sequence[RadarSequence],
        dbz: tuple[float, float],
        image_size: int | tuple[int, int] | None,
        unmeasured: int | None = None,
    ):
        self._sequences, self._dbz, self._unmeasured = sequences, dbz, unmeasured
        self.videos = [StoredVideo(sequence.name, 0, sequence.frames, "", None, None) for sequence in sequences]
        self.refused: dict[str, str] = {}
        first = self._frames(0, range(1))[0]
        self._kind = (first.dtype, first.shape)
        self._form = frame_format(first.shape if image_size is None else image_size, 1, "stretch")
        self.shape = (self._form.height, self._form.width, 1)

    def read(self, video: int, start: int, stop: int, stride: int = 1) -> np.ndarray:
        """Every ``stride``-th of the frames start … stop - 1, (time, height, width, 1)."""
        frames = self._frames(video, range(start, stop, stride))
        return np.stack([convert(self._levels(frame, video)[..., np.newaxis], self._form) for frame in frames])

    def _frames(self, number: int, wanted: range) -> list[np.ndarray]:
        sequence = self._sequences[number]
        if sequence.stacked:
            return list(_array(sequence.folder / sequence.files[0], 3)[wanted.start : wanted.stop : wanted.step])
        return [_frame(sequence.folder / sequence.files[index]) for index in wanted]

    def _levels(self, frame: np.ndarray, video: int) -> np.ndarray:
        dtype, shape = self._kind
        if (frame.dtype, frame.shape) != self._kind:
            raise InputError(
                f"a frame of {self.videos[video].name} is {frame.dtype} {frame.shape}, expected {dtype} {shape} as in"
                f" {self.videos[0].name}; make all frames of one size and type"
            )
        if dtype == np.uint8:
            return frame if self._unmeasured is None else np.where(frame == self._unmeasured, np.uint8(0), frame)
        low, high = self._dbz
        return np.nan_to_num(np.clip((frame - low) / (high - low), 0, 1), nan=0).astype(np.float32)


def _frame(path: Path) -> np.ndarray:
    """Return one frame (height, width) of a file, as it is."""
    if path.suffix.lower() != ".png":
        return _array(path, 2)
    try:
        image = read_picture(path, cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise InputError(
            f"frame {path} cannot be read ({error.strerror}); put it there, or remove its sequence"
        ) from None
    except ValueError as error:
        raise InputError(f"frame {path} cannot be decoded ({error}); fetch it again") from None
    if image.ndim == 3 and (image[..., 1:3] == image[..., :1]).all():
        image = image[..., 0]
    if image.ndim != 2 or image.dtype != np.uint8:
        kind = "colours" if image.ndim == 3 else f"pixels of the kind {image.dtype}"
        raise InputError(f"frame {path} has {kind}, expected 8 bit grey levels; convert it")
    return image


def _array(path: Path, ndim: int) -> np.ndarray:
    """Return the array of a file, as it is."""
    file = _opened(path, ndim)
    try:
        return file.load()
    except READ_ERRORS as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None


def _opened(path: Path, ndim: int) -> ArrayFile:
    """Return what an array file states, refused where it is no frame (2 axes), or no sequence of frames (3)."""
    try:
        file = open_array(path)
        if path.suffix.lower() == ".npz" and np.prod(file.shape, dtype=float) * file.dtype.itemsize > _MAX_ARRAY_BYTES:
            raise ValueError(f"it states {file.shape}, too much to unpack: save it as .npy")
    except READ_ERRORS as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None
    good = len(file.shape) == ndim and 0 not in file.shape and max(file.shape[-2:]) <= MAX_SIDE
    if not good or not (file.dtype == np.uint8 or file.dtype.kind == "f"):
        expected = "(height, width)" if ndim == 2 else "(time, height, width)"
        raise InputError(
            f"{path} is {file.dtype} {file.shape}, expected {expected} of at most {MAX_SIDE} a side, uint8 or floats"
            " (dBZ)"
        )
    return file
