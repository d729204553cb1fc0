"""Moving MNIST: digits that fly over a black canvas and bounce off its walls (Srivastava et al., arXiv:1502.04681).

Three sources give the same clips: drawn on the fly, the video archive of Clockwork VAE (Saxena et al.,
arXiv:2102.09532), and the test set of the University of Toronto. The drawn trajectory is that of the widely used
generator: start and direction are uniform, a step is 0.1 of the free way, and a digit that would pass a wall stops at
it and turns round (the overshoot is discarded, not reflected). Frame 0 is already one step away from the start.
Overlaps are combined by maximum.
"""

import hashlib
import math
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from htsr.checks import require_choice, require_int
from htsr.data.clips import SPLITS, Clips
from htsr.data.mnist_digits import Digits, load_digits
from htsr.data.sources import WindowSource
from htsr.data.video.cache import open_videos
from htsr.data.video.files import FrameFormat, find_videos, map_array
from htsr.data.video.windows import VideoWindows, hold_out, whole
from htsr.errors import DAMAGE, InputError, out_of_reach

Source = Literal["generated", "archive", "toronto"]
DIGIT_SIZE = 28
NUM_CLIPS = {"train": 10_000, "valid": 256, "test": 1_000}
_STEP = 0.1


def moving_mnist(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    source: Source = "generated",
    datadir: str | None = None,
    download: bool = False,
    num_digits: int = 2,
    image_size: int = 64,
    num_clips: int | None = None,
) -> Clips:
    """Clips of moving digits, windows of (seq_len, image_size, image_size, 1).

    Args:
        split: "train", "valid" or "test"; of generated clips, no two splits share a digit image.
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the training order, and of drawn clips (in every split).
        source: "generated": drawn on the fly, new ones in every epoch of "train", always the same in "valid" and
            "test". "archive": ``<datadir>/train-seq100`` and ``<datadir>/test-seq1000`` with .avi or .mp4 files, cut
            into non-overlapping windows; "valid" is the last twentieth of the training files by name, at least one.
            "toronto": ``<datadir>/mnist_test_seq.npy``, uint8 (20, 10000, 64, 64); all of it is "test", as in the
            published results, and it has no other split.
        datadir: folder of the files; "generated" takes MNIST digits from it (see `load_digits`), or the bundled ones.
        download: fetch the MNIST digits into ``datadir`` if they are not there.
        num_digits: digits per clip.
        image_size: height and width of the canvas in pixels.
        num_clips: generated clips per epoch; default 10,000 train, 256 valid, 1,000 test.

    Raises:
        InputError: an argument is out of range or without effect on this source; files are missing or damaged.
    """
    require_choice("split", split, SPLITS)
    require_choice("source", source, get_args(Source))
    require_int("seq_len", seq_len, least=1)
    if source == "generated":
        count = NUM_CLIPS[split] if num_clips is None else num_clips
        digits = load_digits(split, datadir, download)
        drawn = GeneratedClips(
            digits,
            split,
            seq_len=seq_len,
            num_clips=count,
            seed=seed,
            num_digits=num_digits,
            image_size=image_size,
        )
        return Clips(drawn, batch_size, seed)
    fixed = {"num_digits": (num_digits, 2), "image_size": (image_size, 64), "num_clips": (num_clips, None)}
    for name, (value, only) in {**fixed, "download": (download, False)}.items():
        if value != only:
            raise InputError(f"{name}={value} has no effect on source={source}; leave it out or use source=generated")
    if datadir is None:
        raise InputError(f"source={source} reads files: datadir, their folder, is missing; name it")
    read = _archive if source == "archive" else _toronto
    return Clips(read(Path(datadir), split, seq_len), batch_size, seed)


def _archive(datadir: Path, split: str, seq_len: int) -> WindowSource:
    folder = datadir / ("test-seq1000" if split == "test" else "train-seq100")
    files = find_videos(folder)
    if split != "test":
        train, valid = hold_out(files, str(folder))
        files = train if split == "train" else valid
    what = f"Moving MNIST, {split}"
    store = open_videos(files, FrameFormat(64, 64, channels=1), what=what)
    return VideoWindows(store, whole(store), seq_len, stride=1, hop=seq_len, what=what)


def _toronto(datadir: Path, split: str, seq_len: int) -> WindowSource:
    if split != "test":
        raise InputError(f"source=toronto is a test set and has no {split} split; use source=generated for it")
    return TorontoClips(datadir / "mnist_test_seq.npy", seq_len)


class TorontoClips(WindowSource):
    """The first ``seq_len`` frames of each sequence of ``mnist_test_seq.npy``, read from the file when asked for."""

    no_validation = "none: mnist_test_seq.npy is a test set and has no validation split"

    def __init__(self, path: Path, seq_len: int):
        try:
            self._videos = map_array(path)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; put mnist_test_seq.npy there") from None
        except DAMAGE as error:
            if out_of_reach(error):
                raise
            raise InputError(f"{path} is not a readable .npy file ({error}); fetch mnist_test_seq.npy again") from None
        shape = self._videos.shape
        if len(shape) != 4 or (shape[0], *shape[2:]) != (20, 64, 64) or self._videos.dtype != np.uint8:
            raise InputError(f"{path}: expected uint8 (20, sequences, 64, 64), received {self._videos.dtype} {shape}")
        if seq_len > 20:
            raise InputError(f"seq_len is {seq_len}, but the sequences of {path} have 20 frames; choose at most 20")
        self.shape = (seq_len, 64, 64, 1)
        self.num_clips = shape[1]

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The clip, uint8 (time, 64, 64, 1); the same in every epoch."""
        return np.array(self._videos[: self.shape[0], index, :, :, np.newaxis])


class GeneratedClips(WindowSource):
    """Clips drawn on the fly; clip ``index`` is a pure function of (seed, split, epoch, index) and of the digits.

    A longer ``seq_len`` continues the same clips. The splits "valid" and "test" are the same in every epoch.
    """

    def __init__(
        self, digits: Digits, split: str, *, seq_len: int, num_clips: int, seed: int, num_digits: int, image_size: int
    ):
        require_int("num_clips", num_clips, least=1)
        require_int("seed", seed, least=0)
        require_int("num_digits", num_digits, least=1)
        require_int("image_size", image_size, least=DIGIT_SIZE + 1)
        self.shape = (seq_len, image_size, image_size, 1)
        self.num_clips = num_clips
        self._digits, self._split, self._seed, self._num_digits = digits, split, seed, num_digits

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The clip, uint8 (time, height, width, 1)."""
        draws, chosen = self._draw(index, epoch)
        return paste(self._digits.images[chosen], trajectories(draws, *self.shape[:2]), self.shape[1])

    def labels(self, index: int, epoch: int = 0) -> np.ndarray:
        """The classes 0 … 9 of the clip's digits, uint8 (digit,)."""
        return self._digits.labels[self._draw(index, epoch)[1]]

    def positions(self, index: int, epoch: int = 0) -> np.ndarray:
        """Where the digits' top left corners are, in pixels (top, left), int64 (time, digit, 2)."""
        return trajectories(self._draw(index, epoch)[0], *self.shape[:2])

    def _draw(self, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(uniform draws of the trajectories, indices of the digits)"""
        epoch = epoch if self._split == "train" else 0
        name = f"moving_mnist seed={self._seed} split={self._split} epoch={epoch} clip={index}"
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        draws = generator.random((self._num_digits, 3))
        return draws, generator.integers(len(self._digits.images), size=self._num_digits)


def trajectories(draws: np.ndarray, num_frames: int, image_size: int) -> np.ndarray:
    """Top left corners of bouncing digits.

    Args:
        draws: uniform numbers in [0, 1), (digit, 3): start x, start y, direction as a share of the full circle.
        num_frames: frames.
        image_size: canvas height and width in pixels.

    Returns:
        (top, left) in pixels, int64 (frame, digit, 2).
    """
    paths = []
    for x, y, turn in draws.tolist():
        angle = 2 * math.pi * turn
        paths.append([_bounce(y, _STEP * math.sin(angle), num_frames), _bounce(x, _STEP * math.cos(angle), num_frames)])
    return ((image_size - DIGIT_SIZE) * np.array(paths)).astype(np.int64).transpose(2, 0, 1)


def _bounce(position: float, step: float, num_frames: int) -> list[float]:
    path = []
    for _ in range(num_frames):
        position += step
        if not 0 < position < 1:
            position, step = float(position >= 1), -step
        path.append(position)
    return path


def paste(images: np.ndarray, corners: np.ndarray, image_size: int) -> np.ndarray:
    """Draws digits on black frames, overlaps by maximum.

    Args:
        images: uint8 (digit, 28, 28).
        corners: (top, left) in pixels, integers (frame, digit, 2), digits inside the canvas.
        image_size: canvas height and width in pixels.

    Returns:
        uint8 (frame, image_size, image_size, 1).
    """
    canvas = np.zeros((len(corners), image_size, image_size, 1), np.uint8)
    frames = canvas.reshape(len(corners), -1)
    # A digit in rows as wide as the canvas is one contiguous strip of the flat frame, 4 times faster than a block.
    strips = np.zeros((len(images), DIGIT_SIZE, image_size), np.uint8)
    strips[:, :, :DIGIT_SIZE] = images
    length = (DIGIT_SIZE - 1) * image_size + DIGIT_SIZE
    starts = corners @ np.array([image_size, 1])
    for strip, first_pixels in zip(strips.reshape(len(images), -1)[:, :length], starts.T.tolist(), strict=True):
        for frame, first in zip(frames, first_pixels, strict=True):
            target = frame[first : first + length]
            np.maximum(target, strip, out=target)
    return canvas
