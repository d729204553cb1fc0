"""Fréchet video distance: how far the features of predicted videos are, as a distribution, from those of true ones.

Unterthiner et al., Towards Accurate Generative Models of Video: A New Metric & Challenges, 2018 (arXiv 1812.01717):
the squared Fréchet distance (Wasserstein-2) of two Gaussians, fitted to the logits that I3D (Kinetics-400) gives
for each video. It is a number of two *sets* of videos, not of a frame.

FVD depends on conventions as much as on videos: on the network, the resizing, the number of frames and, because a
covariance of few videos is underestimated in most directions, strongly on the number of videos. `describe` states them;
compare only numbers with the same description. Without the network's weights there is no FVD: every function that needs
them raises, and `missing_weights` says why.
"""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from htsr.errors import InputError

MIN_FRAMES = 9  # the network's last average spans two steps of time, each of eight frames or a part of them
ENOUGH_VIDEOS = 256
_BLOCK_FRAMES = 64  # videos are processed in blocks of this many frames


class VideoFeatures:
    """I3D logits of videos: grey frames tiled to RGB, resized to 224x224 bilinearly without antialiasing, to [-1, 1].

    Pixel centres are aligned as in ``tf.image.resize``. Deviation: the code of Unterthiner et al. aligns the corners of
    pixels at the top left (``resize_bilinear`` of TensorFlow 1), which shifts the pictures by up to half a pixel.

    Args:
        weights: path of the converted weights; `htsr.metrics.i3d.weights_path` by default.

    Raises:
        InputError: when the weights are missing or are not the published ones.
    """

    def __init__(self, weights: str | Path | None = None):
        i3d = _i3d()
        self._size = i3d.SIZE
        self._network = i3d.load_network(i3d.weights_path() if weights is None else Path(weights))
        self._graph = tf.function(self._embed, reduce_retracing=True, jit_compile=False)

    def features(self, videos: np.ndarray) -> np.ndarray:
        """Map videos to vectors, a few at a time: memory grows with the length of one video, not with their number.

        Args:
            videos: floats ``(..., time, height, width, channel)`` in [0, 1], at least 9 frames, 1 (grey) or 3 (RGB)
                channels.

        Returns:
            float32 ``(..., 400)``; NaN for a video with a NaN in it.

        Raises:
            InputError: for other arrays.
        """
        videos = _checked(videos)
        flat = videos.reshape(-1, *videos.shape[-4:])
        block = max(1, _BLOCK_FRAMES // flat.shape[1])
        pieces = [self._graph(tf.constant(flat[i : i + block], tf.float32)).numpy() for i in range(0, len(flat), block)]
        vectors = np.concatenate(pieces)
        vectors[np.isnan(flat.max(axis=(1, 2, 3, 4)))] = np.nan  # TensorFlow's ReLU may turn NaN into 0
        return vectors.reshape(*videos.shape[:-4], -1)

    def _embed(self, videos: tf.Tensor) -> tf.Tensor:
        frames = tf.reshape(videos, tf.concat([[-1], tf.shape(videos)[2:]], axis=0))
        frames = tf.image.resize(frames, (self._size, self._size), "bilinear", antialias=False)
        rgb = tf.broadcast_to(frames, [tf.shape(frames)[0], self._size, self._size, 3])
        shape = tf.concat([tf.shape(videos)[:2], [self._size, self._size, 3]], axis=0)
        return self._network(tf.reshape(2.0 * rgb - 1.0, shape))


def fvd(a: np.ndarray, b: np.ndarray) -> float:
    """FVD of two sets of videos, lower is more alike.

    Args:
        a: floats ``(..., time, height, width, channel)`` in [0, 1], at least two videos of at least 9 frames, 1 (grey)
            or 3 (RGB) channels.
        b: videos of the same shape ``(time, height, width, channel)``.

    Raises:
        InputError: for other arrays, or when the weights are missing or damaged.
    """
    if np.shape(a)[-4:] != np.shape(b)[-4:]:
        raise InputError(
            "fvd needs videos of one shape (time, height, width, channel), "
            f"received {np.shape(a)[-4:]} and {np.shape(b)[-4:]}"
        )
    first, second = (_shared().features(videos) for videos in (a, b))
    return frechet_distance(*(vectors.reshape(-1, vectors.shape[-1]) for vectors in (first, second)))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of vectors, in float64.

    ``|m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` (Dowson & Landau, The Fréchet distance between multivariate
    normal distributions, 1982, equation 4) with the covariances ``S`` of divisor ``N - 1``. With ``S_a = A'A`` and
    ``S_b = B'B`` the trace of the root is the sum of the singular values of ``AB'``: no root of a matrix is taken, so
    fewer vectors than dimensions do no harm.

    Args:
        a: ``(N, D)``, at least two vectors.
        b: ``(M, D)``, at least two vectors.

    Returns:
        The distance, 0 for equal sets but for rounding; NaN where a vector has a NaN or is infinite.

    Example:
        >>> a = np.array([[-1.0, 0.0], [1.0, 0.0]])
        >>> round(frechet_distance(a, a + [3, 4]), 9), round(frechet_distance(a, 3 * a), 9)  # 3^2 + 4^2; (3 - 1)^2 S_a
        (25.0, 8.0)
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2 or a.size == 0:
        raise InputError(
            "the Fréchet distance needs two sets (N, D) of at least two vectors of one length, "
            f"received {a.shape} and {b.shape}; use more videos"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    shift = a.mean(axis=0) - b.mean(axis=0)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    overlap = np.linalg.norm(root_a @ root_b.T, "nuc")
    distance = shift @ shift + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap
    return max(0.0, float(distance))  # rounding alone makes it negative


def describe(num_videos: int, num_frames: int) -> str:
    """The conventions behind an FVD, to be printed beside it.

    Example:
        >>> describe(256, 16)
        'I3D Kinetics-400 logits, 256 videos of 16 frames, 224x224 bilinear without antialiasing, [-1, 1]'
    """
    conventions = (
        f"I3D Kinetics-400 logits, {num_videos} videos of {num_frames} frames, 224x224 bilinear without antialiasing, "
        "[-1, 1]"
    )
    few = f"; warning: below {ENOUGH_VIDEOS} videos, biased upwards" if num_videos < ENOUGH_VIDEOS else ""
    return conventions + few


def missing_weights(weights: str | Path | None = None) -> str | None:
    """Why there can be no FVD: the weights are not found or are damaged; None where they are there."""
    i3d = _i3d()
    path = i3d.weights_path() if weights is None else Path(weights)
    if not path.is_file():
        return f"skipped: I3D weights not found ({i3d.COMMAND} fetches them, 50 MB)"
    try:
        i3d.read_weights(path)
    except InputError:
        return f"skipped: I3D weights {path} are damaged ({i3d.COMMAND} fetches them again, 50 MB)"
    return None


@functools.cache
def _shared() -> VideoFeatures:
    return VideoFeatures()


def _i3d():
    """That module, imported late: it is also a program, which Python runs without complaint only if not imported."""
    from htsr.metrics import i3d

    return i3d


def _covariance_root(vectors: np.ndarray) -> np.ndarray:
    """A matrix ``R`` of at most D rows whose ``R'R`` is the covariance ``(D, D)`` of the rows of ``vectors``."""
    return np.linalg.qr((vectors - vectors.mean(axis=0)) / np.sqrt(len(vectors) - 1), mode="r")


def _checked(videos) -> np.ndarray:
    videos = np.asarray(videos)
    if videos.ndim < 4 or videos.shape[-1] not in (1, 3) or videos.size == 0:
        raise InputError(
            "fvd needs videos (..., time, height, width, channel) with 1 or 3 channels and no empty axes, received "
            f"shape {videos.shape}"
        )
    if videos.shape[-4] < MIN_FRAMES:
        raise InputError(
            f"fvd needs videos of at least {MIN_FRAMES} frames, received {videos.shape[-4]}; use longer videos"
        )
    if videos.dtype.kind != "f":
        raise InputError(f"fvd needs floats in [0, 1], received {videos.dtype}; divide bytes by 255")
    low, high = videos.min(), videos.max()
    if low < 0 or high > 1:
        raise InputError(f"fvd needs videos in [0, 1], received [{low:.4g}, {high:.4g}]; clip them first")
    return videos
