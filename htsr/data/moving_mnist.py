"""Moving MNIST: digits that fly over a black canvas and bounce off its walls (Srivastava et al., arXiv:1502.04681).

The trajectory is that of the widely used generator: start and direction uniform, 0.1 of the free way per frame, and a digit
that would pass a wall stops at it and turns round (the overshoot is discarded, not reflected). Frame 0 is already one step
away from the start. Overlapping digits are combined by maximum.
"""

import hashlib
import math

import numpy as np

from htsr.data.clips import Clips, require_int
from htsr.data.mnist_digits import Digits, bundled_digits
from htsr.errors import InputError

DIGIT_SIZE = 28
NUM_CLIPS = {"train": 10_000, "valid": 256, "test": 1_000}
_STEP = 0.1


def moving_mnist(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    num_digits: int = 2,
    image_size: int = 64,
    num_clips: int | None = None,
) -> Clips:
    """Clips of moving digits, windows of (seq_len, image_size, image_size, 1).

    Args:
        split: "train" (every epoch has new clips), "valid" or "test" (the same clips always); they share no digit image.
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the drawn clips and of the training order.
        num_digits: digits per clip.
        image_size: height and width of the canvas in pixels.
        num_clips: clips per epoch; default 10,000 train, 256 valid, 1,000 test.
    """
    source = GeneratedClips(
        bundled_digits(split),
        split,
        seq_len=seq_len,
        seed=seed,
        num_digits=num_digits,
        image_size=image_size,
        num_clips=NUM_CLIPS[split] if num_clips is None else num_clips,
    )
    return Clips(source, batch_size, seed)


class GeneratedClips:
    """Clips drawn on the fly; clip ``index`` is a pure function of (seed, split, epoch, index) and of the digits.

    A longer ``seq_len`` continues the same clips. Only the split "train" depends on the epoch.
    """

    def __init__(self, digits: Digits, split: str, *, seq_len, seed, num_digits, image_size, num_clips):
        require_int("seq_len", seq_len, least=1)
        require_int("seed", seed, least=0)
        require_int("num_digits", num_digits, least=1)
        require_int("image_size", image_size, least=DIGIT_SIZE + 1)
        require_int("num_clips", num_clips, least=1)
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
        name = (
            f"moving_mnist seed={self._seed} split={self._split} epoch={epoch * (self._split == 'train')} clip={index}"
        )
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        return generator.random((self._num_digits, 3)), generator.integers(
            len(self._digits.images), size=self._num_digits
        )


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
    # A digit in rows as wide as the canvas is one contiguous strip of the flat frame: 4 times faster than a 28 x 28 block.
    strips = np.zeros((len(images), DIGIT_SIZE, image_size), np.uint8)
    strips[:, :, :DIGIT_SIZE] = images
    length = (DIGIT_SIZE - 1) * image_size + DIGIT_SIZE
    starts = corners @ np.array([image_size, 1])
    for strip, first_pixels in zip(strips.reshape(len(images), -1)[:, :length], starts.T.tolist(), strict=True):
        for frame, first in zip(frames, first_pixels, strict=True):
            target = frame[first : first + length]
            np.maximum(target, strip, out=target)
    return canvas
