"""Does a predicted digit keep its identity and its place?

    python -m benchmarks.digit_identity --logdir logs/mmnist_laptop [--horizons 1 10 100]

A classifier, trained here on the bundled training digits (half a minute), reads the digits of predicted and of true
frames. The clips are the generated test clips of the run's config, whose digits neither model nor classifier has seen;
the model predicts one future of each, the one ``eval_with_LPIPS.py`` shows.

With one digit a clip, the digit is where the frame's ink has its centre of mass, and the 28x28 pixels around that are
classified: true frames, predicted frames and the classifier's training images go through the same procedure. With
several, the 28x28 pixels at each digit's true place are classified, so a digit must be itself and in place; overlaps
cost the true frames too. A frame, or place, with next to no ink counts as wrong and as infinitely far. The classifier
is trained on sharp and on blurred digits: whether a prediction is sharp is for LPIPS and SSIM to say. Prints a table
and writes it to ``<run>/eval/digits.json``.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from htsr.checkpoints import find_run, load_run
from htsr.config import check_section, read_config
from htsr.errors import InputError, one_line_errors

SIZE = 28
CENTRE = SIZE // 2  # the centre of mass of an MNIST digit is at (14, 14), give or take half a pixel
INK = 0.1  # darker pixels neither pull at the centre nor count as ink
EMPTY = 14.0  # less ink than this is no digit: half of what the lightest training digit has
LEAST_ACCURACY = 0.97
BATCH = 16  # clips predicted at once

Classify = Callable[[np.ndarray], np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", required=True, help="run folder")
    parser.add_argument("--examples", type=int, default=256, help="clips (default: 256)")
    parser.add_argument("--context", type=int, help="context frames (default: the run's eval.context)")
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 5, 10, 20, 50, 100, 200, 300])
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")
    args = parser.parse_args()
    with one_line_errors():
        measure_run(args)
        return 0


def measure_run(args: argparse.Namespace) -> None:
    """Measure a checkpoint of a run, print the table and write it."""
    run = find_run(args.logdir)
    config = read_config(run / "config.yml")

    from htsr import environment

    environment.import_tensorflow_quietly()
    from htsr.data import load_clips
    from htsr.evaluation import SET_BY_PROGRAM, evaluate

    settings = check_section("eval", config["eval"], evaluate, reserved=SET_BY_PROGRAM)
    context = settings["context"] if args.context is None else args.context
    model, manifest = load_run(run, args.checkpoint)
    data = {**config["data"], "seq_len": context + max(args.horizons), "batch_size": BATCH}
    clips = load_clips(split="test", **data)
    check(clips, context, args.horizons, args.examples)
    classify, accuracy = train_classifier()
    if accuracy < LEAST_ACCURACY:
        raise InputError(
            f"the classifier reads only {accuracy:.1%} of the test digits, expected at least {LEAST_ACCURACY:.0%}; "
            "its verdict on predictions would mean little: train it for more epochs"
        )
    report = {
        "checkpoint": manifest["step"],
        "context": context,
        "examples": args.examples,
        "digits_per_clip": clips.source.labels(0).size,
        "classifier_accuracy": accuracy,
        "noise": settings["noise"],
        **measure(model, clips, classify, context, args.horizons, args.examples, settings["seed"], settings["noise"]),
        "environment": environment.describe(),
    }
    print(table(report))
    out = run / "eval" / "digits.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nwritten to {out}")


def check(clips, context: int, horizons: Sequence[int], examples: int) -> None:
    """Refuse, before time is spent on the classifier, what cannot be measured."""
    if not hasattr(clips.source, "labels"):
        raise InputError("these clips do not say which digits they show; use a run with data.source=generated")
    if context < 1 or min(horizons) < 1:
        raise InputError(f"context and horizons must be at least 1, received {context} and {min(horizons)}")
    clips.examples(examples)


def measure(
    model,
    clips,
    classify: Classify,
    context: int,
    horizons: Sequence[int],
    examples: int,
    seed: int = 0,
    noise: str = "sample",
) -> dict[str, Any]:
    """Compare predicted with true digits.

    Args:
        model: predicts; a ``VideoModel``, or whatever has its ``rollout_chunks``.
        clips: generated test clips of at least ``context + max(horizons)`` frames.
        classify: classes ``(image,)`` of float32 images ``(image, 28, 28)``.
        context: frames shown to the model.
        horizons: which frames after them are looked at, 1 being the first.
        examples: clips, the first ones.
        seed, noise: as in ``VideoModel.rollout``, the seed combined with a clip's index.

    Returns:
        ``context_accuracy``, that of the last context frame, and ``rows``, one a horizon: accuracy on true and on
        predicted frames (``interval``: 95 %, Wilson), the share of empty frames, median and 90th percentile of the
        distance in pixels between predicted and true centre (null: infinite), and the median distance of copying the
        last context frame. With several digits a clip there are no distances, and shares are of digits.
    """
    horizons = sorted(set(horizons))
    frames = [context - 1, *(context + horizon - 1 for horizon in horizons)]
    truth, predicted = rollouts(model, clips, context, horizons, examples, seed, noise)
    labels = np.stack([clips.source.labels(i) for i in range(examples)])
    corners = np.stack([clips.source.positions(i)[frames] for i in range(examples)], axis=1)
    last = Reading(truth[:, 0], classify, corners[0])
    rows = []
    for k, horizon in enumerate(horizons):
        true = Reading(truth[:, k + 1], classify, corners[k + 1])
        ours = Reading(predicted[:, k], classify, corners[k + 1])
        correct = ours.is_right(labels)
        rows.append(
            {
                "horizon": horizon,
                "true_accuracy": float(true.is_right(labels).mean()),
                "accuracy": float(correct.mean()),
                "interval": wilson(int(correct.sum()), correct.size),
                "empty": float(ours.empty.mean()),
            }
        )
        if labels.shape[1] == 1:
            rows[-1]["distance_median"], rows[-1]["distance_90"] = percentiles(ours.distance(true), 50, 90)
            (rows[-1]["copy_last_median"],) = percentiles(last.distance(true), 50)
    return {"context_accuracy": float(last.is_right(labels).mean()), "rows": rows}


def rollouts(model, clips, context, horizons, examples, seed, noise) -> tuple[np.ndarray, np.ndarray]:
    """True frames, the last of the context and those at the horizons, and predicted frames at the horizons.

    Both float32 ``(clip, frame, height, width)`` in [0, 1].
    """
    from htsr.evaluation import CHUNK, clip_seeds  # the futures that the evaluation shows

    truth, predicted, first = [], [], 0
    with tqdm(total=examples, desc="clips", unit="clip", disable=None) as progress:
        for clip in clips.examples(examples):
            seeds = clip_seeds(seed, range(first, first + len(clip)))
            chunks = model.rollout_chunks(clip[:, :context], max(horizons), seed=seeds, noise=noise, chunk=CHUNK)
            future, begin = [], 0
            for chunk in chunks:
                end = begin + chunk.shape[2]
                wanted = [horizon - 1 - begin for horizon in horizons if begin < horizon <= end]
                future.append(chunk[0, ..., 0][:, wanted])
                begin = end
            predicted.append(np.clip(np.concatenate(future, axis=1), 0, 1))
            truth.append(clip[..., 0][:, [context - 1, *(context + horizon - 1 for horizon in horizons)]])
            first += len(clip)
            progress.update(len(clip))
    return np.concatenate(truth), np.concatenate(predicted)


class Reading:
    """What is read from frames.

    Args:
        frames: float32 ``(frame, height, width)`` in [0, 1].
        classify: classes ``(image,)`` of images ``(image, 28, 28)``.
        corners: true (top, left) of the digits ``(frame, digit, 2)``; looked at only where there are several.

    Attributes:
        centres: of the ink, in pixels (y, x), ``(frame, 2)``; meaningless in an empty frame.
        empty, classes: ``(frame, digit)``.
    """

    def __init__(self, frames: np.ndarray, classify: Classify, corners: np.ndarray):
        num_digits = corners.shape[1]
        self.centres, ink = locate(frames)
        if num_digits == 1:
            images = crop(frames, self.centres)
        else:
            images = crop(np.repeat(frames, num_digits, axis=0), corners.reshape(-1, 2) + CENTRE)
            _, ink = locate(images)
        # A frame that is not a number has neither ink nor a class.
        self.empty = ~(ink >= EMPTY).reshape(-1, num_digits)
        self.classes = classify(np.nan_to_num(images)).reshape(-1, num_digits)

    def is_right(self, labels: np.ndarray) -> np.ndarray:
        """Whether there is a digit and it is of the class ``labels``; all ``(frame, digit)``."""
        return (self.classes == labels) & ~self.empty

    def distance(self, other: "Reading") -> np.ndarray:
        """Pixels between the centres ``(frame,)``; infinite where there is no digit."""
        distance = np.linalg.norm(self.centres - other.centres, axis=-1)
        return np.where((self.empty | other.empty)[:, 0], np.inf, distance)


def locate(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass and amount of the ink, pixels of at least ``INK``.

    Args:
        images: ``(image, height, width)`` in [0, 1].

    Returns:
        (y, x) in pixels ``(image, 2)``, (0, 0) without ink; the sum of the pixels ``(image,)``.
    """
    ink = np.where(images >= INK, images, 0).astype(np.float64)
    amount = ink.sum((1, 2))
    y, x = np.arange(ink.shape[1]), np.arange(ink.shape[2])
    moments = np.stack([ink.sum(2) @ y, ink.sum(1) @ x], axis=-1)
    return moments / np.maximum(amount, INK)[:, None], amount


def crop(images: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The 28x28 pixels around a point (y, x) of each image; black beyond its edges."""
    padded = np.pad(images, [(0, 0), (SIZE, SIZE), (SIZE, SIZE)])
    corners = np.rint(np.nan_to_num(centres)).astype(int) - CENTRE + SIZE
    return np.stack([p[y : y + SIZE, x : x + SIZE] for p, (y, x) in zip(padded, corners, strict=True)])


def train_classifier(epochs: int = 24, batch_size: int = 64, seed: int = 0) -> tuple[Classify, float]:
    """Train a small convolutional network on the bundled training digits.

    Returns:
        The classifier, and its accuracy on the bundled test digits.
    """
    import keras
    from keras import layers

    from htsr.data.mnist_digits import load_digits

    def block(filters: int, stride: int) -> list[layers.Layer]:
        padding = "valid" if stride == 1 else "same"
        convolution = layers.Conv2D(filters, 3, stride, padding, use_bias=False)
        return [convolution, layers.BatchNormalization(), layers.ReLU()]

    (images, labels), test = load_digits("train"), load_digits("test")
    images, test_images = centred(images), centred(test.images)
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    steps = epochs * (len(images) // batch_size)
    network = keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 1)),
            *block(16, 1),
            *block(24, 2),
            *block(48, 1),
            *block(64, 2),
            *block(64, 1),
            *(layers.Flatten(), layers.Dropout(0.4), layers.Dense(10)),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    network.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.concatenate([rng.permutation(len(images))[: steps // epochs * batch_size] for _ in range(epochs)])
    for batch in tqdm(order.reshape(steps, batch_size), desc="classifier", unit="step", disable=None):
        network.train_on_batch(augment(images[batch], rng)[..., None], labels[batch])

    def classify(images: np.ndarray) -> np.ndarray:
        return keras.ops.convert_to_numpy(network(images[..., None], training=False)).argmax(-1)

    return classify, float((classify(test_images) == test.labels).mean())


def centred(digits: np.ndarray) -> np.ndarray:
    """uint8 digits ``(digit, 28, 28)`` as they are cut out of a frame, float32."""
    images = digits / np.float32(255)
    return crop(images, locate(images)[0])


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random shift (2 pixels), rotation (10 degrees), scale and shear (0.12), brightness and blur (2 pixels)."""
    import cv2

    warped = []
    for image in images:
        y, x, angle, scale, shear = rng.uniform(-1, 1, 5) * [2, 2, math.radians(10), 0.12, 0.12]
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = (1 + scale) * turn @ [[1, shear], [0, 1]]
        shift = [CENTRE + x, CENTRE + y] - matrix @ [CENTRE, CENTRE]
        digit = rng.uniform(0.5, 1) * cv2.warpAffine(image, np.c_[matrix, shift], (SIZE, SIZE))
        blur = rng.uniform(-2, 2)  # half of the images stay sharp
        warped.append(cv2.GaussianBlur(digit, (0, 0), blur) if blur > 0.3 else digit)
    return np.stack(warped).astype(np.float32)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which holds near 0 and 1 as well.

    Example:
        >>> [round(bound, 3) for bound in wilson(90, 100)]
        [0.826, 0.945]
    """
    z, share = 1.96, successes / trials
    middle = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z**2 / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def percentiles(values: np.ndarray, *percents: float) -> list[float | None]:
    """Values of the sample itself, so that infinite ones do no harm; None for infinity, which JSON lacks."""
    found = np.percentile(values, percents, method="inverted_cdf")
    return [float(value) if math.isfinite(value) else None for value in found]


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    single = report["digits_per_clip"] == 1
    heads = ["horizon", "true frames", "predicted frames", "empty"]
    heads += ["distance: median", "90 %", "copying: median"] if single else []
    lines = [heads]
    for row in report["rows"]:
        low, high = row["interval"]
        accuracy = f"{row['accuracy']:.1%} [{low:.1%}, {high:.1%}]"
        cells = [str(row["horizon"]), f"{row['true_accuracy']:.1%}", accuracy, f"{row['empty']:.1%}"]
        if single:
            distances = [row["distance_median"], row["distance_90"], row["copy_last_median"]]
            cells += ["no digit" if distance is None else f"{distance:.1f} px" for distance in distances]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    what = "at the centre of the frame's ink" if single else "at their true places"
    return "\n".join(
        [
            f"digits recognised {what} [95 % Wilson interval]: {report['examples']} clips, {report['context']} context "
            f"frames, checkpoint {report['checkpoint']}",
            *("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines),
            f"last context frame {report['context_accuracy']:.1%}; classifier on test digits "
            f"{report['classifier_accuracy']:.1%}; chance 10 %",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
