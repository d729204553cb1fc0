"""Files of radar frames: pictures of grey levels and arrays, one frame or one sequence a file; read when asked for."""

import io
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from htsr.data.video.cache import StoredVideo
from htsr.data.video.files import MAX_SIDE, READ_ERRORS, convert, frame_format
from htsr.errors import InputError

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
    shape, _ = _opened(path, 3)
    return RadarSequence(path.relative_to(folder).as_posix(), path.parent, (path.name,), shape[0], stacked=True)


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
    """One frame (height, width) of a file, as it is."""
    if path.suffix.lower() != ".png":
        return _array(path, 2)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"frame {path} cannot be read ({error.strerror}); put it there, or remove its sequence"
        ) from None
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise InputError(f"frame {path} is no PNG picture; fetch it again")
    size = struct.unpack(">II", content[16:24])
    if max(size) > MAX_SIDE:
        raise InputError(f"frame {path} is {size[0]}x{size[1]} pixels, expected at most {MAX_SIDE} a side")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            mode, image = picture.mode, np.asarray(picture)
    except (*READ_ERRORS, SyntaxError, struct.error) as error:
        raise InputError(f"frame {path} cannot be decoded ({error}); fetch it again") from None
    if mode in ("RGB", "RGBA") and (image[..., 1:3] == image[..., :1]).all():
        mode, image = "L", image[..., 0]
    if mode != "L":
        raise InputError(f"frame {path} has pixels of the kind {mode}, expected 8 bit grey levels (L); convert it")
    return image


def _array(path: Path, ndim: int) -> np.ndarray:
    """The array of a .npy file, memory-mapped, or of a .npz file, as it is."""
    _, array = _opened(path, ndim)
    try:
        if array is None:
            with open(path, "rb") as packed, np.lib.npyio.NpzFile(packed) as file:  # refuses pickled objects
                array = file[file.files[0]]
    except READ_ERRORS as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None
    return array


def _opened(path: Path, ndim: int) -> tuple[tuple[int, ...], np.ndarray | None]:
    """The shape that an array file states, and, of a .npy file, the memory map."""
    array = None
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if len(names) != 1:
                    raise ValueError(f"it holds {', '.join(names) or 'nothing'}, expected one array")
                with archive.open(names[0]) as member:
                    shape, dtype = _header(member)
            if np.prod(shape, dtype=float) * dtype.itemsize > _MAX_ARRAY_BYTES:
                raise ValueError(f"it states {shape}, too much to unpack: save it as .npy")
        else:
            array = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects, and more than there is
            shape, dtype = array.shape, array.dtype
    except READ_ERRORS as error:
        raise InputError(f"cannot read {path} ({error}); save it again") from None
    good = len(shape) == ndim and 0 not in shape and max(shape[-2:]) <= MAX_SIDE
    if not good or not (dtype == np.uint8 or dtype.kind == "f"):
        expected = "(height, width)" if ndim == 2 else "(time, height, width)"
        raise InputError(
            f"{path} is {dtype} {shape}, expected {expected} of at most {MAX_SIDE} a side, uint8 or floats (dBZ)"
        )
    return shape, array


def _header(member) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[version[0]](member)
    return shape, dtype
