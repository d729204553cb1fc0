"""MNIST digit images in disjoint train, valid and test sets: a bundled set of 5,000, or the full set from files.

Bundled (``assets/``, see its README): the classes alternate 0 … 9, so the slices 0–3500 (train), 3500–4000 (valid) and
4000–5000 (test) are balanced and disjoint. Full: valid is the last twelfth of the training file (5,000 of 60,000),
train the digits before it, test the 10,000 of the test file.
"""

import gzip
import hashlib
import http.client
import math
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np

from htsr.errors import DAMAGE, InputError
from htsr.files import new_file

MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist")
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_BUNDLED = Path(__file__).parent / "assets" / "mnist_5k.npz"
_BUNDLED_SLICES = {"train": slice(0, 3500), "valid": slice(3500, 4000), "test": slice(4000, 5000)}
_MAX_BYTES = 64 * 1024 * 1024  # more than the largest of the files holds


class Digits(NamedTuple):
    """Digit images, uint8 (digit, 28, 28), and their classes 0 … 9, uint8 (digit,)."""

    images: np.ndarray
    labels: np.ndarray


def load_digits(split: str, datadir: str | Path | None = None, download: bool = False) -> Digits:
    """The digits of one split.

    Args:
        split: "train", "valid" or "test".
        datadir: folder with the four MNIST files (``train-images-idx3-ubyte`` …, also with ``.gz``) or Keras's
            ``mnist.npz``; None for the bundled digits.
        download: fetch the MNIST files into ``datadir`` where it has neither.

    Raises:
        InputError: the files are missing, damaged or not to be had.
    """
    if datadir is None:
        if download:
            raise InputError("download needs datadir, the folder that receives the MNIST files; name one")
        with np.load(_BUNDLED, allow_pickle=False) as file:
            return Digits(file["images"][_BUNDLED_SLICES[split]], file["labels"][_BUNDLED_SLICES[split]])
    digits = _read_file_pair(Path(datadir), "t10k" if split == "test" else "train", download)
    first_valid = len(digits.images) - len(digits.images) // 12
    part = {"train": slice(first_valid), "valid": slice(first_valid, None), "test": slice(None)}[split]
    if not len(digits.labels[part]):
        raise InputError(f"{datadir} has too few digits for a {split} split: {len(digits.images)}")
    return Digits(digits.images[part], digits.labels[part])


def _read_file_pair(folder: Path, name: str, download: bool) -> Digits:
    """All digits of the training file ("train") or the test file ("t10k")."""
    wanted = [f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"]
    keras_file = folder / "mnist.npz"
    if not all(_existing(folder, file) for file in wanted):
        if keras_file.is_file():
            return _checked(keras_file, *_read_keras(keras_file, "test" if name == "t10k" else "train"))
        if not download:
            raise InputError(
                f"datadir {folder} has no MNIST digits: expected {wanted[0]} and {wanted[1]} (or .gz), or mnist.npz;"
                " put them there, or set download, or leave datadir out to use the bundled digits"
            )
        for file in wanted:
            _download(f"{file}.gz", folder)
    paths = [_existing(folder, file) for file in wanted]
    return _checked(paths[0], _read_idx(paths[0]), _read_idx(paths[1]))


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> Digits:
    fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1]
    if not fits or images.dtype != np.uint8 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{path}: expected uint8 images (n, 28, 28) and n labels, received {images.dtype} {images.shape} and"
            f" {labels.dtype} {labels.shape}; fetch the MNIST files again"
        )
    return Digits(images, labels.astype(np.uint8))


def _read_idx(path: Path) -> np.ndarray:
    """An idx file: 0, 0, type (8: uint8), number of dimensions, the sizes as big-endian int32, the values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(_MAX_BYTES)
        if content[:3] != b"\0\0\x08":
            raise ValueError("not an idx file of bytes")
        sizes = np.frombuffer(content, ">i4", count=content[3], offset=4).tolist()
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes))
        if values.size != math.prod(sizes):
            raise ValueError(f"{values.size} values for the sizes {sizes}")
        return values.reshape(sizes)
    except DAMAGE as error:
        raise InputError(f"cannot read {path} ({error}); fetch the MNIST file again") from None


def _read_keras(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if max(member.file_size for member in file.zip.infolist()) > _MAX_BYTES:
                raise ValueError(f"an array of more than {_MAX_BYTES} bytes")
            return file[f"x_{part}"], file[f"y_{part}"]
    except DAMAGE as error:
        raise InputError(f"cannot read {path} ({error}); expected Keras's mnist.npz") from None


def _download(name: str, folder: Path) -> None:
    """Fetches one file from the first mirror that has it intact; the file appears whole or not at all."""
    failures = []
    for mirror in MIRRORS:
        print(f"downloading {mirror}/{name}", file=sys.stderr)
        try:
            with urllib.request.urlopen(f"{mirror}/{name}", timeout=30) as response:
                content = response.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256[name]:
            with new_file(folder / name, "wb") as file:
                file.write(content)
            return
        failures.append(f"{mirror}: wrong SHA-256")
    raise InputError(f"cannot download {name} ({'; '.join(failures)}); put {', '.join(SHA256)} into {folder} by hand")
