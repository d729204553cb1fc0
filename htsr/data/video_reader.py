"""One reader for every kind of video: files, folders of images, arrays, animations, members of zip archives.

Frames come out as uint8 ``(height, width, channel)``, one after the other, so an hour takes no more memory than a
second. OpenCV decodes; PyAV (``pip install av``) takes over, where it is installed, what OpenCV cannot open. When the
last frame is out, count and time are held against what the file states: a video that ends early, or whose frames are
all the same, raises `DamagedVideo` instead of passing for a shorter one. Nothing in MPEG program and transport streams
(.mpg, .ts) or in live recordings (.webm of a browser) states a length: there a file that was cut cannot be told.
"""

import importlib.util
import itertools
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL import __version__ as pillow_version

from htsr.data.containers import Statement, look_into
from htsr.data.video_files import ARRAYS, READ_ERRORS, DamagedVideo, FrameFormat, Video, convert, images_in, on_disk

# isort: split
import cv2  # after video_files, which chooses what OpenCV prints

_EXACT_COUNTS = (".avi", ".mp4", ".m4v", ".mov")  # the others' is the file's duration times its frame rate
_MAY_LACK = 2  # frames: encoders count one or two that they never wrote


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
        self._shape, self._reached, self._statement, self._estimated = (), 0, Statement(), False

    def __iter__(self) -> Iterator[np.ndarray]:
        self.decoded, self.repeated, self.note = 0, 0, None
        last, self._shape, self._reached = None, (), 0
        with on_disk(self.video) as path:
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
        self._statement = look_into(path)
        self._estimated = self._statement.fragmented or path.suffix.lower() not in _EXACT_COUNTS
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
            for image, seconds in itertools.chain(begin, pictures):
                self._keep_size(image)
                self._reach(seconds)
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def _with_pyav(self, path: Path) -> Iterator[np.ndarray]:
        if self._statement.whole is False:
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
                self.fps = float(stream.average_rate or stream.base_rate or 0) or None
                self._stated(stream.frames or round((container.duration or 0) / 1e6 * (self.fps or 0)))
                # FFmpeg refuses empty packets, Theora's repeated frames; one without a time asks for what is left.
                packets = (packet for packet in container.demux(stream) if packet.size or packet.dts is None)
                frames = itertools.chain.from_iterable(packet.decode() for packet in packets)
                for number, frame in enumerate(frames):
                    image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    self._keep_size(image)
                    self._reach((frame.time or 0) - (container.start_time or 0) / 1e6)
                    if number >= self._start:
                        yield image
        except av.FFmpegError as error:
            raise DamagedVideo(
                f"video {self.video.name} cannot be decoded ({error}); replace or remove the file"
            ) from None

    def _from_animation(self, path: Path) -> Iterator[np.ndarray]:
        self.decoder = f"pillow {pillow_version}"
        try:
            with Image.open(path) as animation:
                self.stated = animation.n_frames
                self.fps = 1000 / (animation.info.get("duration") or 100)
                for number, image in enumerate(ImageSequence.Iterator(animation)):
                    if number >= self._start:
                        yield np.asarray(image.convert("RGB"))
        except (*READ_ERRORS, UnidentifiedImageError, SyntaxError, IndexError, struct.error) as error:
            raise DamagedVideo(f"{self.video.name} cannot be decoded ({error}); replace or remove the file") from None

    def _from_folder(self, path: Path) -> Iterator[np.ndarray]:
        files = sorted(images_in(path), key=_natural)
        self.decoder, self.stated = f"opencv {cv2.__version__}", len(files)
        for file in files[self._start :]:
            try:
                content = np.fromfile(file, np.uint8)
            except OSError as error:
                raise DamagedVideo(f"image {file} cannot be read ({error.strerror}); replace it") from None
            image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
            if image is None:
                raise DamagedVideo(f"image {self.video.name}/{file.name} cannot be decoded; replace or remove it")
            self._keep_size(image, file.name)
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
        except READ_ERRORS as error:
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

    def _keep_size(self, image: np.ndarray, name: str | None = None) -> None:
        """Refuse an image that is not of the first one's size."""
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            raise DamagedVideo(
                f"video {self.video.name} changes its size: {name or f'frame {self.decoded}'} is {image.shape[1]} x"
                f" {image.shape[0]}, expected {self._shape[1]} x {self._shape[0]} as at its beginning; make all frames"
                " one size"
            )

    def _stated(self, count: int) -> None:
        """``count`` frames are stated (where it is above 0), of which an edit list may show a part."""
        if count > 0 and self.fps and 0 < self._statement.seconds * self.fps < count - 1:
            count, self._estimated = round(self._statement.seconds * self.fps), True
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
        name, found, stated = self.video.name, self.decoded, self.stated or 0
        if not found:
            raise DamagedVideo(f"video {name} has no frames; replace or remove it")
        if self._statement.whole is False:
            raise DamagedVideo(
                f"video {name} is damaged: the end of the file is missing, {found} frames can be decoded; replace the"
                " file"
            )
        lacking = stated - (found if self._statement.seconds and not self._estimated else max(found, self._reached))
        allowed = max(_MAY_LACK, stated // 20) if self._estimated else _MAY_LACK
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
        differs = stated - found > allowed if self._estimated else stated != found
        notes = [f"states {stated} frames, has {found}"] if stated and differs else []
        if self.repeated > found // 2:
            notes.append(f"{self.repeated} of {found} frames repeat the one before")
        self.note = "; ".join(notes) or None


def _natural(path: Path) -> list:
    """Sorts ``frame_10`` after ``frame_9``."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None


def _pictures(capture: cv2.VideoCapture) -> Iterator[tuple[np.ndarray, float]]:
    """The pictures that OpenCV decodes, uint8 (height, width, BGR), and their times in seconds."""
    while (image := capture.read()[1]) is not None:
        yield image, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
