"""The safetensors format: the length of a JSON header, the header, and numbers. That package is not needed."""

import itertools
import json
import math
import struct
from pathlib import Path
from typing import Any

from htsr.errors import InputError
from htsr.published.readers.tensors import SIZES, Tensor, check_shape, decode

MAX_HEADER = 1 << 24

_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one: with a length, then a JSON object."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        InputError: the header is damaged, or what it describes does not lie in the file, or lies there twice.
    """
    length = path.stat().st_size
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > min(MAX_HEADER, length - 8):
            raise InputError(f"{path}: a header of {size} bytes, more than it can have; fetch the file again")
        raw = file.read(size)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        found = {name: _tensor(path, name, about, 8 + size, length) for name, about in header.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged ({str(error)[:100]}); fetch the file again") from None
    spans = sorted(about["data_offsets"] for about in header.values())
    if any(begin < end for (_, end), (begin, _) in itertools.pairwise(spans)):
        raise InputError(f"{path}: tensors lie on top of each other; the file is damaged or hostile")
    return found


def _tensor(path: Path, name: str, about: dict[str, Any], start: int, length: int) -> Tensor:
    shape, (begin, end) = check_shape(name, about["shape"]), about["data_offsets"]
    dtype = _TYPES.get(about["dtype"])
    if dtype is None:
        raise InputError(f"{name} is of the type {str(about['dtype'])[:20]}; expected one of {', '.join(_TYPES)}")
    inside = type(begin) is int and type(end) is int and 0 <= begin <= end <= length - start
    if not inside or end - begin != math.prod(shape) * SIZES[dtype]:
        raise InputError(f"{name} of shape {list(shape)} does not fit the {end - begin} bytes it is given, or the file")

    def read():
        with open(path, "rb") as file:
            file.seek(start + begin)
            return decode(file.read(end - begin), dtype).reshape(shape)

    return Tensor(shape, dtype, read)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found
