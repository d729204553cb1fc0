"""PyTorch's files: the archive of today, and the format before version 1.6. PyTorch is not needed.

Both are a pickle that describes tensors, and storages: plain numbers. Of neither is anything run (``torch_pickle``),
and of the storages only what a model needs is read.
"""

import contextlib
import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from htsr.errors import DAMAGE, InputError, out_of_reach
from htsr.published.readers.tensors import MAX_AXES, SAVE_AGAIN, SIZES, Tensor, check_shape, decode
from htsr.published.readers.torch_pickle import MAX_BYTES, MAX_NAME, Name, Placeholder, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_MAX_MEMBERS = 200_000

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class _Storage(NamedTuple):
    """Numbers in a row; ``read`` gives their bytes."""

    dtype: str
    size: int
    read: Callable[[], bytes]


def read_torch(path: Path) -> Any:
    """What ``torch.save`` wrote: dicts, lists and numbers, with a ``Tensor`` for each tensor.

    Raises:
        InputError: it is no such file, is damaged, or holds what weights do not need.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    with _refusals(path):
        return _read_archive(path) if start == b"PK\x03\x04" else _read_legacy(path)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What Python's own reader of archives raises for bytes that are none, as refusals of the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except DAMAGE as error:
        if out_of_reach(error):
            raise
        raise InputError(f"{path} is damaged or cut off ({str(error)[:100]}); fetch it again") from None


def _refusing(path: Path, read: Callable[[], bytes]) -> Callable[[], bytes]:
    def refusing() -> bytes:
        with _refusals(path):
            return read()

    return refusing


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [m for m in members if m.filename.count("/") == 1 and m.filename.endswith("/data.pkl")]
        if len(members) > _MAX_MEMBERS or len(pickles) != 1:
            raise InputError(f"an archive, but not one of torch.save; {SAVE_AGAIN}")
        root = pickles[0].filename.rpartition("/")[0]
        if f"{root}/byteorder" in archive.namelist() and _member(path, f"{root}/byteorder", 16) != b"little":
            raise InputError(f"written on a big-endian machine; {SAVE_AGAIN} on another one")
        description = _member(path, pickles[0].filename, MAX_BYTES)
        sizes = {m.filename: m.file_size for m in members}

    def storage(identity) -> Any:
        dtype, key, size = _identified(identity)
        name = f"{root}/data/{key}"
        if dtype is None:
            return Placeholder("storage")
        if name not in sizes:
            raise InputError(f"storage {str(key)[:40]} is missing; fetch the file again")
        if sizes[name] != size * SIZES[dtype]:
            raise InputError(
                f"storage {str(key)[:40]} has {sizes[name]} bytes, but {size} numbers of {dtype} are said to be in it"
            )
        return _Storage(dtype, size, _refusing(path, lambda: _member(path, name, sizes[name])))

    return read_pickle(io.BytesIO(description), storage, _tensor)


def _member(path: Path, name: str, most: int) -> bytes:
    """A member of an archive, which must lie in it as it is: a small compressed one could fill the memory."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise InputError(f"its part {name[:60]} is compressed, which torch.save never does; {SAVE_AGAIN}")
        if info.file_size > min(most, path.stat().st_size):
            raise InputError(
                f"its part {name[:60]} is said to have {info.file_size} bytes, more than it can; {SAVE_AGAIN}"
            )
        with archive.open(info) as member:
            return member.read(info.file_size + 1)


def _read_legacy(path: Path) -> Any:
    """Five pickles (magic number, version, machine, the object, keys of storages), then the storages."""
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(MAX_BYTES))
    storages: dict[str, tuple[str, int]] = {}
    places: dict[str, int] = {}

    def storage(identity) -> Any:
        dtype, key, size = _identified(identity)
        if dtype is None:
            return Placeholder("storage")
        if identity[5:] not in ((), (None,)):
            raise InputError(f"storages that are parts of others; {SAVE_AGAIN}")
        if storages.setdefault(key, (dtype, size)) != (dtype, size):
            raise InputError(f"storage {str(key)[:40]} is described twice, and differently; fetch the file again")
        return _Storage(dtype, size, _refusing(path, lambda: _read_at(path, places[key], size * SIZES[dtype])))

    def pickle() -> Any:
        return read_pickle(head, storage, _tensor)

    try:
        known = (pickle(), pickle()) == (MAGIC, PROTOCOL)
    except InputError:
        known = False
    if not known:
        raise InputError(f"neither a file of torch.save nor safetensors; {SAVE_AGAIN}")
    machine = pickle()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise InputError(f"written on a big-endian machine; {SAVE_AGAIN} on another one")
    found, keys = pickle(), pickle()
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or sorted(keys) != sorted(storages):
        raise InputError("its list of storages is not that of its tensors; fetch the file again")
    place, end = head.tell(), path.stat().st_size
    for key in keys:
        dtype, size = storages[key]
        (stored,) = struct.unpack("<q", _read_at(path, place, 8))
        if stored != size:
            raise InputError(f"storage {str(key)[:40]} has {stored} numbers, but {size} are said to be in it")
        places[key], place = place + 8, place + 8 + size * SIZES[dtype]
        if place > end:
            raise InputError("cut off; fetch the file again")
    return found


def _read_at(path: Path, place: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(place)
        raw = file.read(size)
    if len(raw) != size:
        raise InputError("cut off; fetch the file again")
    return raw


def _identified(identity: Any) -> tuple[str | None, str, int]:
    """Type, key and length of a storage, from its persistent id; the type is None where it is not one of ours."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise InputError(f"a whole model and not its weights; {SAVE_AGAIN}")
    _, kind, key, _, size = identity[:5]
    named = isinstance(kind, Name) and isinstance(key, str) and len(key) <= MAX_NAME
    if not named or type(size) is not int or not 0 <= size < 2**50:
        raise InputError("its description of storages is damaged; fetch the file again")
    return _STORAGES.get(kind.name), key, size


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> Any:
    """A tensor, once it is certain that it lies inside of its storage and reads no element twice."""
    if not isinstance(storage, _Storage):
        return Placeholder("tensor")
    if len(shape) <= MAX_AXES and 0 in shape:
        return Placeholder("empty tensor")
    shape = check_shape("a tensor", shape)
    if len(stride) != len(shape) or not all(type(n) is int and 0 <= n < 2**50 for n in (offset, *stride)):
        raise InputError("a tensor's strides are damaged; fetch the file again")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if count > storage.size or last >= storage.size:
        raise InputError(f"a tensor of shape {list(shape)} does not lie in its storage of {storage.size} numbers")

    def read() -> np.ndarray:
        flat = decode(storage.read(), storage.dtype)
        strides = [step * flat.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, strides, writeable=False).copy()

    return Tensor(shape, storage.dtype, read)
