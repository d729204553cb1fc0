"""MNIST digit images, split into disjoint train, valid and test sets: a bundled set of 5,000, or the full set from files.

Bundled (``assets/``, see its README): classes alternate 0 … 9, so the slices 0–3500 (train), 3500–4000 (valid) and
4000–5000 (test) are balanced and disjoint. Full: train is the first 55,000 of the 60,000 training digits, valid the last
5,000, test the 10,000 test digits.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

BUNDLED = Path(__file__).parent / "assets" / "mnist_5k.npz"
_BUNDLED_SLICES = {"train": slice(0, 3500), "valid": slice(3500, 4000), "test": slice(4000, 5000)}


class Digits(NamedTuple):
    """Digit images, uint8 (digit, 28, 28), and their classes 0 … 9, uint8 (digit,)."""

    images: np.ndarray
    labels: np.ndarray


def bundled_digits(split: str) -> Digits:
    """The digits of one split of the set that comes with the package."""
    with np.load(BUNDLED, allow_pickle=False) as file:
        return Digits(file["images"][_BUNDLED_SLICES[split]], file["labels"][_BUNDLED_SLICES[split]])
