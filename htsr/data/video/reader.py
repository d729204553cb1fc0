"""One reader for every kind of video: files, folders of images, arrays, animations, members of zip archives.

Frames come out as uint8 ``(height, width, channel)``, one after the other: an hour takes no more memory than a second,
but for its times (8 bytes a frame), and for .npz files, which are loaded whole. OpenCV decodes; PyAV
(``pip install "av>=14.1"``) takes over, where it is installed, what OpenCV cannot open. When the last frame is out, the
frames and their times are held against what the file states: a video that ends early, lacks frames in its middle, or
shows one picture all the time raises `DamagedVideo` instead of passing for a shorter one. Nothing in MPEG program and
transport streams (.mpg, .ts) or in live recordings (.webm of a browser) states a length: there a file that was cut
cannot be told; nor can a hole where the frame rate varies throughout. One at the very beginning is but noted.
"""

import itertools
import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL import __version__ as pillow_version

from htsr.data.video.containers import (
    Statement,
    frames_between,
    gif_pictures,
    install_pyav,
    is_text,
    look_into,
    pyav,
    sound_goes_on,
)
from htsr.data.video.files import ARRAYS, READ_ERRORS, DamagedVideo, FrameFormat, Video, convert, in_order, on_disk

# isort: split
import cv2  # after video_files, which chooses what OpenCV prints

_MAY_LACK = 2  # frames: encoders count one or two that they never wrote
_ESTIMATED = 20  # a count that is the duration times the frame rate may be wrong by one in so many


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
        size: height, width and channels of the pictures as they are decoded.
    Attributes, once it has ended:
        decoded: frames that came out.
        repeated: how many of them equal the one before, as decoded.
        note: what is odd about a video that is not damaged, or None.

    Raises:
        DamagedVideo: the video cannot be opened; after the last frame: some are missing, or all are the same.
    """

    def __init__(self, video: Video, form: FrameFormat | None, start: int = 0):
        self.video, self._form, self._start = video, form, start
        self.decoder, self.stated, self.fps = "", None, None
        self.decoded, self.repeated, self.note = 0, 0, None
        self.size: tuple[int, ...] = ()
        self._times, self._statement, self._exact, self._hint = array("d"), Statement(), True, None

    def __iter__(self) -> Iterator[np.ndarray]:
        self.decoded, self.repeated, self.note, self._hint = 0, 0, None, None
        last, self.size, self._times = None, (), array("d")
        with on_disk(self.video) as path:
            for image in self._images(path):
                self.size = self.size or image.shape
                self.repeated += last is not None and _same(image, last)
                self.decoded += 1
                last = image
                yield convert(image, self._form) if self._form else image
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
        if is_text(path):
            raise DamagedVideo(f"video {self.video.name} cannot be decoded: it is a text; replace or remove the file")
        return self._from_animation(path) if suffix == ".gif" else self._from_container(path)

    def _from_container(self, path: Path) -> Iterator[np.ndarray]:
        self._statement = look_into(path)
        self._exact = self._statement.seconds > 0 and not self._statement.fragmented
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)  # FFmpeg takes "a:b.mp4" for an address
        try:
            if self._start:
                capture.set(cv2.CAP_PROP_POS_FRAMES, self._start)
            pictures = _pictures(capture)
            begin = list(itertools.islice(pictures, 2))
            # Interlaced frames OpenCV cannot convert: it gives the same buffer again and again. It ends where a Theora
            # frame repeats the one before.
            stuck = len(begin) == 2 and np.array_equal(begin[0][0], begin[1][0])
            if not begin or ((stuck or path.suffix.lower() == ".ogv") and pyav()):
                yield from self._with_pyav(path)
                return
            self.decoder = f"opencv {cv2.__version__}"
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
            self._stated(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            for image, seconds in itertools.chain(begin, pictures):
                self._keep_size(image)
                self._times.append(seconds)
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def _with_pyav(self, path: Path) -> Iterator[np.ndarray]:
        if self._statement.whole is False:
            raise DamagedVideo(f"video {self.video.name} is damaged: the end of the file is missing; replace the file")
        av = pyav()
        if not av:
            raise DamagedVideo(
                f"video {self.video.name} cannot be decoded by OpenCV: it is damaged, or no video, or of an unusual"
                f" kind ({install_pyav()}, then it is tried with PyAV); replace or remove the file"
            )
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
                    self._times.append((frame.time or 0) - (container.start_time or 0) / 1e6)
                    if number >= self._start:
                        yield image
        except av.FFmpegError as error:
            raise DamagedVideo(
                f"video {self.video.name} cannot be decoded ({error}); replace or remove the file"
            ) from None

    def _from_animation(self, path: Path) -> Iterator[np.ndarray]:
        self.decoder = f"pillow {pillow_version}"
        try:
            self.stated = gif_pictures(path)
            with Image.open(path) as animation:
                self.fps = 1000 / (animation.info.get("duration") or 100)
                for number, image in enumerate(ImageSequence.Iterator(animation)):
                    if number >= self._start:
                        yield np.asarray(image.convert("RGB"))
        except (*READ_ERRORS, UnidentifiedImageError, SyntaxError, IndexError, struct.error) as error:
            raise DamagedVideo(f"{self.video.name} cannot be decoded ({error}); replace or remove the file") from None

    def _from_folder(self, path: Path) -> Iterator[np.ndarray]:
        files, self._hint = in_order(path)
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
        if array.ndim == 3 and array.shape[-1] in (1, 3):
            raise DamagedVideo(
                f"{self.video.name}: {received} is one picture, or frames {array.shape[-1]} wide; save it as"
                " array[np.newaxis] or array[..., np.newaxis]"
            )
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
        if self.size and image.shape != self.size:
            raise DamagedVideo(
                f"video {self.video.name} changes its size: {name or f'frame {self.decoded}'} is {image.shape[1]} x"
                f" {image.shape[0]}, expected {self.size[1]} x {self.size[0]} as at its beginning; make all frames"
                " one size"
            )

    def _stated(self, count: int) -> None:
        """``count`` frames are stated (where it is above 0), of which an edit list may show a part."""
        if count > 0 and self.fps and 0 < self._statement.seconds * self.fps < count - 1:
            count, self._exact = round(self._statement.seconds * self.fps), False
        self.stated = count if count > 0 else None

    def _verify(self, path: Path) -> None:
        name, found, stated = self.video.name, self.decoded, self.stated or 0
        if not found:
            raise DamagedVideo(f"video {name} has no frames; replace or remove it")
        if self._statement.whole is False:
            raise DamagedVideo(
                f"video {name} is damaged: the end of the file is missing, {found} frames can be decoded; replace the"
                " file"
            )
        # Where frames are not counted one by one, times tell: a video whose frame rate varies has fewer than stated.
        last = 0 if self._exact else round(max(self._times) * (self.fps or 0)) + 1
        within, after = 0 if self._exact else frames_between(self._times), stated - max(found, last)
        about = max(_MAY_LACK, max(stated, found) // _ESTIMATED)
        counted = self._exact or path.suffix.lower() == ".avi"
        if after > (_MAY_LACK if counted else about) and (counted or not sound_goes_on(path, found + _MAY_LACK)):
            way_out = "" if counted or pyav() else f", or {install_pyav()}: PyAV may know better"
            raise DamagedVideo(
                f"video {name} is damaged: it states {stated} frames, but only {found} can be decoded; replace the"
                f" file{way_out}"
            )
        if within > about:
            raise DamagedVideo(
                f"video {name} is damaged: some {within} frames are missing between the {found} that can be decoded;"
                " replace the file, or, if its frame rate is meant to vary, convert it to .mp4"
            )
        if found > 1 and self.repeated == found - 1:
            interlaced = self.fps and self.decoder.startswith("opencv")
            way_out = f"; if it is interlaced, {install_pyav()}, which decodes that; else remove it"
            raise DamagedVideo(
                f"video {name} shows the same picture in all of its {found} frames"
                f"{way_out if interlaced else '; replace or remove it'}"
            )
        notes = [self._hint] if self._hint else []
        if stated > found or (self._exact and stated != found):
            notes.append(f"states {stated} frames, has {found}")
        elif within:
            notes.append(f"lacks some {within} frames")
        if self.repeated > found // 2:
            notes.append(f"{self.repeated} of {found} frames repeat the one before")
        self.note = "; ".join(notes) or None


def _same(image: np.ndarray, other: np.ndarray) -> bool:
    """Are two pictures equal? Every 16th row tells most that are not."""
    return np.array_equal(image[::16], other[::16]) and np.array_equal(image, other)


def _pictures(capture: cv2.VideoCapture) -> Iterator[tuple[np.ndarray, float]]:
    """The pictures that OpenCV decodes, uint8 (height, width, BGR), and their times in seconds."""
    while (image := capture.read()[1]) is not None:
        yield image, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
