"""LPIPS v0.1 with AlexNet, with bundled weights.

Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018 (arXiv 1801.03924), eq. 1.
The network is torchvision's AlexNet up to its fifth ReLU; weights are stored as float16 (licences beside them), which
moves the distance by less than 1e-4. Frames are not resized.
"""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from htsr.errors import InputError
from htsr.metrics.weights import read_weights

WEIGHTS = Path(__file__).parent / "assets" / "lpips_alex_v0.1_float16.npz"
WEIGHTS_SHA256 = "fc84e5bc36c49c807284ff1f6079b791ce40f1b382a1493ff1fab1fb4a00feb3"
MIN_SIZE = 31  # below that nothing is left after the second pooling
_BLOCK_PIXELS = 2**20  # frames are processed in blocks of this many pixels (256 frames of 64x64)

_MEAN, _STDDEV = np.float32([-0.030, -0.088, -0.188]), np.float32([0.458, 0.448, 0.450])
# (stride, zero padding, 3x3 max pooling before it) of the five convolutions
_CONVOLUTIONS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))


def lpips(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """LPIPS distance of frames, lower is more alike.

    Args:
        a: floats ``(..., height, width, channel)`` in [0, 1], 1 (grey) or 3 (RGB) channels, at least 31x31 pixels.
        b: the same shape.

    Returns:
        float32 ``(...)``.

    Raises:
        InputError: for other arrays, or when the bundled weights are missing or damaged.

    Example:
        >>> float(lpips(np.zeros((64, 64, 1)), np.zeros((64, 64, 1))))
        0.0
    """
    if np.shape(a) != np.shape(b):
        raise InputError(f"lpips needs two arrays of one shape, received {np.shape(a)} and {np.shape(b)}")
    network = shared_network()
    return network.distance(network.features(a), network.features(b))


class LPIPS:
    """LPIPS in two steps, so that the features of one truth serve every prediction compared with it.

    The unit-normalised activations, scaled by the square roots of the linear weights over the number of positions, are
    one vector per frame; LPIPS is the squared Euclidean distance of two such vectors.

    Args:
        weights: path of the weights; the bundled ones by default.

    Raises:
        InputError: when the weights are missing or are not the published ones.
    """

    def __init__(self, weights: str | Path = WEIGHTS):
        arrays = read_weights(Path(weights), WEIGHTS_SHA256, "LPIPS")
        # Tensors of no graph, and no variables: a network may be made anywhere, and no scope of Keras's changes it.
        with tf.init_scope():
            self._layers = [
                [tf.constant(arrays[name]) for name in (f"conv{i}/kernel", f"conv{i}/bias", f"lin{i}/weight")]
                for i in range(1, len(_CONVOLUTIONS) + 1)
            ]
        self._graph = tf.function(self.embed, reduce_retracing=True, jit_compile=False)

    def features(self, frames: np.ndarray, check_range: bool = True) -> np.ndarray:
        """Map frames ``(..., height, width, channel)`` in [0, 1] to vectors, float32 ``(..., units)``.

        ``check_range=False`` lets other values pass, which some projects score (``htsr.metrics.conventions``).
        """
        frames = _checked(frames, check_range)
        flat = frames.reshape(-1, *frames.shape[-3:])
        block = max(1, _BLOCK_PIXELS // (flat.shape[1] * flat.shape[2]))
        pieces = [self._graph(tf.constant(flat[i : i + block])).numpy() for i in range(0, len(flat), block)]
        vectors = np.concatenate(pieces)
        vectors[np.isnan(flat.max(axis=(1, 2, 3)))] = np.nan  # TensorFlow's ReLU may turn NaN into 0
        return vectors.reshape(*frames.shape[:-3], -1)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """LPIPS from two arrays of features ``(..., units)``, whose leading axes are broadcast: float32 ``(...)``."""
        difference = np.subtract(a, b)
        return np.linalg.vecdot(difference, difference)

    def embed(self, frames: tf.Tensor) -> tf.Tensor:
        """Map frames ``(batch, height, width, channel)`` in [0, 1] to vectors ``(batch, units)``, differentiably."""
        rgb = tf.tile(frames, [1, 1, 1, 3]) if frames.shape[-1] == 1 else frames
        taps = self._network(2.0 * rgb - 1.0)
        return tf.concat([tf.reshape(tap, [tf.shape(tap)[0], -1]) for tap in taps], axis=-1)

    def _network(self, rgb: tf.Tensor) -> list[tf.Tensor]:
        """RGB ``(batch, height, width, 3)`` in [-1, 1] to the five scaled taps."""
        x, taps = (rgb - _MEAN) / _STDDEV, []
        for (stride, padding, pooled), (kernel, bias, lin) in zip(_CONVOLUTIONS, self._layers, strict=True):
            if pooled:
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            x = tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, stride, "VALID") + bias)
            taps.append(_scaled_unit(x, lin))
        return taps


@functools.cache
def shared_network() -> LPIPS:
    """The one network of a process."""
    return LPIPS()


def _scaled_unit(activation, lin) -> tf.Tensor:
    """Unit-normalise over channels, times ``sqrt(lin / positions)``: squared differences then sum up to LPIPS."""
    positions = tf.cast(tf.shape(activation)[1] * tf.shape(activation)[2], tf.float32)
    # A root of zero has no gradient.
    norm = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(activation), -1, keepdims=True), 1e-30))
    return activation / (norm + 1e-10) * tf.sqrt(lin) * tf.math.rsqrt(positions)  # lin is not negative


def _checked(frames, check_range: bool) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim < 3 or frames.shape[-1] not in (1, 3) or frames.size == 0:
        raise InputError(
            f"lpips needs frames (..., height, width, channel) with 1 or 3 channels, received shape {frames.shape}"
        )
    if min(frames.shape[-3:-1]) < MIN_SIZE:
        height, width = frames.shape[-3:-1]
        raise InputError(
            f"lpips needs frames of at least {MIN_SIZE}x{MIN_SIZE} pixels, received {height}x{width}; use larger frames"
        )
    if frames.dtype.kind != "f":
        raise InputError(f"lpips needs floats in [0, 1], received {frames.dtype}; divide bytes by 255")
    low, high = frames.min(), frames.max()
    if check_range and (low < 0 or high > 1):
        raise InputError(f"lpips needs frames in [0, 1], received [{low:.4g}, {high:.4g}]; clip them first")
    return frames.astype(np.float32)
