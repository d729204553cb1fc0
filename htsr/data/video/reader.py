"""One reader for every kind of video: files, folders of images, arrays, animations, members of zip archives.

Frames come out as uint8 ``(height, width, channel)``, one after the other; values of 16 bits are scaled by the
range that the whole video takes, and that is noted. An hour takes no more memory than a second,
but for its times (8 bytes a frame), and for .npz files, which are loaded whole. When the last frame is out, the frames
and their times are held against what the file states: a video that ends early, lacks frames in its middle, or shows one
picture all the time raises `DamagedVideo` instead of passing for a shorter one. Nothing in MPEG program and transport
streams (.mpg, .ts) or in live recordings (.webm of a browser) states a length: there a file that was cut cannot be
told; nor can a hole where the frame rate varies throughout. One at the very beginning is but noted.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from htsr.data.video.containers import Container
from htsr.data.video.files import ARRAYS, PAGED, DamagedVideo, FrameFormat, Video, convert, on_disk, pages
from htsr.data.video.pictures import Animation, ArrayVideo, ImageFolder, Pictures

_DARK = 32  # of 255: a brightest value below this is worth a remark


class VideoReader:
    """The frames of one video in a format: ``for frame in VideoReader(video, form)``.

    Args:
        video: which one.
        form: what frames become; None leaves size and colours as they are (3 channels, or 1 from grey arrays).
        start: index of the first frame wanted.

    Attributes, once iteration has begun:
        decoder: ``pyav <version>``, ``opencv <version>`` (images), ``pillow <version>`` or ``numpy``.
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

    def __iter__(self) -> Iterator[np.ndarray]:
        self.decoded, self.repeated, self.note, self.size, last, kind = 0, 0, None, (), None, None
        with on_disk(self.video) as path:
            pictures, depth, notes, brightest = self._open(path), None, [], 0
            self.decoder = pictures.decoder
            for image in pictures.decode(self._start):
                self.stated, self.fps = pictures.stated, pictures.fps
                self.size = self.size or image.shape
                kind = kind or image.dtype
                if image.dtype != kind:
                    raise DamagedVideo(f"video {self.video.name} has frames of 8 and of 16 bits; make all of one kind")
                if kind == np.uint16:
                    depth = depth or self._depth(path, notes)
                    image = np.rint(image * (255 / (2**depth - 1))).astype(np.uint8)  # noqa: PLW2901
                brightest = max(brightest, int(image.max()))
                if image.shape != self.size:
                    raise DamagedVideo(
                        f"video {self.video.name} changes its size: frame {self.decoded} is {image.shape[1]} x"
                        f" {image.shape[0]}, expected {self.size[1]} x {self.size[0]} as at its beginning; make all"
                        " frames one size"
                    )
                self.repeated += last is not None and _same(image, last)
                self.decoded += 1
                last = image
                yield convert(image, self._form) if self._form else image
        if self._start == 0:
            self._conclude()
        if brightest < _DARK:
            notes.append(f"is nearly black: its brightest value is {brightest} of 255")
        if self.repeated > self.decoded // 2:
            notes.append(f"{self.repeated} of {self.decoded} frames repeat the one before")
        self.note = "; ".join(filter(None, [pictures.note, *notes])) or None

    def _depth(self, path: Path, notes: list[str]) -> int:
        """How many bits the values of a video of 16 bits take, by the largest one of all its frames; that is noted."""
        largest = max(int(image.max()) for image in self._open(path).decode(0))
        depth = next(bits for bits in (8, 10, 12, 14, 16) if largest < 2**bits)
        notes.append(f"has 16-bit values up to {largest}, read as {depth} bits: {2**depth - 1} becomes 255")
        return depth

    def _open(self, path: Path) -> Pictures:
        if path.is_dir():
            return ImageFolder(path, self.video.name)
        suffix = path.suffix.lower()
        if suffix in ARRAYS:
            return ArrayVideo(path, self.video.name)
        if not os.access(path, os.R_OK) or not path.stat().st_size:
            raise DamagedVideo(f"video {self.video.name} is empty or unreadable ({path}); replace or remove the file")
        animated = suffix in (".gif", ".apng", *PAGED) or (suffix == ".png" and pages(path) > 1)
        return (Animation if animated else Container)(path, self.video.name)

    def _conclude(self) -> None:
        """Refuse a video without pictures, or with one picture alone."""
        if not self.decoded:
            raise DamagedVideo(f"video {self.video.name} has no frames; replace or remove it")
        if self.repeated == self.decoded - 1 > 0:
            raise DamagedVideo(
                f"video {self.video.name} shows the same picture in all of its {self.decoded} frames; replace or remove"
                " it"
            )


def _same(image: np.ndarray, other: np.ndarray) -> bool:
    """Are two pictures equal? Every 16th row tells most that are not."""
    return np.array_equal(image[::16], other[::16]) and np.array_equal(image, other)
