"""Bytes and values that were good, made bad; everything is drawn from one generator, so a seed gives the same again."""

import io
import json
import random
import struct
import warnings
import zipfile
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
ODD = (
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, "", " ",
    "0", "nan", "../../x", "/etc/passwd", "a\nb", "\0", "\ud800", "é", "a" * 300, [], {}, [[]], [1, 2], {"a": 1},
    {"name": []}, [None], ["\x1b[2J"], "<script>", {"": ""},
)  # fmt: skip
NAMES = (
    "../x.png", "../../../../tmp/x.npy", "/etc/passwd", "a/../../b.npy", "C:\\x.npy", "..\\x.npy", "a" * 300 + ".npy",
    "x.npy", "x.npy/", "x.NPY", ".x.npy", "__MACOSX/x.npy", "frames.npy", "manifest.json", "x\n.npy", "\u202egpj.npy",
    "1.png", "2.png", "x.mp4", "x.gif", "x.zip", "", "/", ".", "..", "archive/data.pkl", "archive/data/0",
)  # fmt: skip


def spoil(draw: random.Random, good: bytes, others: list[bytes], tokens: tuple[bytes, ...] = ()) -> bytes:
    """Return bytes with one to six damages."""
    content = bytearray(good)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        _damage(draw, content, others, tokens)
        if len(content) > 1 << 20:
            break
    return bytes(content)


def _damage(draw: random.Random, content: bytearray, others: list[bytes], tokens: tuple[bytes, ...]) -> None:
    # Headers are at the beginning, tables at the end.
    size = len(content)
    at = draw.choice((draw.randrange(size + 1), min(size, draw.randrange(64)), max(0, size - 1 - draw.randrange(64))))
    how = draw.randrange(10)
    if how == 0 and at < size:
        content[at] ^= 1 << draw.randrange(8)
    elif how == 1 and at < size:
        content[at] = draw.randrange(256)
    elif how in (2, 3):
        form = draw.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
        number = draw.choice(NUMBERS) & (256 ** struct.calcsize(form) - 1)
        content[at : at + struct.calcsize(form)] = struct.pack(form, number)
    elif how == 4:
        del content[at : at + draw.choice((1, 2, 4, 16, 256, 1 << 20))]
    elif how == 5:
        content[at:at] = content[at : at + draw.randrange(1, 64)] * draw.choice((1, 1, 2, 100))
    elif how == 6 and tokens:
        content[at:at] = draw.choice(tokens)
    elif how == 7 and tokens:
        token = draw.choice(tokens)
        content[at : at + len(token)] = token
    elif how == 8:
        other = draw.choice(others)
        start = draw.randrange(len(other) + 1)
        content[at : at + draw.randrange(1, 256)] = other[start : start + draw.randrange(1, 256)]
    else:
        content[at : at + draw.randrange(1, 64)] = bytes(draw.randrange(1, 64))


def odd_value(draw: random.Random, value: Any) -> Any:
    """Return a tree of JSON with one to three places replaced, removed, added or repeated."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _changed(draw, value, draw.random() < 0.9)
    return value


def _changed(draw: random.Random, value: Any, deeper: bool) -> Any:
    if deeper and isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        how = draw.random()
        if how < 0.1:
            del value[key]
        elif how < 0.2:
            value[str(draw.choice(ODD))] = value.pop(key)
        else:
            value[key] = _changed(draw, value[key], draw.random() < 0.9)
        return value
    if deeper and isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.2:
            value.insert(at, json.loads(json.dumps(draw.choice(ODD))))
        else:
            value[at] = _changed(draw, value[at], draw.random() < 0.9)
        return value
    return json.loads(json.dumps(draw.choice(ODD)))


def npy(draw: random.Random, header: str | None = None, content: bytes | None = None) -> bytes:
    """Return an array file whose header says what it likes."""
    shape = tuple(draw.choice((0, 1, 2, 3, 16, -1, 2**31, 2**62, 10**30, True)) for _ in range(draw.randrange(6)))
    kind = draw.choice(
        ("|u1", "<f4", ">f8", "<f2", "|O", "|S0", "<U99999999", "|V0", "<M8[ns]", "<c8", "|b1", "?", "<f16")
    )
    header = header or repr({"descr": kind, "fortran_order": draw.choice((True, False)), "shape": shape})
    header = draw.choice(
        (header, header, header[:-1], "{" * 5000, "__import__('os')", header * 2, header + " " * 70000)
    )
    version = draw.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = struct.pack(
        "<H" if version == b"\x01\x00" else "<I", min(len(header) + draw.choice((0, 0, 0, 1, -1, 500)), 65535)
    )
    body = bytes(draw.choice((0, 1, 100, 4096))) if content is None else content
    return b"\x93NUMPY" + version + size + header.encode() + body


def archive(draw: random.Random, members: dict[str, bytes]) -> bytes:
    """Return a zip archive of members under good and hostile names: as they are, damaged, packed, repeated, linked."""
    file = io.BytesIO()

    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            for _ in range(draw.choice((1, 1, 1, 0, 2))):
                info = zipfile.ZipInfo(draw.choice((name, name, name, draw.choice(NAMES) or "x")))
                info.compress_type = draw.choice(
                    (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
                )
                info.external_attr = draw.choice((0, 0, 0o120777 << 16, 0o040755 << 16))
                how = draw.random()
                if how < 0.05:
                    content = bytes(1 << 22)  # noqa: PLW2901 (a bomb: 4 MB in 4 KB)
                elif how < 0.3:
                    content = spoil(draw, content, [content])  # noqa: PLW2901
                packed.writestr(info, content)
    content = file.getvalue()
    return spoil(draw, content, [content]) if draw.random() < 0.4 else content
