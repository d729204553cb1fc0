"""Files of radar frames: pictures of grey levels and arrays, one frame or one sequence a file; read when asked for."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from htsr.data.video.cache import StoredVideo
from htsr.data.video.contents import digests_of
from htsr.data.video.files import MAX_SIDE, convert, frame_format, shown
from htsr.data.video.order import Doubtful, in_order
from htsr.data.video.pictures import ArrayFile, open_array, read_picture
from htsr.data.video.remembered import Remembered
from htsr.errors import DAMAGE, InputError

# isort: split
import cv2  # after htsr.data.video.files, which chooses what OpenCV prints

_DBZ = 150.0  # what lies beyond, on either side, was not measured by a radar
_MAX_ARRAY_BYTES = 1 << 31  # of a .npz file, which is unpacked whole
_TIMES = 10**7  # from here on a number in a file's name is a time, whose steps need not be equal


class RadarSequence(NamedTuple):
    """A sequence: its name below the folder of the data, the folder of its files, those, and how many frames there are.

    A file is a frame, or the only one has all of them, ``stacked``. ``remark`` shows an order that is not plain.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    frames: int
    stacked: bool = False
    remark: str | None = None


def picture_sequence(path: Path, folder: Path) -> RadarSequence:
    """A folder of frames, .png or .npy, in the order of their numbers.

    Raises:
        InputError: there are none, or of both kinds; numbers are missing, or there twice; names are of two kinds.
    """
    name = shown(path.relative_to(folder))
    files = [file.name for file in path.iterdir() if not file.name.startswith(".")]
    files = [file for file in files if file.lower().endswith((".png", ".npy"))]
    if not files or len({file.lower()[-4:] for file in files}) > 1:
        reason = "has .png and .npy frames" if files else "has no frames"
        raise InputError(f"sequence {path} {reason}; expected numbered .png frames, or numbered .npy frames")
    without = [file for file in files if not re.search(r"\d", Path(file).stem)]
    if without:
        raise InputError(f"frame {path / without[0]} has no number; rename or remove it")
    try:
        order = in_order(files)
    except Doubtful as error:
        raise InputError(f"sequence {path} {error}") from None
    steps = np.diff(order.numbers or [])
    if len(steps) and steps.max() > steps.min() and order.numbers[-1] < _TIMES:
        gap = [order.names[i] for i in (steps.argmax(), steps.argmax() + 1)]
        raise InputError(f"sequence {path} lacks frames between {' and '.join(gap)}; add them, or number frames anew")
    remark = order.remark if order.remark and "order" in order.remark else None
    return RadarSequence(name, path, tuple(order.names), len(order.names), remark=remark)


def array_sequence(path: Path, folder: Path) -> RadarSequence:
    """A .npy or .npz file of one array (time, height, width).

    Raises:
        InputError: it is no such file, or too large a one to unpack.
    """
    frames = _opened(path, 3).shape[0]
    return RadarSequence(shown(path.relative_to(folder)), path.parent, (path.name,), frames, stacked=True)


class RadarFiles:
    """Sequences as a `VideoStore`: frames of one size and type, grey levels (uint8) or, made from dBZ, float32 in
    [0, 1].

    Args:
        sequences: which ones.
        dbz: what 0 and 1 stand for.
        image_size: of the frames, as in `htsr.data.radar.radar`.
        nodata: the value, a grey level or dBZ, of cells that were not measured; NaN is such a value, too.

    Raises:
        InputError: the first frame cannot be read, or ``image_size`` is refused.
    """

    def __init__(
        self,
        sequences: Sequence[RadarSequence],
        dbz: tuple[float, float],
        image_size: int | tuple[int, int] | None,
        nodata: float | None = None,
    ):
        self._sequences, self._dbz, self._nodata = sequences, dbz, nodata
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

    def digests(self, video: int) -> str:
        """The digests of a sequence's frames, or of their files."""
        sequence = self._sequences[video]
        if sequence.stacked:
            return digests_of(self._frames(video, range(sequence.frames)))
        return digests_of((sequence.folder / file).read_bytes() for file in sequence.files)

    def survey(self, what: str) -> None:
        """Look through all arrays, once: refuse what no radar measures, say how many cells were not measured.

        Args:
            what: the sequences in words, for the messages.
        """
        remarks = [f"{sequence.name} {sequence.remark}" for sequence in self._sequences if sequence.remark]
        if remarks:
            print(f"{what}: {remarks[0]}; {len(remarks)} sequences have such names", file=sys.stderr)
        if self._kind[0] == np.uint8:
            return
        counts, high = np.zeros(3, np.int64), self._dbz[1]
        find = Remembered("radar.json", lambda path: _survey(path, self._nodata, high))
        for sequence in self._sequences:
            for file in sequence.files:
                counts += find(sequence.folder / file, self._nodata, high)
        find.save()
        cells, missing, above = counts.tolist()
        if missing:
            print(f"{what}: {missing:,} of {cells:,} cells were not measured, and count as no echo", file=sys.stderr)
        if above:
            print(f"{what}: {above:,} of {cells:,} cells are above {high:g} dBZ, and count as that", file=sys.stderr)

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
        unmeasured = _unmeasured(frame, self._nodata)
        if dtype == np.uint8:
            return np.where(unmeasured, np.uint8(0), frame)
        low, high = self._dbz
        _check_measured(frame[~unmeasured], high, self.videos[video].name)
        return np.clip((np.where(unmeasured, low, frame) - low) / (high - low), 0, 1).astype(np.float32)


def _survey(path: Path, nodata: float | None, high: float) -> list[int]:
    """How many cells an array file has, how many were not measured, and how many are above ``high``."""
    cells = missing = above = 0
    array = _array(path, None)
    for frame in array if array.ndim == 3 else array[np.newaxis]:
        unmeasured = _unmeasured(frame, nodata)
        if frame.dtype != np.uint8:
            _check_measured(frame[~unmeasured], high, str(path))
            above += int((frame[~unmeasured] > high).sum())
        cells, missing = cells + frame.size, missing + int(unmeasured.sum())
    return [cells, missing, above]


def _unmeasured(frames: np.ndarray, nodata: float | None) -> np.ndarray:
    """Where frames hold no measurement: NaN, or ``nodata`` as their type rounds it."""
    if frames.dtype == np.uint8:
        return np.zeros(frames.shape, bool) if nodata is None else frames == nodata
    missing = np.isnan(frames)
    return missing if nodata is None else missing | np.isclose(frames, nodata, rtol=1e-6, atol=0)


def _check_measured(values: np.ndarray, high: float, name: str) -> None:
    """Refuse what no radar measures; minus infinity, the logarithm of no rain, is no echo."""
    odd = values[(values > max(_DBZ, high)) | ((values < -_DBZ) & ~np.isneginf(values))]
    if odd.size:
        value = np.format_float_scientific(odd[0], trim="0") if abs(odd[0]) >= 1e6 else f"{odd[0]:g}"
        value = ".inf" if value == "inf" else value  # as YAML has it
        raise InputError(
            f"{name} has {odd.size} cells of {value} dBZ, which no radar measures; if they stand for no measurement,"
            f" say so with data.nodata={value}, or save them as NaN"
        )


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


def _array(path: Path, ndim: int | None) -> np.ndarray:
    """Return the array of a file, as it is."""
    file = _opened(path, ndim)
    try:
        return file.load()
    except DAMAGE as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None


def _opened(path: Path, ndim: int | None) -> ArrayFile:
    """Return what an array file states, refused where it is no frame (2 axes), or no sequence (3; None: any)."""
    try:
        file = open_array(path)
        if path.suffix.lower() == ".npz" and np.prod(file.shape, dtype=float) * file.dtype.itemsize > _MAX_ARRAY_BYTES:
            raise ValueError(f"it states {file.shape}, too much to unpack: save it as .npy")
    except DAMAGE as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None
    ndim = ndim or (2 if len(file.shape) == 2 else 3)
    good = len(file.shape) == ndim and 0 not in file.shape and max(file.shape[-2:]) <= MAX_SIDE
    if not good or not (file.dtype == np.uint8 or file.dtype.kind == "f"):
        expected = "(height, width)" if ndim == 2 else "(time, height, width)"
        raise InputError(
            f"{path} is {file.dtype} {file.shape}, expected {expected} of at most {MAX_SIDE} a side, uint8 or floats"
            " (dBZ)"
        )
    return file
