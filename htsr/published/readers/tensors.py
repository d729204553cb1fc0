"""Arrays in weight files, known by shape and type before a byte of them is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from htsr.errors import InputError

MAX_AXES = 8
SAVE_AGAIN = "save the weights alone again, with torch.save(model.state_dict(), ...), or as safetensors"

# Bytes of an element. NumPy has no bfloat16: its bits are the upper half of a float32's.
SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


class Tensor(NamedTuple):
    """An array that has not been read. ``dtype`` is a key of ``SIZES``; ``read`` gives it in that type, bfloat16 as
    float32."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


class Contents(NamedTuple):
    """What a weight file holds.

    Attributes:
        tensors: by their names in the original, without what a wrapper puts in front.
        left_out: names in the file beside these.
        counters: of training, such as ``global_step`` and ``epoch``, where the file has them.
        settings: of the original's config file, if there is one.
        files: paths as given, the first one of the weights.
        chosen: the name of the set of weights that was taken, where the file holds several.
        others: the names of the other sets.
    """

    tensors: Mapping[str, Tensor]
    left_out: Sequence[str]
    counters: Mapping[str, int]
    settings: Mapping[str, Any]
    files: Sequence[Any]
    chosen: str | None = None
    others: Sequence[str] = ()


def check_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """A shape as a tuple, or the refusal of one that no weights have."""
    if len(shape) > MAX_AXES or not all(type(size) is int and 0 < size < 2**40 for size in shape):
        raise InputError(
            f"{name} has the shape {list(shape)[:12]}, which no weights have; the file is damaged or hostile"
        )
    return tuple(shape)


def decode(raw: bytes, dtype: str) -> np.ndarray:
    """Little-endian elements of a type in ``SIZES``."""
    if dtype == "bfloat16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))


def read_float32(name: str, tensor: Tensor) -> np.ndarray:
    """A tensor as float32.

    Raises:
        InputError: it is not of floats, or some of its values are not finite numbers in float32.
    """
    if "float" not in tensor.dtype:
        raise InputError(f"{name} is {tensor.dtype}, but weights are float64, float32, float16 or bfloat16")
    with np.errstate(over="ignore"):
        array = tensor.read().astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} holds values that are not finite numbers; the training went wrong, take earlier weights"
        )
    return array


def axis(tensors: Mapping[str, Tensor], name: str, index: int) -> int:
    """The size of one axis of a tensor that settles an argument of the model.

    Raises:
        InputError: there is no such tensor, or it has not as many axes.
    """
    if name not in tensors:
        raise InputError(f"{name} is missing; check which source these weights are from")
    shape = tensors[name].shape
    if not -len(shape) <= index < len(shape):
        raise InputError(f"{name} has the shape {list(shape)}, too few axes; check which source these weights are from")
    return shape[index]


def count_layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many of the names ``pattern.format(0)``, ``pattern.format(1)`` ... there are, without a gap."""
    count = 0
    while pattern.format(count) in tensors:
        count += 1
    return count


def few(names: Sequence[str]) -> str:
    """How many there are, and the first three: ``5 (a, b, c, ...)``."""
    names = sorted(names)
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} ({', '.join(name[:120] for name in names[:3])}{more})"
