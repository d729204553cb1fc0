"""Reading weight files: what torch.save and safetensors write, and what must be refused without harm."""

import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch_writer
from torch_writer import PROTO, STOP, Raw, call, encode, name, persistent, tensor

from htsr.errors import InputError
from htsr.published.readers.safetensors_file import read_safetensors
from htsr.published.readers.state_dict import read_state_dict
from htsr.published.readers.tensors import Tensor, read_float32
from htsr.published.readers.torch_file import read_torch

DATA = Path(__file__).parents[1] / "fixtures"
FORMATS = {"archive": torch_writer.save, "legacy": torch_writer.save_legacy}
FLOATS = persistent("storage", name("torch", "FloatStorage"), "0", "cpu", 6)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"layer.{i}.weight": rng.normal(size=shape).astype("f4") for i, shape in enumerate([(3, 4), (5,), (2, 3, 4)])
    }


def values(found: dict) -> dict[str, np.ndarray]:
    return {key: read_float32(key, value) for key, value in found.items() if isinstance(value, Tensor)}


def same(got: dict, want: dict) -> None:
    assert set(got) == set(want)
    for key, array in want.items():
        np.testing.assert_array_equal(got[key], array)


# ---- what is read


@pytest.mark.parametrize("form", FORMATS)
def test_a_state_dict(tmp_path, form):
    same(values(read_torch(FORMATS[form](tmp_path / "w.pt", arrays()))), arrays())


def test_a_file_of_pytorch_itself():
    found = values(read_torch(DATA / "convlstm_small.pt"))
    with np.load(DATA / "convlstm_small.npz") as file:
        weights = {key.removeprefix("sd/"): file[key] for key in file.files if key.startswith("sd/")}
    same({key: found[key] for key in weights}, weights)
    assert len(found) == len(weights) + 4  # what nothing reads


@pytest.mark.parametrize("form", FORMATS)
def test_parts_of_a_storage_with_strides(tmp_path, form):
    """A transposed view and one from the middle, as PyTorch saves them."""
    stored = np.arange(6, dtype="f4")
    old = (None,) if form == "legacy" else ()
    storage = persistent("storage", name("torch", "FloatStorage"), "0", "cpu", 6, *old)
    content = {"all": stored, "turned": tensor(storage, (3, 2), (1, 3)), "middle": tensor(storage, (2,), (2,), 1)}
    found = values(read_torch(FORMATS[form](tmp_path / "w.pt", content)))
    same(found, {"all": stored, "turned": stored.reshape(2, 3).T, "middle": stored[[1, 3]]})


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_floats_become_float32(tmp_path, dtype):
    array = np.float32([1.5, -2.0, 0.0078125])
    if dtype == "bfloat16":
        bits = (array.view("<u4") >> 16).astype("<u2").tobytes()
        storage = persistent("storage", name("torch", "BFloat16Storage"), "0", "cpu", 3)
        path = torch_writer.save(tmp_path / "w.pt", {"a": tensor(storage, (3,), (1,))}, **{"0": bits})
    else:
        path = torch_writer.save(tmp_path / "w.pt", {"a": array.astype(dtype)})
    same(values(read_torch(path)), {"a": array})


def test_parameters_and_what_no_weights_need(tmp_path):
    """A Lightning checkpoint: weights below a prefix, beside an optimiser's state and objects of its own."""
    storage = persistent("storage", name("torch", "FloatStorage"), "0", "cpu", 6)
    parameter = call(name("torch._utils", "_rebuild_parameter"), tensor(storage, (6,), (1,)), True, Raw(b"}"))
    settings = Raw(call(name("argparse", "Namespace")) + encode({"lr": 1}, {}) + b"b")
    scalar = call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), "f8", False, True), "x")
    content = {
        "epoch": 7,
        "global_step": 1234,
        "state_dict": {
            "model.net.a": np.arange(6, dtype="f4"),
            "model.net.b": parameter,
            "criterion.c": np.ones(2, "f4"),
        },
        "optimizer_states": [{"state": {0: {"exp_avg": np.ones(3, "f4")}}}],
        "hyper_parameters": settings,
        "best": scalar,
        "callbacks": call(name("collections", "defaultdict"), name("__builtin__", "list")),
    }
    found = read_state_dict(torch_writer.save(tmp_path / "w.ckpt", content), ("a", "b"), "it")
    same(values(dict(found.tensors)), {key: np.arange(6, dtype="f4") for key in "ab"})
    assert found.counters == {"epoch": 7, "global_step": 1234}
    assert found.left_out == ["state_dict/criterion.c"]


def test_memo_indices_take_no_memory(tmp_path):
    far = Raw(encode("a", {}) + b"r" + struct.pack("<I", 2**32 - 1))
    tracemalloc.start()
    assert read_torch(torch_writer.save(tmp_path / "w.pt", {"k": far})) == {"k": "a"}
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_what_shares_itself_a_thousandfold_is_read_at_once(tmp_path):
    """Tuples of two of the one before: printed or hashed, they would take for ever."""
    doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(200))
    every, last = b"](" + encode((), {}) + b"q\x00" + doubled + b"e", b"h\xc8"
    items = [encode("a", {}), every, last, encode(1, {}), encode("b", {}), last]  # once as a key
    content = Raw(b"}(" + b"".join(items) + b"u")
    assert set(read_torch(torch_writer.save(tmp_path / "w.pt", content))) == {"a", "b"}
    deep = Raw(b"]" * 200_000 + b"a" * 199_999)
    assert isinstance(read_torch(torch_writer.save(tmp_path / "w.pt", deep)), list)


# ---- what is refused


# 2,000 pairs, of which one and the same list a thousand dicts are made.
PAIRS = Raw(b"]q\x00(" + b"".join(encode((str(i), None), {}) for i in range(2000)) + b"e")
DICTS = Raw(b"](" + PAIRS + (name("collections", "OrderedDict") + b"h\x00\x85R") * 1000 + b"e")

HOSTILE = {
    "a command": (call(name("os", "system"), "true"), "names os.system, which no weights need"),
    "a built-in": (call(name("builtins", "eval"), "1"), "names builtins.eval"),
    "old built-ins": (call(name("__builtin__", "getattr"), "a", "b"), "names __builtin__.getattr"),
    "a hidden name": (Raw(encode("posix", {}) + encode("system", {}) + b"\x93"), "names posix.system"),
    "a long name": (name("x" * 5000, "y"), "names xxx"),
    "a whole model": (persistent("module", "a", "b", "c"), "a whole model and not its weights"),
    "an unknown step": (Raw(b"I01\n"), "the step INT"),
    "a text without end": (Raw(b"\x8d" + struct.pack("<Q", 2**60)), "damaged"),
    "bytes without end": (Raw(b"\x8e" + struct.pack("<Q", 2**62)), "damaged"),
    "a number without end": (Raw(b"\x8a\xff"), "damaged"),
    "an empty stack": (Raw(b"0" * 0 + b"R"), "damaged"),
    "a call of nothing": (Raw(b"NNR"), "damaged"),
    "no memory": (Raw(b"h\x07"), "damaged"),
    "items of a number": (Raw(b"K\x01K\x02a"), "damaged"),
    "10 GB by repetition": (tensor(FLOATS, (50_000, 50_000), (0, 0)), r"\[50000, 50000\] does not lie in its storage"),
    "a huge axis": (tensor(FLOATS, (2**62, 4), (1, 1)), "which no weights have"),
    "a product that overflows": (tensor(FLOATS, (2**33, 2**33), (0, 0)), "does not lie in its storage"),
    "a place behind the end": (tensor(FLOATS, (2,), (1,), 5), "does not lie in its storage"),
    "a place before the beginning": (tensor(FLOATS, (2,), (1,), -1), "strides are damaged"),
    "a negative stride": (tensor(FLOATS, (2,), (-1,), 3), "strides are damaged"),
    "a far stride": (tensor(FLOATS, (2,), (2**40,)), "does not lie in its storage"),
    "too few strides": (tensor(FLOATS, (2, 2), (1,)), "strides are damaged"),
    "many axes": (tensor(FLOATS, (1,) * 40, (1,) * 40), "which no weights have"),
    "a shape of text": (tensor(FLOATS, ("a",), (1,)), "which no weights have"),
    "another size": (
        tensor(persistent("storage", name("torch", "FloatStorage"), "0", "cpu", 10**9), (10**9,), (1,)),
        "24 bytes, but 1000000000 numbers of float32",
    ),
    "no storage": (
        tensor(persistent("storage", name("torch", "FloatStorage"), "9", "cpu", 6), (6,), (1,)),
        "storage 9 is missing",
    ),
    "a storage elsewhere": (
        tensor(persistent("storage", name("torch", "FloatStorage"), "../../x", "cpu", 6), (6,), (1,)),
        "is missing",
    ),
    "a storage of text": (persistent("storage", name("torch", "FloatStorage"), 1, "cpu", "x"), "storages is damaged"),
    "dicts of one list": (DICTS, "made of more than 1000000 pairs"),
    "a large number": (Raw(b"\x8b" + struct.pack("<i", 4) + bytes(4)), "the step LONG4"),
    "a long key": (tensor(persistent("storage", name("torch", "FloatStorage"), "0" * 301, "cpu", 6), (6,), (1,)),
                   "storages is damaged"),
    "too many steps": (Raw(b"]" * 1_000_100), "more than 1000000 steps"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_descriptions(tmp_path, case):
    content, message = HOSTILE[case]
    path = torch_writer.save(tmp_path / "w.pt", {"a": np.arange(6, dtype="f4"), "b": content})
    with pytest.raises(InputError, match=message) as refusal:
        read_torch(path)
    text = str(refusal.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < 500


def test_a_compressed_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    with pytest.raises(InputError, match=r"compressed, which torch\.save never does"):
        read_torch(tmp_path / "w.pt")


def test_a_compressed_storage(tmp_path):
    path = torch_writer.save(tmp_path / "w.pt", {"a": np.zeros(10**6, "f4")})
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in members.items():
            archive.writestr(key, content, zipfile.ZIP_DEFLATED if "/data/" in key else zipfile.ZIP_STORED)
    with pytest.raises(InputError, match="data/0 is compressed"):
        values(read_torch(path))


def test_a_description_that_is_too_long(tmp_path):
    path = torch_writer.save(tmp_path / "w.pt", {"a": "x" * 2**24})
    with pytest.raises(InputError, match=r"is said to have 167.* bytes, more than it can"):
        read_torch(path)


@pytest.mark.parametrize("form", FORMATS)
def test_every_cut_is_noticed(tmp_path, form):
    path = FORMATS[form](tmp_path / "w.pt", arrays())
    whole = path.read_bytes()
    for length in [0, 1, 3, 4, 30, *range(40, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged|cut off|neither a file of torch\.save"):
            values(read_torch(path))


def test_a_flipped_bit_in_a_storage(tmp_path):
    path = torch_writer.save(tmp_path / "w.pt", {"a": np.full(1000, 7, "f4")})
    content = bytearray(path.read_bytes())
    content[content.index(np.full(1000, 7, "f4").tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC"):
        values(read_torch(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not weights at all", "neither a file of torch.save nor safetensors"),
        (PROTO + encode(1, {}) + STOP, "neither a file of torch.save"),
        (b"PK\x03\x04" + bytes(100), "damaged or cut off"),
    ],
)
def test_other_files(tmp_path, content, message):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_torch(tmp_path / "w.pt")


def test_another_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"an archive, but not one of torch\.save"):
        read_torch(tmp_path / "w.pt")


def test_legacy_storages_that_are_not_as_described(tmp_path):
    path = torch_writer.save_legacy(tmp_path / "w.pt", {"a": np.zeros(6, "f4")})
    content = path.read_bytes()
    path.write_bytes(content[: -24 - 8] + struct.pack("<q", 10**12) + content[-24:])
    with pytest.raises(InputError, match="storage 0 has 1000000000000 numbers, but 6"):
        read_torch(path)
    path.write_bytes(content.replace(encode(["0"], {}), encode(["1"], {})))
    with pytest.raises(InputError, match="list of storages is not that of its tensors"):
        read_torch(path)


def test_numbers_that_are_not_finite(tmp_path):
    path = torch_writer.save(tmp_path / "w.pt", {"a": np.float64([1, 1e300])})
    with pytest.raises(InputError, match="a holds values that are not finite"):
        values(read_torch(path))
    path = torch_writer.save(tmp_path / "w.pt", {"a": np.int64([1])})
    with pytest.raises(InputError, match="a is int64, but weights are"):
        values(read_torch(path))


def test_a_file_without_such_weights(tmp_path):
    path = torch_writer.save(tmp_path / "w.pt", {"x.weight": np.ones(3, "f4")})
    with pytest.raises(
        InputError, match=r"no weights of it: they have names such as a and b, and it has 1 \(x.weight\)"
    ):
        read_state_dict(path, ("a", "b"), "it")
    with pytest.raises(InputError, match="holds no dict of tensors"):
        read_state_dict(torch_writer.save(tmp_path / "w.pt", [1]), ("a",), "it")
    with pytest.raises(InputError, match="is not a file"):
        read_state_dict(tmp_path, ("a",), "it")


# ---- safetensors


def write(path: Path, header: object, body: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    return path


def entry(begin: int, end: int, shape=(2,), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_safetensors(tmp_path):
    body = np.float32([1, 2]).tobytes() + np.float16([3, 4]).tobytes()
    header = {"__metadata__": {"format": "pt"}, "m.a": entry(0, 8), "m.b": entry(8, 12, dtype="F16")}
    path = write(tmp_path / "w.safetensors", header, body)
    same(values(read_safetensors(path)), {"m.a": np.float32([1, 2]), "m.b": np.float32([3, 4])})
    found = read_state_dict(path, ("a", "b"), "it")
    same(values(dict(found.tensors)), {"a": np.float32([1, 2]), "b": np.float32([3, 4])})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 40_000_000_000, (10**10,))}, "does not fit the 40000000000 bytes"),
        ({"a": entry(0, 12)}, r"of shape \[2\] does not fit the 12 bytes"),
        ({"a": entry(-8, 0)}, "does not fit"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "on top of each other"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "on top of each other"),
        ({"a": entry(0, 8, (2, 2**62))}, "which no weights have"),
        ({"a": entry(0, 0, (0, 5))}, "which no weights have"),
        ({"a": entry(0, 8, dtype="F8_E4M3")}, "is of the type F8_E4M3"),
        ({"a": {"dtype": "F32"}}, "header is damaged"),
        ({"a": [1]}, "header is damaged"),
        ([1], "damaged|expected"),
        (b'{"a": 1, "a": 1}', "a name appears twice"),
        (b"{" * 100_000, "header is damaged"),
        (b'{"a":' + b"[" * 100_000, "header is damaged"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "header is damaged"),
    ],
)
def test_safetensors_refused(tmp_path, header, message):
    with pytest.raises(InputError, match=message):
        read_safetensors(write(tmp_path / "w.safetensors", header, bytes(16)))


def test_safetensors_cut_off(tmp_path):
    path = write(tmp_path / "w.safetensors", {"a": entry(0, 8)}, bytes(8))
    whole = path.read_bytes()
    for length in (9, 20, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a header of|does not fit"):
            read_safetensors(path)
