"""Weights that come with the package."""

import hashlib
import io
from pathlib import Path

import numpy as np

from htsr.errors import InputError


def read_weights(path: Path, sha256: str, what: str) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name, float32.

    Args:
        path: of the file.
        sha256: what its digest has to be.
        what: whose weights they are, for messages.

    Raises:
        InputError: the file is missing or is not the published one.
    """
    if not path.is_file():
        raise InputError(f"{what} weights not found: expected {path}; reinstall the package, which bundles them")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{what} weights {path} are damaged: expected SHA-256 {sha256}; reinstall the package")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}
