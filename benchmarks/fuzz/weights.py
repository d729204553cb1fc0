"""Weight files of others."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz.spoil import archive, odd_value, spoil
from benchmarks.fuzz.table import target, written


@target
def safetensors():
    """Weight files of safetensors."""
    from htsr.published.readers.state_dict import read_state_dict

    header = {"__metadata__": {"a": "b"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header["v"] = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}

    def read(draw):
        raw = json.dumps(odd_value(draw, header) if draw.random() < 0.7 else header).encode("utf-8", "surrogatepass")
        content = struct.pack("<Q", len(raw)) + raw + bytes(range(32))
        content = spoil(draw, content, [content]) if draw.random() < 0.4 else content
        _read_all(read_state_dict(written("w.safetensors", content), ["w"], "x"))

    return read


@target
def torch():
    """Weight files of PyTorch, of both formats."""
    import torch_writer

    from htsr.published.readers.state_dict import read_state_dict

    tree = {"state_dict": {"w": np.float32([[1, 2], [3, 4]]), "v": np.arange(3)}, "epoch": 3}
    torch_writer.save(Path("a.pt"), tree)
    torch_writer.save_legacy(Path("b.pt"), tree)
    goods = [Path("a.pt").read_bytes(), Path("b.pt").read_bytes()]
    with zipfile.ZipFile("a.pt") as file:
        members = {name: file.read(name) for name in file.namelist()}
    tokens = (
        b"cos\nsystem\n", b"c__builtin__\neval\n", b"R", b"Q", b"(", b"t", b"}", b"u", b"s", b".", b"\x80\x02",
        b"\x80\x05", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", b"q\x00", b"h\x00", b"2" * 50, b"(" * 200, b"lll",
        b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"U\x05", b"\x8a\x10", b"b", b"o", b"i", b"\x93", b"\x94",
        b"j\xff\xff\xff\xff",
    )  # fmt: skip

    def read(draw):
        if draw.random() < 0.5:
            content = spoil(draw, draw.choice(goods), goods, tokens)
        else:  # the pickle inside is damaged, and the archive whole
            inner = {**members, "archive/data.pkl": spoil(draw, members["archive/data.pkl"], goods, tokens)}
            if draw.random() < 0.3:
                content = archive(draw, inner)
            else:
                buffer = io.BytesIO()
                with zipfile.ZipFile(buffer, "w") as packed:
                    for name, part in inner.items():
                        packed.writestr(name, part)
                content = buffer.getvalue()
        _read_all(read_state_dict(written("w.pt", content), ["w"], "x"))

    return read


@target
def tf1():
    """Checkpoints of TensorFlow 1."""
    import tensorflow as tf

    from htsr.published.readers.tf1 import read_checkpoint

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable("w", initializer=np.float32([[1, 2], [3, 4]]))]
        variables.append(tf.compat.v1.get_variable("step", initializer=np.int64(7)))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, "good/model")
    good = {path.name: path.read_bytes() for path in Path("good").glob("model.[di]*")}

    def read(draw):
        for name, content in good.items():
            written(f"there/{name}", spoil(draw, content, list(good.values())) if draw.random() < 0.7 else content)
        _read_all(read_checkpoint(Path("there"), ["w"], "x"))

    return read


def _read_all(contents) -> None:
    """Read the arrays that are of floats."""
    from htsr.published.readers.tensors import read_float32

    for name, tensor in contents.tensors.items():
        if "float" in tensor.dtype:
            read_float32(name, tensor)
