"""Are the digits of Moving MNIST frames all there, still themselves and in place? Read by two small bundled networks.

A detector, which does not know the truth, finds the digits' centres; a classifier names the class of a digit cut out at
a given place. Both are trained (``python -m benchmarks.train_digit_classifier``) on the bundled training digits alone,
sharp and blurred: neither has seen a digit of the test split, and whether a prediction is sharp is for LPIPS and SSIM
to say. No reader is perfect and overlapping digits hide each other: read the true frames too, they are the ceiling.
"""

import functools
import itertools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import htsr.keras_settings  # noqa: F401
from htsr.errors import InputError
from htsr.metrics.weights import read_weights

SIZE = 28
CENTRE = SIZE // 2  # the centre of mass of an MNIST digit is at (14, 14), give or take a pixel
INK = 0.1  # darker pixels neither pull at the centre nor count as ink
EMPTY = 14.0  # less ink than this is no digit: half of what the lightest training digit has
NEAR = 4.0  # pixels between the centres of a digit that is in place
MAX_DIGITS = 5
WEIGHTS = Path(__file__).parent / "assets" / "digit_classifier.npz"
WEIGHTS_SHA256 = "c6f0b3a1e98a38d619593e78861e72f58445c1e4acf49e0da07fdbe8d8e4e0a5"
CLASSIFIER = ((16, 1), (24, 2), (48, 1), (64, 2), (64, 1))  # (filters, stride) of the 3x3 convolutions
STRIDE = 4  # of the detector's cells, in pixels
_DETECTOR = (48, 48, 48, 48)  # filters of the 3x3 convolutions over cells
_LEAST_SHARE = 0.3  # what a peak of the detector has if it is a digit; 0.2 to 0.4 are as good on the valid split
_PEAK = 7  # pixels, in height and width, of which a peak is the highest
_FOUND = MAX_DIGITS + 1  # digits looked for: one more than there may be tells that there are too many
_FAR = 1e6  # pixels: more than any frame has
_BLOCK = 512  # frames read at once


class DigitReader:
    """Reads the digits of frames.

    Args:
        weights: path of the weights; the bundled ones by default.

    Raises:
        InputError: when the weights are missing or are not the bundled ones.

    Example:
        >>> black, corners = np.zeros((1, 2, 64, 64, 1)), np.zeros((1, 2, 1, 2), int)
        >>> DigitReader().read(black, labels=np.array([[3]]), corners=corners)["digits_count"]
        array([[0., 0.]])
    """

    def __init__(self, weights: str | Path = WEIGHTS):
        arrays = read_weights(Path(weights), WEIGHTS_SHA256, "digit")
        self._classifier, self._detector = build_classifier(), build_detector()
        for name, network in (("classifier", self._classifier), ("detector", self._detector)):
            network.set_weights([arrays[f"{name}/{i}"] for i in range(len(network.weights))])
        signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
        self._logits = tf.function(functools.partial(self._classifier, training=False), input_signature=signature)
        self._peaks = tf.function(self._find_peaks, input_signature=signature)

    def read(self, frames: np.ndarray, labels: np.ndarray, corners: np.ndarray) -> dict[str, np.ndarray]:
        """Compare what is read from frames with the truth.

        A clip of one digit is generous about the place: its digit is the 28x28 pixels around the centre of mass of all
        ink. Of several digits each is looked for at its true place. A frame, or place, with next to no ink shows no
        digit, and neither does a frame with a NaN: all of its values are 0.

        Args:
            frames: floats ``(batch, time, height, width, 1)`` in [0, 1], at least 28x28 pixels.
            labels: the digits' true classes, integers ``(batch, digit)``, 1 to 5 digits.
            corners: their true (top, left) in every frame, integers ``(batch, time, digit, 2)``. A digit's true centre
                is 14 pixels below and to the right of it: MNIST images are centred on the digit's mass to within a
                pixel.

        Returns:
            float64 ``(batch, time)`` each:
            ``digits_count``: 1 where the detector finds as many digits as there should be, else 0;
            ``digits_identity``: the share of the digits whose class is read right;
            ``digits_place``: the share of the digits found within 4 pixels of their true centre. One digit is found at
            the centre of mass of the frame's ink; several where the detector finds them, each found digit being taken
            for at most one true one so that the sum of distances is least.

        Raises:
            InputError: for other arrays.
        """
        frames, labels, corners = _checked(frames, labels, corners)
        batch, time = frames.shape[:2]
        flat = frames.reshape(-1, *frames.shape[2:4])
        labels, corners = np.repeat(labels, time, axis=0), corners.reshape(batch * time, *corners.shape[2:])
        pieces = [
            self._read_block(*(array[i : i + _BLOCK] for array in (flat, labels, corners)))
            for i in range(0, len(flat), _BLOCK)
        ]
        values = np.concatenate(pieces, axis=1).reshape(-1, batch, time)
        return dict(zip(("digits_count", "digits_identity", "digits_place"), values, strict=True))

    def classify(self, images: np.ndarray) -> np.ndarray:
        """The classes 0 … 9 ``(...)`` of digits ``(..., 28, 28)`` in [0, 1], each centred on its mass."""
        flat = tf.constant(images.reshape(-1, SIZE, SIZE, 1), tf.float32)
        return self._logits(flat).numpy().argmax(axis=-1).reshape(images.shape[:-2])

    def detect(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find at most six digits in each frame.

        Args:
            frames: ``(frame, height, width)`` in [0, 1].

        Returns:
            Centres (y, x) in pixels ``(frame, 6, 2)``, the surest first, and which of them are digits ``(frame, 6)``.
        """
        positions, shares = self._peaks(tf.constant(frames[..., np.newaxis], tf.float32))
        height, width = frames.shape[1:]
        centres = np.stack(np.divmod(positions.numpy(), width + -width % STRIDE), axis=-1)
        centres = np.minimum(centres, (height - 1, width - 1))  # the last cells may reach beyond the edges
        is_found = shares.numpy() >= _LEAST_SHARE
        frame, place = np.nonzero(is_found)
        is_found[frame, place] = locate(crop(frames[frame], centres[frame, place, np.newaxis]))[1][:, 0] >= EMPTY
        return centres, is_found

    def _read_block(self, frames: np.ndarray, labels: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Count, identity and place ``(3, frame)`` of ``(frame, height, width)``, labels and corners likewise."""
        # A frame that is not a number is as good as black.
        frames = np.where(np.isnan(frames).any((1, 2), keepdims=True), 0, frames)
        true = corners + CENTRE
        is_new = np.append(True, (frames[1:] != frames[:-1]).any((1, 2)))
        frames, index = frames[is_new], is_new.cumsum() - 1  # baselines repeat a frame: it is looked at once
        found, is_found = (array[index] for array in self.detect(frames))
        if labels.shape[1] == 1:
            centres, ink = (array[:, np.newaxis] for array in locate(frames))
            classes = self.classify(crop(frames, centres))
            centres, ink, classes = centres[index], ink[index], classes[index]
            near = np.linalg.norm(centres - true, axis=-1) <= NEAR
            near &= ink >= EMPTY
        else:
            images = crop(frames[index], true)
            classes, ink = self.classify(images), locate(images)[1]
            near = _matched_distances(found, is_found, true) <= NEAR
        right = (classes == labels) & (ink >= EMPTY)
        return np.stack([is_found.sum(axis=1) == labels.shape[1], right.mean(axis=1), near.mean(axis=1)])

    def _find_peaks(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions in the flat map of cells times ``STRIDE`` pixels, and their shares, both ``(frame, 6)``."""
        height, width = tf.shape(frames)[1], tf.shape(frames)[2]
        cells = tf.pad(frames, [(0, 0), (0, -height % STRIDE), (0, -width % STRIDE), (0, 0)])
        share = tf.sigmoid(self._detector(cells, training=False))
        highest = tf.nn.max_pool2d(tf.nn.max_pool2d(share, (_PEAK, 1), 1, "SAME"), (1, _PEAK), 1, "SAME")
        peaks = tf.where(share == highest, share, 0)
        shares, positions = tf.math.top_k(tf.reshape(peaks, [tf.shape(frames)[0], -1]), _FOUND)
        return positions, shares


@functools.cache
def shared_reader() -> DigitReader:
    """The one reader of a process."""
    return DigitReader()


def locate(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass and amount of the ink, pixels of at least ``INK``.

    Args:
        images: ``(..., height, width)`` in [0, 1].

    Returns:
        (y, x) in pixels ``(..., 2)``, (0, 0) without ink; the sum of the pixels ``(...)``.
    """
    ink = np.where(images >= INK, images, 0).astype(np.float64)
    amount = ink.sum((-2, -1))
    y, x = np.arange(ink.shape[-2]), np.arange(ink.shape[-1])
    moments = np.stack([ink.sum(-1) @ y, ink.sum(-2) @ x], axis=-1)
    return moments / np.maximum(amount, INK)[..., np.newaxis], amount


def crop(images: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The 28x28 pixels ``(image, place, 28, 28)`` around places (y, x) of images ``(image, height, width)``.

    Black beyond the edges; ``centres`` is ``(image, place, 2)``, inside the image.
    """
    padded = np.pad(images, [(0, 0), (CENTRE, CENTRE), (CENTRE, CENTRE)])
    y, x = np.moveaxis(np.rint(centres).astype(int), -1, 0)[..., np.newaxis] + np.arange(SIZE)
    image = np.arange(len(images)).reshape(-1, 1, 1, 1)
    return padded[image, y[..., :, np.newaxis], x[..., np.newaxis, :]]


def build_classifier() -> keras.Sequential:
    """Digits ``(image, 28, 28, 1)`` to logits ``(image, 10)``, without weights."""
    convolutions = [
        keras.layers.Conv2D(filters, 3, stride, "valid" if stride == 1 else "same", activation="relu", dtype="float32")
        for filters, stride in CLASSIFIER
    ]
    dense = [keras.layers.Flatten(dtype="float32"), keras.layers.Dense(10, dtype="float32")]
    return keras.Sequential([keras.Input((SIZE, SIZE, 1)), *convolutions, *dense])


def build_detector() -> keras.Sequential:
    """Frames ``(frame, height, width, 1)``, in whole cells, to logits of the same shape, without weights.

    Their sigmoid is near 1 at the centre of a digit and falls off within a few pixels.
    """
    cells = keras.layers.Conv2D(_DETECTOR[0], STRIDE, STRIDE, activation="relu", dtype="float32")
    convolutions = [
        keras.layers.Conv2D(filters, 3, padding="same", activation="relu", dtype="float32") for filters in _DETECTOR
    ]
    logits = keras.layers.Conv2D(STRIDE**2, 3, padding="same", dtype="float32")
    pixels = keras.layers.Lambda(lambda x: tf.nn.depth_to_space(x, STRIDE), dtype="float32")
    return keras.Sequential([keras.Input((None, None, 1)), cells, *convolutions, logits, pixels])


def _matched_distances(found: np.ndarray, is_found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Pixels from every true centre to the found one that it is matched with.

    Args:
        found, is_found: as ``DigitReader.detect`` returns them.
        true: ``(frame, digit, 2)``.

    Returns:
        ``(frame, digit)``, ``_FAR`` where no found centre is left for a digit.
    """
    distances = np.linalg.norm(true[:, :, np.newaxis] - found[:, np.newaxis], axis=-1)
    distances = np.where(is_found[:, np.newaxis], distances, _FAR)
    digits = np.arange(true.shape[1])
    matchings = np.array(list(itertools.permutations(range(_FOUND), len(digits))))
    each = distances[:, digits, matchings]  # (frame, matching, digit)
    best = each.sum(axis=2).argmin(axis=1)
    return each[np.arange(len(each)), best]


def _checked(frames, labels, corners) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames, labels, corners = np.asarray(frames), np.asarray(labels), np.asarray(corners)
    if frames.ndim != 5 or frames.shape[4] != 1 or frames.size == 0 or min(frames.shape[2:4]) < SIZE:
        raise InputError(
            f"digits are read from frames (batch, time, height, width, 1) of at least {SIZE}x{SIZE} pixels, received "
            f"shape {frames.shape}"
        )
    if frames.dtype.kind != "f":
        raise InputError(f"digits are read from floats in [0, 1], received {frames.dtype}; divide bytes by 255")
    low, high = frames.min(), frames.max()
    if low < 0 or high > 1:
        raise InputError(f"digits are read from frames in [0, 1], received [{low:.4g}, {high:.4g}]; clip them first")
    batch, time, height, width = frames.shape[:4]
    num_digits = labels.shape[-1] if labels.ndim == 2 else 0
    if labels.shape != (batch, num_digits) or not 1 <= num_digits <= MAX_DIGITS or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels must be integers ({batch}, digit) for {batch} clips with 1 to {MAX_DIGITS} digits, received "
            f"{labels.dtype} {labels.shape}"
        )
    if corners.shape != (batch, time, num_digits, 2) or corners.dtype.kind not in "iu":
        raise InputError(
            f"corners must be integers {(batch, time, num_digits, 2)}, received {corners.dtype} {corners.shape}"
        )
    corners = corners.astype(np.int64)
    if corners.min() < 0 or (corners > (height - SIZE, width - SIZE)).any():
        raise InputError(
            f"corners must leave every digit inside frames of {height}x{width} pixels, received "
            f"{corners.min()} to {corners.max()}"
        )
    return frames[..., 0], labels, corners
