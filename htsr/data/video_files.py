"""One reader for every kind of video: files, folders of images, arrays, animations, members of zip archives.

Frames come out as uint8 ``(height, width, channel)``, one after the other, so an hour takes no more memory than a
second. OpenCV decodes; PyAV (``pip install av``) takes over, where it is installed, what OpenCV cannot open. When the
last frame is out, count and time are held against what the file states: a video that ends early, or whose frames are
all the same, raises `DamagedVideo` instead of passing for a shorter one. Nothing in MPEG program and transport streams
(.mpg, .ts) or in live recordings (.webm of a browser) states a length: there a file that was cut cannot be told.
"""

import contextlib
import importlib.util
import itertools
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from htsr.data.clips import require_choice, require_int
from htsr.errors import InputError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our message is the one line about a damaged file
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2

CONTAINERS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
IMAGES = (".png", ".jpg", ".jpeg")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*CONTAINERS, ".gif", *ARRAYS)
MAX_MEMBER_BYTES = 16 * 2**30  # of a file inside a zip archive
_EXACT_COUNTS = (".avi", ".mp4", ".m4v", ".mov")  # the others' is the file's duration times its frame rate
_BOXES = b"ftyp styp sidx ssix prft emsg moov moof mfra mdat free skip wide uuid udta meta pnot".split()  # of MP4
_MAY_LACK = 2  # frames: encoders count one or two that they never wrote
_DAMAGE = (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile)

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
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    require_int("image_size", height, least=1)
    require_int("image_size", width, least=1)
    require_choice("fit", fit, get_args(Fit))
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), received {channels}")
    return FrameFormat(height, width, channels, fit)


def find_videos(folder: Path) -> list[Video]:
    """All videos of a folder and of the folders in it, by name: files, folders that hold images, members of archives.

    Args:
        folder: a folder, or one video file.

    Raises:
        InputError: there is no such folder, it holds no video, or a zip archive in it is damaged.
    """
    if folder.is_file():
        return [Video(folder.name, folder)]
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected one with videos")
    found = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [here / name for name in files if not name.startswith(".")]
        if here != folder and any(file.suffix.lower() in IMAGES for file in visible):
            found.append(Video(here.relative_to(folder).as_posix(), here))
        for file in visible:
            name = file.relative_to(folder).as_posix()
            if file.suffix.lower() in SUFFIXES:
                found.append(Video(name, file))
            elif file.suffix.lower() == ".zip":
                found += [Video(f"{name}/{member}", file, member) for member in _members(file)]
    if not found:
        raise InputError(
            f"folder {folder} has no videos; expected {', '.join(SUFFIXES)} files, folders of {', '.join(IMAGES)}, or"
            " zip archives with videos"
        )
    return sorted(found, key=lambda video: video.name)


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, in no order; hidden files (``._frame_1.png`` of a Mac) are none."""
    return [file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]


def _members(archive: Path) -> list[str]:
    """The video files inside a zip archive."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = [info.filename for info in file.infolist() if not info.is_dir()]
    except _DAMAGE as error:
        raise InputError(f"cannot read {archive} ({error}); fetch the zip archive again") from None
    return [name for name in names if name.lower().endswith(CONTAINERS) and not name.startswith("__MACOSX")]


class VideoReader:
    """The frames of one video in a format: ``for frame in VideoReader(video, form)``.

    Args:
        video: which one.
        form: what frames become; None leaves size and colours as they are (3 channels, or 1 from grey arrays).
        start: index of the first frame wanted. Containers are not always sought exactly: see `StreamedVideos`.

    Attributes, once iteration has begun:
        decoder: ``opencv <version>``, ``pyav <version>``, ``pillow <version>`` or ``numpy``.
        stated: frames as the file states them, or None.
        fps: frames per second as the file states them, or None.
    Attributes, once it has ended:
        decoded: frames that came out.
        repeated: how many of them equal the frame before.
        note: what is odd about a video that is not damaged, or None.

    Raises:
        DamagedVideo: the video cannot be opened; after the last frame: some are missing, or all are the same.
    """

    def __init__(self, video: Video, form: FrameFormat | None, start: int = 0):
        self.video, self._form, self._start = video, form, start
        self.decoder, self.stated, self.fps = "", None, None
        self.decoded, self.repeated, self.note = 0, 0, None
        self._reached, self._says, self._estimated = 0, _Says(), False

    def __iter__(self) -> Iterator[np.ndarray]:
        last, self.decoded, self.repeated, self.note, self._reached = None, 0, 0, None, 0
        with _on_disk(self.video) as path:
            for image in self._images(path):
                frame = convert(image, self._form) if self._form else image
                self.repeated += last is not None and np.array_equal(frame, last)
                self.decoded += 1
                last = frame
                yield frame
            if self._start == 0:
                self._verify(path)

    def _images(self, path: Path) -> Iterator[np.ndarray]:
        if path.is_dir():
            return self._from_folder(path)
        suffix = path.suffix.lower()
        if suffix in ARRAYS:
            return self._from_array(path)
        if not os.access(path, os.R_OK) or not path.stat().st_size:
            raise DamagedVideo(f"video {self.video.name} is empty or unreadable ({path}); replace or remove the file")
        return self._from_animation(path) if suffix == ".gif" else self._from_container(path)

    def _from_container(self, path: Path) -> Iterator[np.ndarray]:
        self._says = _look_into(path)
        self._estimated = self._says.fragmented or path.suffix.lower() not in _EXACT_COUNTS
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)  # FFmpeg takes "a:b.mp4" for an address
        try:
            if self._start:
                capture.set(cv2.CAP_PROP_POS_FRAMES, self._start)
            pictures = _pictures(capture)
            begin = list(itertools.islice(pictures, 2))
            # Interlaced frames OpenCV cannot convert: it gives the same buffer again and again. It ends where a Theora
            # frame repeats the one before.
            stuck = len(begin) == 2 and np.array_equal(begin[0][0], begin[1][0])
            if not begin or ((stuck or path.suffix.lower() == ".ogv") and _has_pyav()):
                yield from self._with_pyav(path)
                return
            self.decoder = f"opencv {cv2.__version__}"
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
            self._stated(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            shape = begin[0][0].shape
            for image, seconds in itertools.chain(begin, pictures):
                if image.shape != shape:
                    raise self._changed(image.shape, shape)
                self._reach(seconds)
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def _with_pyav(self, path: Path) -> Iterator[np.ndarray]:
        if self._says.whole is False:
            raise DamagedVideo(f"video {self.video.name} is damaged: the end of the file is missing; replace the file")
        try:
            import av
        except ImportError:
            raise DamagedVideo(
                f"video {self.video.name} cannot be decoded by OpenCV: it is damaged, or no video, or of an unusual"
                " kind (pip install av, then it is tried with PyAV); replace or remove the file"
            ) from None
        self.decoder = f"pyav {av.__version__}"
        try:
            with av.open(str(path.absolute())) as container:
                if not container.streams.video:
                    raise DamagedVideo(f"video {self.video.name} has no picture; replace or remove the file")
                stream = container.streams.video[0]
                self.fps, shape = float(stream.average_rate or stream.base_rate or 0) or None, None
                self._stated(stream.frames or round((container.duration or 0) / 1e6 * (self.fps or 0)))
                # FFmpeg refuses empty packets, Theora's repeated frames; one without a time asks for what is left.
                packets = (packet for packet in container.demux(stream) if packet.size or packet.dts is None)
                frames = itertools.chain.from_iterable(packet.decode() for packet in packets)
                for number, frame in enumerate(frames):
                    image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    shape = shape or image.shape
                    if image.shape != shape:
                        raise self._changed(image.shape, shape)
                    self._reach((frame.time or 0) - (container.start_time or 0) / 1e6)
                    if number >= self._start:
                        yield image
        except av.FFmpegError as error:
            raise DamagedVideo(
                f"video {self.video.name} cannot be decoded ({error}); replace or remove the file"
            ) from None

    def _from_animation(self, path: Path) -> Iterator[np.ndarray]:
        from PIL import __version__ as version

        self.decoder = f"pillow {version}"
        try:
            with Image.open(path) as animation:
                self.stated = animation.n_frames
                self.fps = 1000 / (animation.info.get("duration") or 100)
                for number, image in enumerate(ImageSequence.Iterator(animation)):
                    if number >= self._start:
                        yield np.asarray(image.convert("RGB"))
        except (*_DAMAGE, UnidentifiedImageError, SyntaxError, IndexError, struct.error) as error:
            raise DamagedVideo(f"{self.video.name} cannot be decoded ({error}); replace or remove the file") from None

    def _from_folder(self, path: Path) -> Iterator[np.ndarray]:
        files = sorted(images_in(path), key=_natural)
        self.decoder, self.stated, shape = f"opencv {cv2.__version__}", len(files), None
        for file in files[self._start :]:
            try:
                content = np.fromfile(file, np.uint8)
            except OSError as error:
                raise DamagedVideo(f"image {file} cannot be read ({error.strerror}); replace it") from None
            image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
            if image is None:
                raise DamagedVideo(f"image {self.video.name}/{file.name} cannot be decoded; replace or remove it")
            shape = shape or image.shape
            if image.shape != shape:
                raise self._changed(image.shape, shape, file.name)
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _from_array(self, path: Path) -> Iterator[np.ndarray]:
        self.decoder = "numpy"
        expected = (
            "expected one array (time, height, width) or (time, height, width, 1 or 3), uint8 or floats in [0, 1]"
        )
        try:
            if path.suffix.lower() == ".npy":
                array = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects
            else:
                with open(path, "rb") as packed, np.lib.npyio.NpzFile(packed) as file:  # refuses them too
                    if len(file.files) != 1:
                        raise ValueError(f"it holds {', '.join(file.files) or 'nothing'}")
                    array = np.asarray(file[file.files[0]])
        except _DAMAGE as error:
            raise DamagedVideo(f"cannot read {self.video.name} ({error}); {expected}") from None
        received = f"received {array.dtype} {array.shape}"
        array = array[..., np.newaxis] if array.ndim == 3 else array
        good = array.ndim == 4 and array.shape[-1] in (1, 3) and (array.dtype == np.uint8 or array.dtype.kind == "f")
        if not good or not array.size:
            raise DamagedVideo(f"{self.video.name}: {expected}, {received}")
        self.stated = len(array)
        for frame in array[self._start :]:
            if array.dtype == np.uint8:
                yield np.asarray(frame)
            elif 0 <= frame.min() <= frame.max() <= 1:  # neither is nan
                yield np.rint(frame * 255).astype(np.uint8)
            else:
                raise DamagedVideo(f"{self.video.name}: {expected}, received {frame.min():g} to {frame.max():g}")

    def _changed(self, shape, first, name: str | None = None) -> DamagedVideo:
        where = name or f"frame {self.decoded}"
        return DamagedVideo(
            f"video {self.video.name} changes its size: {where} is {shape[1]} x {shape[0]}, expected"
            f" {first[1]} x {first[0]} as at its beginning; make all frames one size"
        )

    def _stated(self, count: int) -> None:
        """``count`` frames are stated (where it is above 0), of which an edit list may show a part."""
        if count > 0 and self.fps and 0 < self._says.seconds * self.fps < count - 1:
            count, self._estimated = round(self._says.seconds * self.fps), True
        self.stated = count if count > 0 else None

    def _sound_goes_on(self, path: Path) -> bool:
        """Whether every packet of the picture was decoded and others go on to the end. Without PyAV: False."""
        if not _has_pyav():
            return False
        import av

        packets, end = 0, 0.0
        try:
            with av.open(str(path.absolute())) as container:
                length, picture = (container.duration or 0) / 1e6, container.streams.video[0].index
                for packet in container.demux():
                    packets += packet.stream_index == picture and packet.size > 0
                    if packet.pts is not None and packet.time_base:
                        end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except av.FFmpegError:
            return False
        return packets <= self.decoded + _MAY_LACK and end >= 0.95 * length

    def _reach(self, seconds: float) -> None:
        """Frames at an even rate up to this time: a video whose frame rate varies has fewer, and nothing is missing."""
        self._reached = max(self._reached, round(seconds * (self.fps or 0)) + 1)

    def _verify(self, path: Path) -> None:
        name, found, stated, whole = self.video.name, self.decoded, self.stated, self._says.whole
        if not found:
            raise DamagedVideo(f"video {name} has no frames; replace or remove it")
        lacking = (stated or 0) - (found if self._says.seconds and not self._estimated else max(found, self._reached))
        allowed = max(_MAY_LACK, stated // 20) if self._estimated and stated else _MAY_LACK
        if whole is False:
            raise DamagedVideo(
                f"video {name} is damaged: the end of the file is missing, {found} frames can be decoded; replace the"
                " file"
            )
        if lacking > allowed and not (self._estimated and self._sound_goes_on(path)):
            way_out = "" if _has_pyav() or not self._estimated else ", or pip install av: PyAV may know better"
            raise DamagedVideo(
                f"video {name} is damaged: it states {stated} frames, but only {found} can be decoded; replace the"
                f" file{way_out}"
            )
        if found > 1 and self.repeated == found - 1:
            interlaced = self.fps and self.decoder.startswith("opencv")
            way_out = "; if it is interlaced, pip install av, which decodes that; else remove it"
            raise DamagedVideo(
                f"video {name} shows the same picture in all of its {found} frames"
                f"{way_out if interlaced else '; replace or remove it'}"
            )
        differs = stated is not None and (stated - found > allowed if self._estimated else stated != found)
        notes = [f"states {stated} frames, has {found}"] if differs else []
        if self.repeated > found // 2:
            notes.append(f"{self.repeated} of {found} frames repeat the one before")
        self.note = "; ".join(notes) or None


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
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    if not writer.isOpened():
        raise InputError(f"OpenCV cannot write {path} with the codec {codec}; install opencv-python-headless")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_RGB2BGR))
    writer.release()


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


def _natural(path: Path) -> list:
    """Sorts ``frame_10`` after ``frame_9``."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None


def _pictures(capture: cv2.VideoCapture) -> Iterator[tuple[np.ndarray, float]]:
    """The pictures that OpenCV decodes, uint8 (height, width, BGR), and their times in seconds."""
    while (image := capture.read()[1]) is not None:
        yield image, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


class _Says(NamedTuple):
    """What a container says of itself: is the file all of it (None: nothing tells); of MP4, how long does it play, and
    is it in fragments, which hold no count of frames."""

    whole: bool | None = None
    seconds: float = 0
    fragmented: bool = False


def _look_into(path: Path) -> _Says:
    """Matroska, ASF, Ogg: is the file as long as they state, does the last page say so? MP4: that, and `_boxes`."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        tail = file.read()
        if not any(tail[-1024:]):  # room was made for a download that did not end: nothing tells what came
            return _Says()
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes(file, size)
    if head[:4] == bytes.fromhex(
        "1a45dfa3"
    ):  # RFC 8794 and 9559: identifier, size, content; "Segment" is all but the header
        segment = head.find(bytes.fromhex("18538067"))
        length, begin = _ebml_size(head, segment + 4)
        return _Says(None if segment < 0 or length is None else begin + length <= size)
    properties = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if head[:4] == bytes.fromhex("3026b275") and properties > 0:  # ASF, section 3.2: file properties
        stated = int.from_bytes(head[properties + 40 : properties + 48], "little")
        return _Says(stated <= size if stated else None)
    if head[:4] == b"OggS":  # RFC 3533, section 6: bit 2 of the header marks the last page
        return _Says(any(byte & 4 for byte in tail[tail.rfind(b"OggS") :][5:6]))
    return _Says()


def _boxes(file: BinaryIO, size: int) -> _Says:
    """The boxes of an MP4 file (ISO 14496-12): do they end with it, and the time that "mvhd" says it plays."""
    position, seconds, fragmented = 0, 0.0, False
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8))
        if length == 0 or kind not in _BOXES:  # up to the end of the file; or something else was appended
            break
        if kind == b"moov":
            header = file.read(40).ljust(40, b"\0")  # of "mvhd": size, name, version, two times of 4 or 8 bytes
            scale, duration = struct.unpack_from(">IQ" if header[8] else ">II", header, 28 if header[8] else 20)
            seconds = duration / max(1, scale)
        fragmented |= kind == b"moof"
        position += max(8, length)
    return _Says(position <= size, seconds, fragmented)


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """A number of variable length, None where it is unknown; and where it ends."""
    length = 9 - int.from_bytes(data[position : position + 1]).bit_length()
    number, most = int.from_bytes(data[position : position + length]), 1 << 7 * length
    return (None if number % most == most - 1 else number % most), position + length


@contextlib.contextmanager
def _on_disk(video: Video) -> Iterator[Path]:
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
        except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
            raise DamagedVideo(f"cannot unpack {video.name} ({error}); fetch the zip archive again") from None
        yield path
