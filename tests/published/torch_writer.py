"""Files as torch.save writes them, of NumPy arrays and without PyTorch, and files that it would never write."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}
PROTO, STOP = b"\x80\x02", b"."


class Raw(bytes):
    """Opcodes to be taken as they are."""


def name(module: str, attribute: str) -> Raw:
    return Raw(f"c{module}\n{attribute}\n".encode())


def call(function: bytes, *arguments: Any) -> Raw:
    return Raw(function + encode(tuple(arguments), {}) + b"R")


def persistent(*identity: Any) -> Raw:
    return Raw(encode(tuple(identity), {}) + b"Q")


def tensor(storage: bytes, shape, stride, offset=0) -> Raw:
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, storage, offset, tuple(shape), tuple(stride), False, call(name("collections", "OrderedDict")))


def encode(value: Any, storages: dict[str, np.ndarray], legacy: bool = False) -> bytes:
    """The opcodes of a value; arrays go to ``storages``."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, np.ndarray):
        key = str(len(storages))
        storages[key] = value
        kind = name("torch", STORAGES[value.dtype.name])
        view = (None,) if legacy else ()
        storage = persistent("storage", kind, key, "cpu", value.size, *view)
        strides = [n // value.itemsize for n in value.copy().strides]
        return tensor(storage, value.shape, strides)
    if isinstance(value, dict):
        items = b"".join(encode(part, storages, legacy) for pair in value.items() for part in pair)
        return b"}(" + items + b"u"
    if isinstance(value, tuple | list):
        items = b"".join(encode(part, storages, legacy) for part in value)
        return b"(" + items + b"t" if isinstance(value, tuple) else b"](" + items + b"e"
    return _plain(value)


def _plain(value: str | bool | int | None) -> bytes:
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bool | None):
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def save(path: Path, value: Any, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """As torch.save since version 1.6. ``members`` are put in place of storages."""
    storages: dict[str, np.ndarray] = {}
    description = PROTO + encode(value, storages) + STOP
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", description)
        archive.writestr("archive/byteorder", "little")
        contents = {key: np.ascontiguousarray(array).tobytes() for key, array in storages.items()} | members
        for key, content in contents.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return path


def save_legacy(path: Path, value: Any, magic: int = 0x1950A86A20F9469CFC6C) -> Path:
    """As torch.save before version 1.6."""
    storages: dict[str, np.ndarray] = {}
    description = encode(value, storages, legacy=True)
    machine = {"protocol_version": 1001, "little_endian": True}
    parts = [encode(part, {}) for part in (magic, 1001, machine)] + [description, encode(list(storages), {})]
    content = b"".join(PROTO + part + STOP for part in parts)
    for array in storages.values():
        content += struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes()
    path.write_bytes(content)
    return path
