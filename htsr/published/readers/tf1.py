"""Checkpoints of TensorFlow 1, and the config that the original HTSR and Clockwork VAE programs write beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from htsr.config import read_plain
from htsr.errors import InputError
from htsr.files import require_utf8
from htsr.published.readers.tensors import SIZES, Contents, Tensor, check_shape, few

CONFIG = "config.yml"
# What TensorFlow raises for damaged files.
_REFUSALS = (tf.errors.OpError, IndexError, MemoryError, RuntimeError, UnicodeError)


def read_checkpoint(path: Path, signature: Sequence[str], source: str) -> Contents:
    """The variables of a checkpoint, optimiser's slots among them.

    Args:
        path: its folder, or the file up to or with ``.index``.
        signature: names that every checkpoint of the source has.
        source: its name, for messages.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or of another model.
    """
    prefix = _prefix(path)
    data = sorted(prefix.parent.glob(f"{prefix.name}.data-*-of-*"))
    if not data:
        raise InputError(f"{prefix}.data-00000-of-00001 is missing; a checkpoint is an .index and its .data files")
    try:
        reader = tf.train.load_checkpoint(require_utf8(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except _REFUSALS as error:
        raise InputError(f"{prefix}.index is damaged or cut off ({_short(error)}); fetch it again") from None
    if not all(name in shapes for name in signature):
        raise InputError(
            f"{prefix} is no checkpoint of {source}: they have variables such as {' and '.join(signature)}, and it has "
            f"{few(list(shapes))}; check --from"
        )
    total = sum(part.stat().st_size for part in data)
    tensors = {}
    for name, shape in shapes.items():
        if dtypes[name].name not in SIZES:
            continue
        tensor = Tensor(check_shape(name, shape), dtypes[name].name, _reading(reader, prefix, name))
        if tensor.num_bytes > total:
            raise InputError(f"{name} has the shape {list(shape)}, more than the {total} bytes of {data[0].name} hold")
        tensors[name] = tensor
    counters = {
        name: int(tensors[variable].read())
        for name, variable in (("step", "step"), ("iterations", "optimizer/Adam/iter"))
        if variable in tensors and tensors[variable].shape == () and "int" in tensors[variable].dtype
    }
    wrong = [f"{name} {count}" for name, count in counters.items() if not 0 <= count < 2**31]
    if wrong:
        raise InputError(f"{prefix}: it says that training has done {wrong[0]}; the file is damaged")
    above = [prefix.parent.parent] if prefix.parent.name.startswith("model") else []
    configs = [folder / CONFIG for folder in (prefix.parent, *above) if (folder / CONFIG).is_file()][:1]
    settings = read_plain(configs[0]) if configs else {}
    left_out = [name for name in shapes if name not in tensors]
    return Contents(tensors, left_out, counters, settings, [prefix.with_name(f"{prefix.name}.index"), *data, *configs])


def _reading(reader, prefix: Path, name: str):
    def read() -> np.ndarray:
        try:
            return np.asarray(reader.get_tensor(name))
        except _REFUSALS as error:
            raise InputError(f"{prefix}: {name} is damaged or cut off ({_short(error)}); fetch it again") from None

    return read


def _prefix(path: Path) -> Path:
    """What the names of a checkpoint's files begin with."""
    if path.is_dir():
        found = sorted(path.glob("*.index")) or sorted(path.glob("model/*.index"))  # below the folder of a training
        if len(found) != 1:
            raise InputError(f"{path} holds {len(found)} checkpoints (*.index); give the path of one of them")
        path = found[0]
    prefix = path.with_suffix("") if path.suffix == ".index" or ".data-" in path.suffix else path
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise InputError(f"{prefix}.index does not exist; give a checkpoint's folder, or its path without suffix")
    return prefix


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
