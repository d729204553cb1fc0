"""Which videos there are, and what their frames become; `htsr.data.video.reader` reads them.

A video is a container file, an animation, an array, or such a file in a zip archive; or a folder of images.
"""

import contextlib
import os
import stat
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from htsr.checks import require_choice, require_int
from htsr.errors import DAMAGE, InputError
from htsr.files import require_utf8

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our message is the one line about a damaged file
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2

CONTAINERS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PAGED = (".tif", ".tiff", ".webp")  # one picture, or several: then a video
ARRAYS = (".npy", ".npz")
SUFFIXES = (*CONTAINERS, ".gif", ".apng", *ARRAYS)
MAX_SIDE = 8192  # pixels
MAX_MEMBER_BYTES = 16 * 2**30  # of a file inside a zip archive
PREPARED = {"manifest.json", "frames.npy"}  # in a folder that htsr prepare or the cache wrote
DAMAGED_PICTURE = (*DAMAGE, Image.DecompressionBombError)

Fit = Literal["stretch", "crop", "letterbox"]


class DamagedVideo(InputError):
    """A video that cannot be decoded, or not all of it; the message names it."""


class Video(NamedTuple):
    """A video that was found: its name below the folder of the data, the file (or folder of images), and the name
    inside it where the file is a zip archive."""

    name: str
    path: Path
    member: str | None = None


class FrameFormat(NamedTuple):
    """What frames become: pixels, 1 (grey) or 3 (RGB) channels, and what happens to another aspect ratio.

    ``fit`` is ``stretch``, ``crop`` (the middle) or ``letterbox`` (black bars).
    """

    height: int
    width: int
    channels: int
    fit: Fit = "stretch"


def frame_format(image_size: int | tuple[int, int], channels: int, fit: str) -> FrameFormat:
    """The format that dataset arguments ask for; ``image_size`` is the side of a square, or (height, width)."""
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise InputError(f"image_size must be the side of a square, or (height, width), received {image_size}")
    for side in sides:
        require_int("image_size", side, least=1)
        if side > MAX_SIDE:
            raise InputError(f"image_size must be at most {MAX_SIDE} a side, received {side}")
    require_choice("fit", fit, get_args(Fit))
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), received {channels}")
    return FrameFormat(*sides, channels, fit)


def find_videos(folder: Path) -> list[Video]:
    """All videos of a folder and of the folders in it, by name: files, folders that hold images, members of archives.

    Links are followed; a folder that can be reached in several ways is taken once. Folders of `PREPARED` files are
    left out, archives without a video too, which stderr says. Images in ``folder`` itself are a video where there is no
    other.

    Args:
        folder: a folder, or one video file or zip archive.

    Raises:
        InputError: there is no such folder, it holds no video, a folder in it cannot be read, an archive is damaged.
    """
    if folder.is_file():
        packed = folder.suffix.lower() == ".zip"
        found = _packed(folder, shown(folder.name)) if packed else [Video(shown(folder.name), folder)]
        if not found:
            raise InputError(f"{folder} has no videos; expected {', '.join(SUFFIXES)} in it; unpack folders of images")
    elif not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected one with videos")
    elif is_prepared(folder):
        raise InputError(f"folder {folder} holds what htsr prepare made of videos; name the folder of the videos")
    else:
        found = _in_folder(folder) or [Video(shown(folder.resolve().name), folder)] * bool(images_in(folder))
        if not found:
            raise InputError(
                f"folder {folder} has no videos; expected {', '.join(SUFFIXES)} files, folders of {', '.join(IMAGES)},"
                " or zip archives with videos"
            )
    return sorted(found, key=lambda video: video.name)


def passed_over(folder: Path, videos: Iterable[Video]) -> list[str]:
    """The names of files of a folder that are part of none of the videos found in it; archives are not looked into."""
    used = {video.path for video in videos}
    return [
        shown(file.relative_to(folder))
        for place, files in _walk(folder)
        for file in sorted(files)
        if not used.intersection((file, place)) and file.suffix.lower() != ".zip"
    ]


def is_prepared(folder: Path) -> bool:
    """Whether ``htsr prepare`` or the cache wrote this folder."""
    return all((folder / name).is_file() for name in PREPARED)


def is_video(file: Path) -> bool:
    """Whether a file is a video by its name, or a picture file of several pictures."""
    suffix = file.suffix.lower()
    return suffix in SUFFIXES or (suffix in PAGED and pages(file) > 1)


def shown(name: PurePath | str) -> str:
    """A name as results and messages have it: what cannot be printed (a new line, a byte not of UTF-8) is escaped."""
    text = name.as_posix() if isinstance(name, PurePath) else name
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def is_litter(member: PurePath) -> bool:
    """Whether a Mac or Windows left a file behind: a hidden one, ``Thumbs.db``, ``desktop.ini``, in ``__MACOSX``."""
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in member.parts)
    return hidden or member.name.lower() in ("thumbs.db", "desktop.ini")


def is_device(file: Path) -> bool:
    """Whether a name is no file but a pipe, a socket or a device, at which reading may never end."""
    try:
        return not stat.S_ISREG(file.stat().st_mode) and not file.is_dir()
    except OSError:  # a link that leads nowhere, say: who reads it says so
        return False


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, in no order; hidden files (``._frame_1.png`` of a Mac) are none."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith("."))
    return [file for file in found if not is_device(file)]


def pages(path: Path) -> int:
    """How many pictures a picture file holds (WebP, TIFF, animated PNG); 1 where that cannot be told."""
    try:
        with open(path, "rb") as file:
            head = file.read(2**12)
        if not (b"acTL" in head or head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or head[8:12] == b"WEBP"):
            return 1
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except DAMAGED_PICTURE:
        return 1  # whoever decodes it says what is wrong


def stated_array(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and type that a .npy file states.

    Raises:
        ValueError and the others of ``DAMAGE``: the file is damaged, or holds Python objects.
    """
    oldest = np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if oldest else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:  # NumPy 2.4 divides by the size of an item to find out, which may be zero: SIGFPE
        raise ValueError(f"it states {shape}")
    return shape, dtype


def map_array(path: Path) -> np.ndarray:
    """Memory-map a .npy file for reading.

    Raises:
        OSError, ValueError and the others of ``DAMAGE``: it is damaged, holds Python objects, or less than it states.
    """
    with open(path, "rb") as file:
        stated_array(file)
    return np.lib.format.open_memmap(path, mode="r")


@contextlib.contextmanager
def on_disk(video: Video) -> Iterator[Path]:
    """The video as a file: itself, or for the moment unpacked from its zip archive."""
    if video.member is None:
        yield video.path
        return
    with tempfile.TemporaryDirectory(prefix="htsr-") as folder:
        path = Path(folder) / f"video{Path(video.member).suffix}"
        try:
            with zipfile.ZipFile(video.path) as archive, archive.open(video.member) as packed, open(path, "wb") as file:
                size = archive.getinfo(video.member).file_size
                if size > MAX_MEMBER_BYTES:
                    raise ValueError(f"{size} bytes, at most {MAX_MEMBER_BYTES} are unpacked")
                while part := packed.read(min(2**20, size + 1 - file.tell())):
                    file.write(part)
                    if file.tell() > size:
                        raise ValueError("larger than the archive states")
        except DAMAGE as error:
            raise DamagedVideo(f"cannot unpack {video.name} ({error}); fetch the zip archive again") from None
        yield path


def convert(image: np.ndarray, form: FrameFormat) -> np.ndarray:
    """An image in a format: pixels are averaged where it becomes smaller, interpolated where it becomes larger.

    Args:
        image: uint8 (height, width, 1 or 3).
        form: what it becomes.

    Returns:
        uint8 (form.height, form.width, form.channels), contiguous.
    """
    height, width = image.shape[:2]
    if form.fit == "stretch":
        inner = (form.height, form.width)
    else:
        scales = (form.height / height, form.width / width)
        scale = max(scales) if form.fit == "crop" else min(scales)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    if (height, width) != inner:
        smaller = inner[0] * inner[1] < height * width
        method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), inner[::-1], interpolation=method).reshape(*inner, -1)
    if inner != (form.height, form.width):
        image = _placed(image, form)
    if image.shape[2] != form.channels:
        change = cv2.COLOR_RGB2GRAY if form.channels == 1 else cv2.COLOR_GRAY2RGB
        image = cv2.cvtColor(np.ascontiguousarray(image), change).reshape(form.height, form.width, form.channels)
    return np.ascontiguousarray(image)


def write_video(path: Path, frames: np.ndarray, fps: float, codec: str) -> None:
    """Write uint8 (time, height, width, 1 or 3) as a video file with OpenCV.

    Args:
        codec: four letters that suit the suffix: "XVID" or lossless "FFV1" in .avi, "mp4v" in .mp4.
    """
    height, width, channels = frames.shape[1:]
    writer = cv2.VideoWriter(require_utf8(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    if not writer.isOpened():
        raise InputError(f"OpenCV cannot write {path} with the codec {codec}; install opencv-python-headless")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_RGB2BGR))
    writer.release()


def _in_folder(folder: Path) -> list[Video]:
    """The videos in a folder and in those in it, but for the one that images in ``folder`` itself may be."""
    found = []
    for here, files in _walk(folder):
        videos = [file for file in files if is_video(file)]
        if here != folder and any(file.suffix.lower() in IMAGES for file in set(files).difference(videos)):
            found.append(Video(shown(here.relative_to(folder)), here))
        for file in files:
            name = shown(file.relative_to(folder))
            if file in videos:
                found.append(Video(name, file))
            elif file.suffix.lower() == ".zip":
                packed = _packed(file, name)
                found += packed
                if not packed:
                    print(f"{file} has no videos, and is left out; unpack folders of images", file=sys.stderr)
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """(folder, files in it) of a folder and of all in it: nothing hidden, nothing prepared, none of them twice."""

    def refuse(error: OSError) -> None:
        raise InputError(f"folder {error.filename} cannot be read ({error.strerror}); allow it, or move the folder")

    seen = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen or set(files) >= PREPARED:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = (name for name in folders if not name.startswith("."))
        folders.sort(key=lambda name: (os.path.islink(os.path.join(place, name)), name))
        found = (Path(place) / name for name in files if not name.startswith("."))
        yield Path(place), [file for file in found if not is_device(file)]


def _packed(archive: Path, name: str) -> list[Video]:
    """The videos inside a zip archive of this name."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = {info.filename: PurePosixPath(info.filename) for info in file.infolist() if not info.is_dir()}
    except DAMAGE as error:
        raise InputError(f"cannot read {archive} ({error}); fetch the zip archive again") from None
    prepared = {place.parent for place in members.values() if place.name == "manifest.json"}
    return [
        Video(f"{name}/{shown(member)}", archive, member)
        for member, place in members.items()
        if place.suffix.lower() in SUFFIXES
        and not is_litter(place)
        and not (place.name == "frames.npy" and place.parent in prepared)
    ]


def _placed(image: np.ndarray, form: FrameFormat) -> np.ndarray:
    """The middle of an image that is too large, or an image in the middle of black."""
    canvas = np.zeros((form.height, form.width, image.shape[2]), np.uint8)
    source, target = [], []
    for have, want in zip(image.shape[:2], canvas.shape[:2], strict=True):
        size = min(have, want)
        source.append(slice((have - size) // 2, (have - size) // 2 + size))
        target.append(slice((want - size) // 2, (want - size) // 2 + size))
    canvas[tuple(target)] = image[tuple(source)]
    return canvas
