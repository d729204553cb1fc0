"""Train the two networks that read the digits of Moving MNIST frames, and write their weights into the package.

    python -m benchmarks.train_digit_classifier

All is learnt from the bundled training digits, in a few minutes. The classifier sees single digits; the detector sees
frames of none to five, which overlap as chance has it, and some of which are averages of two digits, as an uncertain
model predicts them. Both see sharp and blurred ones. Weights are stored as float16, batch normalisation folded into the
convolutions. Prints the accuracy on the test digits and the SHA-256, which belongs into ``htsr.metrics.digits``. The
same machine writes the same file; another one rounds differently.
"""

import hashlib
import math
import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from htsr.runs import environment

CANVASES = (48, 64, 80)  # pixels
PEAK_STDDEV = 1.5  # pixels: how wide the detector marks a digit's centre
BLENDED = 0.25  # share of the detector's digits that are an average of two


def main() -> int:
    environment.import_tensorflow_quietly()
    import tensorflow as tf

    from htsr.metrics.digits import WEIGHTS

    tf.config.experimental.enable_op_determinism()
    write(WEIGHTS, classifier=train_classifier(), detector=train_detector())
    print(f"{WEIGHTS}: SHA-256 {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}")
    return 0


def write(path, **networks) -> None:
    """Write the networks' weights as float16, ``<network>/<index of the weight>``."""
    arrays = {
        f"{name}/{i}": weight.astype(np.float16)
        for name, network in networks.items()
        for i, weight in enumerate(network.get_weights())
    }
    np.savez(path, **arrays)


def train_classifier(epochs: int = 24, batch_size: int = 64, seed: int = 0):
    """Train a ``build_classifier`` network and print its accuracy on the bundled test digits."""
    import keras
    from keras import layers

    from htsr.data.mnist_digits import load_digits
    from htsr.metrics.digits import CLASSIFIER, SIZE

    def block(filters: int, stride: int) -> list[layers.Layer]:
        padding = "valid" if stride == 1 else "same"
        convolution = layers.Conv2D(filters, 3, stride, padding, use_bias=False)
        return [convolution, layers.BatchNormalization(), layers.ReLU()]

    (images, labels), test = load_digits("train"), load_digits("test")
    images, test_images = centred(images), centred(test.images)
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    steps = epochs * (len(images) // batch_size)
    blocks = [layer for filters, stride in CLASSIFIER for layer in block(filters, stride)]
    head = [layers.Flatten(), layers.Dropout(0.4), layers.Dense(10)]
    network = keras.Sequential([layers.Input((SIZE, SIZE, 1)), *blocks, *head])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    network.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.concatenate([rng.permutation(len(images))[: steps // epochs * batch_size] for _ in range(epochs)])
    for batch in tqdm(order.reshape(steps, batch_size), desc="classifier", unit="step", disable=None):
        network.train_on_batch(augment(images[batch], rng)[..., np.newaxis], labels[batch])
    network = folded(network)
    classes = network.predict(test_images[..., np.newaxis], verbose=0).argmax(axis=-1)
    print(f"the classifier reads {(classes == test.labels).mean():.1%} of the test digits")
    return network


def folded(network):
    """A trained classifier as ``build_classifier`` builds it: normalisation is part of kernels and biases."""
    import keras

    from htsr.metrics.digits import build_classifier

    weights = []
    for convolution, norm in zip(network.layers[:-1], network.layers[1:], strict=True):
        if isinstance(norm, keras.layers.BatchNormalization):
            (kernel,), (gamma, beta, mean, variance) = convolution.get_weights(), norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            weights += [kernel * scale, beta - mean * scale]
    plain = build_classifier()
    plain.set_weights([*weights, *network.layers[-1].get_weights()])
    return plain


def train_detector(steps: int = 4000, batch_size: int = 32, seed: int = 0):
    """Train a ``build_detector`` network."""
    import keras

    from htsr.data.mnist_digits import load_digits
    from htsr.metrics.digits import build_detector

    images = centred(load_digits("train").images)
    keras.utils.set_random_seed(seed)
    network = build_detector()
    *weights, bias = network.get_weights()
    network.set_weights([*weights, bias - 4])  # nearly no pixel is a centre
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    network.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    batches = scenes(images, batch_size, np.random.default_rng(seed))
    for _ in tqdm(range(steps), desc="detector", unit="step", disable=None):
        network.train_on_batch(*next(batches))
    return network


def scenes(images: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless batches of frames and of where their digits' centres are, both ``(frame, height, width, 1)``."""
    from htsr.metrics.digits import CENTRE, MAX_DIGITS, SIZE

    while True:
        size = rng.choice(CANVASES)
        frames = np.zeros((batch_size, size, size), np.float32)
        marks = np.zeros_like(frames)
        for frame, mark in zip(frames, marks, strict=True):
            count = rng.integers(MAX_DIGITS + 1)
            digits, others = augment(images[rng.integers(len(images), size=(2, count))], rng, shift=0)
            share = np.where(rng.random(count) < BLENDED, rng.uniform(0, 0.5, count), 0)[:, np.newaxis, np.newaxis]
            corners = rng.integers(size - SIZE + 1, size=(count, 2))
            for digit, (top, left) in zip((1 - share) * digits + share * others, corners, strict=True):
                target = frame[top : top + SIZE, left : left + SIZE]
                np.maximum(target, digit, out=target)
                y, x = (np.exp(-0.5 * ((np.arange(size) - c - CENTRE) / PEAK_STDDEV) ** 2) for c in (top, left))
                np.maximum(mark, np.outer(y, x), out=mark)
        yield frames[..., np.newaxis], marks[..., np.newaxis]


def centred(digits: np.ndarray) -> np.ndarray:
    """uint8 digits ``(digit, 28, 28)`` as they are cut out of a frame, float32."""
    from htsr.metrics.digits import crop, locate

    images = digits / np.float32(255)
    return crop(images, locate(images)[0][:, np.newaxis])[:, 0]


def augment(images: np.ndarray, rng: np.random.Generator, shift: float = 2) -> np.ndarray:
    """Random shift (pixels), rotation (10 degrees), scale and shear (0.12), brightness and blur (2 pixels)."""
    import cv2

    from htsr.metrics.digits import CENTRE, SIZE

    warped = np.empty_like(images)
    for index in np.ndindex(images.shape[:-2]):
        y, x, angle, scale, shear = rng.uniform(-1, 1, 5) * [shift, shift, math.radians(10), 0.12, 0.12]
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = (1 + scale) * turn @ [[1, shear], [0, 1]]
        offset = [CENTRE + x, CENTRE + y] - matrix @ [CENTRE, CENTRE]
        digit = rng.uniform(0.5, 1) * cv2.warpAffine(images[index], np.c_[matrix, offset], (SIZE, SIZE))
        blur = rng.uniform(-2, 2)  # half of the images stay sharp
        warped[index] = cv2.GaussianBlur(digit, (0, 0), blur) if blur > 0.3 else digit
    return warped


if __name__ == "__main__":
    sys.exit(main())
