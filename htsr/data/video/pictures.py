"""Pictures, animations and arrays as files: what `htsr.data.video.reader` and radar data read them with."""

import math
import mmap
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence
from PIL import __version__ as pillow_version

from htsr.data.video.files import (
    DAMAGED_PICTURE,
    MAX_MEMBER_BYTES,
    MAX_SIDE,
    DamagedVideo,
    images_in,
    map_array,
    pages,
    stated_array,
)
from htsr.data.video.order import Doubtful, in_order
from htsr.errors import DAMAGE

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
            OSError, ValueError and the others of ``DAMAGE``: the file is damaged.
        """
        if self.path.suffix.lower() != ".npz":
            return map_array(self.path)
        with open(self.path, "rb") as packed, np.lib.npyio.NpzFile(packed) as file:  # refuses pickled objects
            return np.asarray(file[file.files[0]])


def open_array(path: Path) -> ArrayFile:
    """Read what an array file states about its array.

    Raises:
        OSError, ValueError and the others of ``DAMAGE``: it is damaged, holds several arrays, or Python objects.
    """
    if path.suffix.lower() != ".npz":
        array = map_array(path)
        return ArrayFile(path, array.shape, array.dtype)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"it holds {', '.join(name.removesuffix('.npy') for name in names) or 'nothing'}")
        with archive.open(names[0]) as member:
            shape, dtype = stated_array(member)
    if math.prod(shape) * dtype.itemsize > MAX_MEMBER_BYTES:
        raise ValueError(f"it states {shape}, more than the {MAX_MEMBER_BYTES} bytes that are unpacked")
    return ArrayFile(path, shape, dtype)


def read_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode a picture with OpenCV: (height, width), or (height, width, BGR) as ``flags`` say.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or larger than ``MAX_SIDE``.
    """
    content = path.read_bytes()
    if content[:4] == b"\x89PNG" and content[12:16] == b"IHDR" and len(content) >= 24:
        # before memory is taken for what it states
        width, height = struct.unpack(">II", content[16:24])
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"{width}x{height} pixels, at most {MAX_SIDE} a side")
    encoded = np.frombuffer(content, np.uint8)
    picture = cv2.imdecode(encoded, flags) if content else None
    if picture is None and content and flags & cv2.IMREAD_ANYDEPTH:  # grey floats do not become colours
        picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError("damaged, or no picture")
    return picture


class Pictures:
    """A folder of pictures, an animation or an array file as a video.

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
        """Decode from picture ``start`` on: uint8, or uint16 where it has more bits, (height, width, 1 or RGB).

        Raises:
            DamagedVideo: it is damaged.
        """
        raise NotImplementedError

    def _integers(self, image: np.ndarray, where: str) -> np.ndarray:
        """The image, refused where its values are neither bytes nor of 16 bits."""
        if image.dtype not in (np.uint8, np.uint16):
            raise DamagedVideo(
                f"video {self._name}: {where} has values of the kind {image.dtype}, expected whole ones of 8 or 16"
                " bits; save the frames as a .npy file of floats in [0, 1]"
            )
        return image


class ImageFolder(Pictures):
    """The pictures of a folder, by their numbers."""

    decoder = f"opencv {cv2.__version__}"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        names = [file.name for file in images_in(self._path)]
        stacks = [name for name in names if pages(self._path / name) > 1]
        try:
            ordered = in_order([name for name in names if name not in stacks])
        except Doubtful as error:
            raise DamagedVideo(f"video {self._name} {error}") from None
        notes = [ordered.remark, f"leaves out {stacks[0]}, a video of its own" if stacks else None]
        self.note, self.stated = "; ".join(filter(None, notes)) or None, len(ordered.names)
        if stacks and not ordered.names:
            raise DamagedVideo(f"video {self._name} is no folder of single pictures: name {stacks[0]} itself")
        size = None
        for name in ordered.names[start:]:
            file = self._path / name
            try:
                image = read_picture(file, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
            except OSError as error:
                raise DamagedVideo(f"image {file} cannot be read ({error.strerror}); replace it") from None
            except ValueError as error:
                raise DamagedVideo(
                    f"image {self._name}/{name} cannot be decoded ({error}); replace or remove it"
                ) from None
            size = size or image.shape
            if image.shape != size:
                raise DamagedVideo(
                    f"video {self._name} changes its size: {name} is {image.shape[1]} x {image.shape[0]}, expected"
                    f" {size[1]} x {size[0]} as at its beginning; make all frames one size"
                )
            yield cv2.cvtColor(self._integers(image, name), cv2.COLOR_BGR2RGB)


class Animation(Pictures):
    """A file of several pictures: GIF, WebP, TIFF, animated PNG; each with those before it that shine through."""

    decoder = f"pillow {pillow_version}"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        try:
            with Image.open(self._path) as animation:
                gif = animation.format == "GIF"
                self.stated = _gif_pictures(self._path) if gif else getattr(animation, "n_frames", 1)
                for number, image in enumerate(ImageSequence.Iterator(animation)):
                    if number == 0:
                        image.load()
                        duration = image.info.get("duration") or (100 if gif else 0)
                        self.fps = 1000 / duration if duration else None
                    if number >= start:
                        yield self._array(image, f"picture {number}")
        except DAMAGED_PICTURE as error:
            if isinstance(error, DamagedVideo):
                raise
            raise DamagedVideo(f"{self._name} cannot be decoded ({error}); replace or remove the file") from None

    def _array(self, image: Image.Image, where: str) -> np.ndarray:
        if image.mode.startswith(("I", "F")):
            array = np.asarray(image)
            array = array.astype(np.uint16) if array.dtype.kind in "iu" and array.dtype.itemsize == 2 else array
            return self._integers(array, where)[..., np.newaxis]
        bits = image.tag_v2.get(258, (8,)) if image.format == "TIFF" else (8,)
        if max(bits) > 8:  # Pillow would take the upper eight of each
            raise DamagedVideo(
                f"{self._name} has colours of {max(bits)} bits; save its pictures as a folder of .png files, or in 8"
                " bits"
            )
        return np.asarray(image.convert("RGB"))


class ArrayVideo(Pictures):
    """The only array of a .npy or .npz file: (time, height, width) or (time, height, width, 1 or 3)."""

    decoder = "numpy"

    def decode(self, start: int) -> Iterator[np.ndarray]:
        try:
            stated = open_array(self._path)
            array = stated.load()
        except DAMAGE as error:
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
                raise DamagedVideo(f"{self._name}: {_ARRAY}, received {frame.min():.9g} to {frame.max():.9g}")


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
