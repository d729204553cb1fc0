"""Pictures, GIF animations and arrays as files: what `htsr.data.video.reader` and radar data read them with."""

import mmap
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL import __version__ as pillow_version

from htsr.data.video.files import MAX_SIDE, READ_ERRORS, DamagedVideo, in_order

# isort: split
import cv2  # after htsr.data.video.files, which chooses what OpenCV prints

_ARRAY = "expected one array (time, height, width) or (time, height, width, 1 or 3), uint8 or floats in [0, 1]"


class ArrayFile(NamedTuple):
    """What a .npy file, or a .npz file of one array, states about it; nothing is unpacked yet."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    def load(self) -> np.ndarray:
        """Return the array: of a .npy file memory-mapped, of a .npz file unpacked whole.

        Raises:
            OSError, ValueError and the others of ``READ_ERRORS``: the file is damaged.
        """
        if self.path.suffix.lower() != ".npz":
            return np.lib.format.open_memmap(self.path, mode="r")
        with open(self.path, "rb") as packed, np.lib.npyio.NpzFile(packed) as file:  # refuses pickled objects
            return np.asarray(file[file.files[0]])


def open_array(path: Path) -> ArrayFile:
    """Read what an array file states about its array.

    Raises:
        OSError, ValueError and the others of ``READ_ERRORS``: it is damaged, holds several arrays, or Python objects.
    """
    if path.suffix.lower() != ".npz":
        array = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects, and more than there is
        return ArrayFile(path, array.shape, array.dtype)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"it holds {', '.join(name.removesuffix('.npy') for name in names) or 'nothing'}")
        with archive.open(names[0]) as member:
            version = np.lib.format.read_magic(member)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = read[version[0]](member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return ArrayFile(path, shape, dtype)


def read_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode a picture with OpenCV: (height, width), or (height, width, BGR) as ``flags`` say.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or larger than ``MAX_SIDE``.
    """
    content = path.read_bytes()
    if content[:4] == b"\x89PNG" and content[12:16] == b"IHDR":  # before memory is taken for what it states
        width, height = struct.unpack(">II", content[16:24])
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"{width}x{height} pixels, at most {MAX_SIDE} a side")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if picture is None:
        raise ValueError("damaged, or no picture")
    return picture


class Pictures:
    """A folder of pictures, a GIF animation or an array file as a video.

    Args:
        path: of the file or folder.
        name: of the video, for messages.

    Attributes, once decoding has begun:
        decoder: what decodes, with its version.
        fps: frames per second as stated, or None.
        stated: frames as stated, or None.
        note: once all is decoded, what is odd about a video that is not damaged, or None.
    """

    decoder = ""
    fps: float | None = None
    stated: int | None = None
    note: str | None = None

    def __init__(self, path: Path, name: str):
        self._path, self._name = path, name

    def decode(self, start: int) -> Iterator[np.ndarray]:
        """Decode from picture ``start`` on: uint8 (height, width, 1 or RGB).

        Raises:
            DamagedVideo: it is damaged.
        """
        raise NotImplementedError


class ImageFolder(Pictures):
    """The pictures of a folder, by their numbers."""

    decoder = f"opencv {cv2.__version__}"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        files, self.note = in_order(self._path)
        self.stated, size = len(files), None
        for file in files[start:]:
            try:
                image = read_picture(file)
            except OSError as error:
                raise DamagedVideo(f"image {file} cannot be read ({error.strerror}); replace it") from None
            except ValueError as error:
                raise DamagedVideo(
                    f"image {self._name}/{file.name} cannot be decoded ({error}); replace or remove it"
                ) from None
            size = size or image.shape
            if image.shape != size:
                raise DamagedVideo(
                    f"video {self._name} changes its size: {file.name} is {image.shape[1]} x {image.shape[0]}, expected"
                    f" {size[1]} x {size[0]} as at its beginning; make all frames one size"
                )
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class Animation(Pictures):
    """A GIF file, each picture with those before it that shine through."""

    decoder = f"pillow {pillow_version}"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        try:
            self.stated = _gif_pictures(self._path)
            with Image.open(self._path) as animation:
                self.fps = 1000 / (animation.info.get("duration") or 100)
                for number, image in enumerate(ImageSequence.Iterator(animation)):
                    if number >= start:
                        yield np.asarray(image.convert("RGB"))
        except (*READ_ERRORS, UnidentifiedImageError, SyntaxError, IndexError, struct.error) as error:
            raise DamagedVideo(f"{self._name} cannot be decoded ({error}); replace or remove the file") from None


class ArrayVideo(Pictures):
    """The only array of a .npy or .npz file: (time, height, width) or (time, height, width, 1 or 3)."""

    decoder = "numpy"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        try:
            stated = open_array(self._path)
            array = stated.load()
        except READ_ERRORS as error:
            raise DamagedVideo(f"cannot read {self._name} ({error}); {_ARRAY}") from None
        received = f"received {array.dtype} {array.shape}"
        if array.ndim == 3 and array.shape[-1] in (1, 3):
            raise DamagedVideo(
                f"{self._name}: {received} is one picture, or frames {array.shape[-1]} wide; save it as"
                " array[np.newaxis] or array[..., np.newaxis]"
            )
        array = array[..., np.newaxis] if array.ndim == 3 else array
        good = array.ndim == 4 and array.shape[-1] in (1, 3) and (array.dtype == np.uint8 or array.dtype.kind == "f")
        if not good or not array.size:
            raise DamagedVideo(f"{self._name}: {_ARRAY}, {received}")
        self.stated = len(array)
        for frame in array[start:]:
            if array.dtype == np.uint8:
                yield np.asarray(frame)
            elif 0 <= frame.min() <= frame.max() <= 1:  # neither is nan
                yield np.rint(frame * 255).astype(np.uint8)
            else:
                raise DamagedVideo(f"{self._name}: {_ARRAY}, received {frame.min():g} to {frame.max():g}")


def _gif_pictures(path: Path) -> int:
    """Count the pictures that a GIF file holds (GIF89a, appendix B): Pillow takes one that was cut for a shorter one.

    Raises:
        ValueError: its blocks do not lead from one to the next up to the trailer.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pictures = position = 0
        try:
            if content[:4] != b"GIF8":
                raise ValueError("it is no GIF")
            position = 13 + _colours(content[10])
            while content[position] != 0x3B:  # the trailer
                if content[position] == 0x2C:  # a picture: descriptor, colours, a number, blocks of pixels
                    pictures += 1
                    position += 11 + _colours(content[position + 9])
                elif content[position] == 0x21:  # an extension: its kind, blocks
                    position += 2
                else:
                    raise ValueError(f"damaged at byte {position} of {len(content)}, after {pictures} pictures")
                while length := content[position]:
                    position += 1 + length
                position += 1
        except IndexError:
            raise ValueError(f"the end of the file is missing, after {pictures} pictures") from None
    return pictures


def _colours(flags: int) -> int:
    """Bytes of the table of colours that such flags of a GIF announce."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0
