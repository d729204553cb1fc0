"""The readers, each with good inputs that are spoilt: one call reads one input, below the current folder."""

import contextlib
import gzip
import importlib.util
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from benchmarks.fuzz.spoil import NAMES, ODD, archive, npy, odd_value, spoil
from htsr.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "published")]
Read = Callable[[random.Random], object]
TARGETS: dict[str, Callable[[], Read]] = {}
FORM = (16, 16, 1)
CONFIG = (ROOT / "configs" / "mmnist_laptop.yml").read_bytes()
YAML = tuple(
    b"*a &a !!python/object:os.system !!binary !!set << ? : - --- ... [ ] { } , # | > ' \" %YAML 1e309 .nan 0x1F 1:30"
    b" \xef\xbb\xbf \xff\xfe \x00 \xe2\x80\xa8 \t \n null ~ yes 2024-01-01 ${x}".split(b" ")
)
ARRAY = np.arange(12 * 16 * 16, dtype=np.uint8).reshape(12, 16, 16, 1)


def target(make: Callable[[], Read]) -> Callable[[], Read]:
    """Add a target: it is made once in each process, and then called for every input."""
    TARGETS[make.__name__] = make
    return make


def written(path: str, content: bytes) -> Path:
    """Write an input, in place of whatever is there."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


@contextlib.contextmanager
def _as_input_error(kind: type[Exception]):
    """Count a refusal of another kind as one."""
    try:
        yield
    except kind as error:
        raise InputError(str(error)) from None


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@target
def config():
    """Files and overrides of configs, held against models and datasets."""
    from htsr.config import check_named, read_config
    from htsr.data import DATASETS
    from htsr.models import MODELS

    files = [path.read_bytes() for path in sorted((ROOT / "configs").rglob("*.yml"))]
    trees = [yaml.safe_load(content) for content in files]

    def read(draw):
        if draw.random() < 0.5:
            content = spoil(draw, draw.choice(files), files, YAML)
        else:
            content = json.dumps(odd_value(draw, draw.choice(trees))).encode("utf-8", "surrogatepass")
        override = f"{draw.choice(('train', 'data', 'model', 'x'))}.{draw.choice(('steps', 'datadir', 'name', ''))}="
        override += draw.choice(("1", str(draw.choice(ODD)), draw.choice(YAML).decode("latin1")))
        found = read_config(written("c.yml", content), [override] * draw.randrange(2))
        check_named("model", found["model"], MODELS)
        check_named("data", found["data"], DATASETS, reserved=("split",))

    return read


@target
def protocol():
    """Protocol files."""
    from htsr.evaluation.protocol import make_protocol, read_protocol, save_protocol

    data = yaml.safe_load(CONFIG)
    save_protocol(make_protocol(data["data"], data["eval"]), "good.yml")
    good = Path("good.yml").read_bytes()
    tree = yaml.safe_load(good)

    def read(draw):
        json_text = json.dumps(odd_value(draw, tree)).encode("utf-8", "surrogatepass")
        read_protocol(written("p.yml", draw.choice((json_text, spoil(draw, good, [good], YAML)))))

    return read


@target
def splits():
    """``splits.json`` beside videos."""
    from htsr.data.videos import listed_split

    good = {"train": ["a.npy", "b.npy"], "valid": [], "test": ["c.npy"]}

    def read(draw):
        content = json.dumps(odd_value(draw, good)).encode("utf-8", "surrogatepass")
        written("splits.json", spoil(draw, content, [content]) if draw.random() < 0.4 else content)
        listed_split(Path("."), ["a.npy", "b.npy", "c.npy"])

    return read


@target
def names():
    """Orders of pictures by their names."""
    from htsr.data.video.order import Doubtful, in_order

    parts = (
        "",
        "u",
        "_",
        "-",
        ".",
        "0",
        "1",
        "00",
        "10",
        "9" * 30,
        "0.25",
        "-3",
        "1e9",
        "²",
        "٣",
        "é",
        " ",
        "\n",
        "(1)",
    )

    def read(draw):
        pattern = [draw.choice(parts) for _ in range(draw.randrange(1, 5))]
        found = []
        for number in range(draw.randrange(1, 12)):
            changed = [draw.choice(parts) if draw.random() < 0.2 else part for part in pattern]
            found.append(
                "".join([*changed, str(number * draw.choice((1, 10)))]) + draw.choice((".png", ".png", ".PNG"))
            )
        with _as_input_error(Doubtful):
            in_order(found)

    return read


@target
def query():
    """Arguments in addresses of the service."""
    from urllib.parse import parse_qsl

    from htsr.serving.limits import Refusal
    from htsr.serving.query import read_query

    words = (
        "horizon",
        "context",
        "format",
        "mp4",
        "=",
        "&",
        "1",
        "-1",
        "9" * 400,
        "%00",
        "%ff",
        "²",
        "٣",
        " 1",
        "1_0",
        "\n",
    )

    def read(draw):
        text = "".join(draw.choice(words) for _ in range(draw.randrange(1, 8)))
        with _as_input_error(Refusal):
            read_query(
                parse_qsl(text, True),
                {"horizon": (1, 100, 5), "seed": (0, 9, None)},
                {"format": (("mp4", "npz"), "mp4")},
            )

    return read


@target
def command_line():
    """Arguments of every command, none of which finds what it would work on."""
    from htsr.cli.main import COMMANDS, main

    flags = (
        "--config", "--set", "--logdir", "--out", "--name", "--horizon", "--datadir", "--input", "--model", "--port",
        "--devices", "--workers", "--worker", "--checkpoint", "--from", "--size", "--fit", "--damaged", "--protocol",
        "-h", "--nonsense", "--",
    )  # fmt: skip
    values = (
        "",
        "1",
        "-1",
        "x",
        "nowhere",
        "../..",
        "nan",
        "1e9",
        "train.steps=",
        "=",
        "train.steps=[",
        "a=b",
        "\ud800",
        "\0",
        "é\n",
    )

    def read(draw):
        command = [draw.choice([name for name in COMMANDS if name not in ("doctor", "serve")])]
        command += [draw.choice(draw.choice((flags, values))) for _ in range(draw.randrange(7))]
        with contextlib.suppress(SystemExit):
            main(command)

    return read


@target
def checkpoint():
    """Checkpoints: manifests, arrays and logs."""
    from htsr.runs import checkpoints

    arrays = {"model/a": np.arange(6, dtype=np.float32), "optimizer/b": np.array(3)}
    log = written("log/metrics.jsonl", b'{"step": 1}\n')
    checkpoints.save("good", 1, arrays, score=0.5, log=log)
    good = {path.name: path.read_bytes() for path in Path("good/step_1").iterdir()}
    manifest = json.loads(good["manifest.json"])

    def read(draw):
        import hashlib

        changed = dict(good)
        if draw.random() < 0.5:
            name = draw.choice(list(good))
            changed[name] = spoil(draw, good[name], list(good.values()))
        if draw.random() < 0.5:  # by somebody who makes the digests fit
            with zipfile.ZipFile(io.BytesIO(good["state.npz"])) as file:
                members = {name: file.read(name) for name in file.namelist()}
            members = {name: npy(draw) if draw.random() < 0.3 else content for name, content in members.items()}
            changed["state.npz"] = archive(draw, members)
            tree = odd_value(draw, manifest) if draw.random() < 0.5 else json.loads(json.dumps(manifest))
            with contextlib.suppress(KeyError, TypeError):
                tree["files"]["state.npz"] = {
                    "bytes": len(changed["state.npz"]), "sha256": hashlib.sha256(changed["state.npz"]).hexdigest()
                }  # fmt: skip
            changed["manifest.json"] = json.dumps(tree).encode("utf-8", "surrogatepass")
        for name, content in changed.items():
            written(f"run/step_1/{name}", content)
        which = draw.choice(("latest", "best", 1))
        checkpoints.load("run", which)
        checkpoints.read_manifest("run")

    return read


@target
def run_records():
    """What lies in a run folder beside checkpoints, as a card and the results of an evaluation read it."""
    from htsr.runs import checkpoints, trained_on
    from htsr.runs.card import write_card
    from htsr.runs.folder import results_of

    checkpoints.save("run/model", 1, {"model/a": np.arange(6, dtype=np.float32)})
    written("run/config.yml", CONFIG)
    seen = {"train": [["a.npy", 0, 40, "0123456789abcdef" * 10]]}
    imported = {
        "arguments": {"levels": "file"}, "what": "x", "types": ["float32"], "counters": {"step": 3}, "optimizer": "no",
        "files": [{"name": "a", "bytes": 3, "sha256": "0"}], "left_out": {"count": 0, "first": []},
        "unread": {"count": 1, "first": ["x"]}, "weights": {"chosen": "a", "others": ["b"]},
    }  # fmt: skip
    manifest = json.loads(Path("run/model/step_1/manifest.json").read_text())
    result = {
        "provenance": {"checkpoint": {"step": 1}, "horizon": 3},
        "metrics": {"psnr": {"label": "PSNR"}},
        "curves": {},
    }
    files = {
        "trained_on.json": seen, "imported.json": imported, "model/step_1/manifest.json": manifest,
        "eval/1/curves.json": result,
    }  # fmt: skip

    def read(draw):
        name = draw.choice(list(files))
        for path, content in files.items():
            text = json.dumps(odd_value(draw, content) if path == name else content).encode("utf-8", "surrogatepass")
            written(f"run/{path}", spoil(draw, text, [text]) if path == name and draw.random() < 0.3 else text)
        trained_on.seen(Path("run"), seen["train"], 4, 16)
        list(results_of(Path("run")))
        write_card("run")

    return read


@target
def cache():
    """Entries of the cache and folders of ``htsr prepare``."""
    from htsr.data.videos import videos

    folder = Path("entry")
    folder.mkdir(exist_ok=True)
    np.save(folder / "frames.npy", ARRAY)
    manifest = {
        "schema": 1, "format": {"height": 16, "width": 16, "channels": 1, "fit": "stretch"}, "refused": {},
        "note": None,
        "splits": {"train": [[0, 0, 4]], "valid": [[0, 4, 8]], "test": [[0, 8, 12]]},
        "videos": [{"name": "a", "first": 0, "frames": 12, "decoder": "numpy", "fps": None, "note": None}],
    }  # fmt: skip
    good = (folder / "frames.npy").read_bytes()

    def read(draw):
        tree = odd_value(draw, manifest) if draw.random() < 0.8 else manifest
        written("entry/manifest.json", json.dumps(tree).encode("utf-8", "surrogatepass"))
        written("entry/frames.npy", spoil(draw, good, [good]) if draw.random() < 0.3 else good)
        clips = videos("train", datadir="entry", batch_size=1, seq_len=2)
        clips.window(0)

    return read


@target
def safetensors():
    """Weight files of safetensors."""
    from htsr.published.readers.state_dict import read_state_dict
    from htsr.published.readers.tensors import read_float32

    header = {"__metadata__": {"a": "b"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header["v"] = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}

    def read(draw):
        raw = json.dumps(odd_value(draw, header) if draw.random() < 0.7 else header).encode("utf-8", "surrogatepass")
        content = struct.pack("<Q", len(raw)) + raw + bytes(range(32))
        content = spoil(draw, content, [content]) if draw.random() < 0.4 else content
        found = read_state_dict(written("w.safetensors", content), ["w"], "x")
        for name, tensor in found.tensors.items():
            if "float" in tensor.dtype:
                read_float32(name, tensor)

    return read


@target
def torch():
    """Weight files of PyTorch, of both formats."""
    import torch_writer

    from htsr.published.readers.state_dict import read_state_dict
    from htsr.published.readers.tensors import read_float32

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
        found = read_state_dict(written("w.pt", content), ["w"], "x")
        for name, tensor in found.tensors.items():
            if "float" in tensor.dtype:
                read_float32(name, tensor)

    return read


@target
def tf1():
    """Checkpoints of TensorFlow 1."""
    import tensorflow as tf

    from htsr.published.readers.tensors import read_float32
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
        found = read_checkpoint(Path("there"), ["w"], "x")
        for name, tensor in found.tensors.items():
            if "float" in tensor.dtype:
                read_float32(name, tensor)

    return read


@target
def idx():
    """MNIST files: idx, packed or not, and Keras's."""
    from htsr.data.mnist_digits import load_digits

    images = b"\0\0\x08\x03" + struct.pack(">III", 30, 28, 28) + bytes(30 * 784)
    labels = b"\0\0\x08\x01" + struct.pack(">I", 30) + bytes(30)
    digits = {"x_train": ARRAY[:, :, :, 0], "y_train": np.zeros(12, np.uint8)}

    def read(draw):
        for name in os.listdir("."):
            os.unlink(name)
        if draw.random() < 0.2:
            written("mnist.npz", archive(draw, {f"{name}.npy": saved(array) for name, array in digits.items()}))
        for name, good in (("images-idx3", images), ("labels-idx1", labels)):
            content = spoil(draw, good, [images, labels]) if draw.random() < 0.7 else good
            if draw.random() < 0.5:
                packed = gzip.compress(content, 1)
                written(f"train-{name}-ubyte.gz", spoil(draw, packed, [packed]) if draw.random() < 0.5 else packed)
            else:
                written(f"train-{name}-ubyte", content)
        load_digits("train", ".")

    return read


def _frames(path: Path) -> None:
    from htsr.data.video.files import FrameFormat, Video
    from htsr.data.video.reader import VideoReader

    for _ in VideoReader(Video(path.name, path), FrameFormat(*FORM)):
        pass


@target
def arrays():
    """Videos as .npy and .npz."""
    good = saved(ARRAY)
    floats = saved((ARRAY[:2] / 255).astype("f4"))

    def read(draw):
        content = draw.choice((lambda: npy(draw), lambda: spoil(draw, draw.choice((good, floats)), [good, floats])))()
        if draw.random() < 0.5:
            _frames(written("v.npy", content))
        else:
            _frames(written("v.npz", archive(draw, {"arr_0.npy": content})))

    return read


@target
def radar():
    """Sequences of radar frames."""
    from htsr.data.radar_files import RadarFiles, array_sequence, picture_sequence

    good = [
        saved(ARRAY[..., 0]),
        saved(np.linspace(-40, 160, 512, dtype="f4").reshape(2, 16, 16)),
        saved(ARRAY[0, ..., 0]),
    ]

    def read(draw):
        here = Path(".")
        shutil.rmtree("seq", ignore_errors=True)
        if draw.random() < 0.5:
            content = spoil(draw, draw.choice(good), good) if draw.random() < 0.7 else npy(draw)
            path = (
                written("s.npy", content)
                if draw.random() < 0.7
                else written("s.npz", archive(draw, {"a.npy": content}))
            )
            found = array_sequence(path, here)
        else:
            for number in range(3):
                written(f"seq/{number}.npy", spoil(draw, good[2], good) if draw.random() < 0.3 else good[2])
            found = picture_sequence(Path("seq"), here)
        files = RadarFiles([found], (-10.0, 85.0), None, draw.choice((None, 0.0, float("nan"))))
        files.survey("x")
        files.read(0, 0, min(2, found.frames))

    return read


def pictures_of() -> dict[str, bytes]:
    """Return good animations, and a picture, by suffix."""
    from PIL import Image

    found, frames = {}, [Image.fromarray(frame[..., 0]) for frame in ARRAY[:3]]
    for suffix, options in {"png": {}, "gif": {}, "webp": {}, "tif": {}}.items():
        file = io.BytesIO()
        frames[0].save(file, suffix.replace("tif", "tiff"), save_all=True, append_images=frames[1:], **options)
        found[suffix] = file.getvalue()
    file = io.BytesIO()
    frames[0].save(file, "png")
    return {**found, "single": file.getvalue()}


@target
def pictures():
    """Animations, and folders of pictures."""
    goods = pictures_of()

    def read(draw):
        kind = draw.choice(list(goods))
        content = spoil(draw, goods[kind], list(goods.values()))
        if kind == "single":
            shutil.rmtree("folder", ignore_errors=True)
            for number in range(3):
                written(f"folder/{number}.png", content if number == 1 else goods[kind])
            _frames(Path("folder"))
        else:
            _frames(written(f"v.{'apng' if kind == 'png' else kind}", content))

    return read


def containers_of() -> dict[str, bytes]:
    """Return good video files by suffix."""
    from htsr.data.video.files import write_video

    moving = np.stack([np.roll(np.tile(ARRAY[0], (2, 2, 3)), shift, 1) for shift in range(8)])
    found = {}
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "XVID"), ("a.webm", "VP80"), ("a.mkv", "FFV1")):
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / name, moving, 10, codec)
            found[name.rpartition(".")[2]] = (Path(folder) / name).read_bytes()
    return found


@target
def containers():
    """Video files."""
    goods = containers_of()

    def read(draw):
        kind = draw.choice(list(goods))
        _frames(written(f"v.{kind}", spoil(draw, goods[kind], list(goods.values()))))

    return read


@target
def zips():
    """Archives of videos."""
    from htsr.data.video.files import FrameFormat, find_videos
    from htsr.data.video.reader import VideoReader

    good = {"a.npy": saved(ARRAY), "b/c.gif": pictures_of()["gif"]}

    def read(draw):
        path = written("v.zip", archive(draw, good))
        for video in find_videos(path):
            for _ in VideoReader(video, FrameFormat(*FORM)):
                pass

    return read


@target
def uploads():
    """What the service decodes, whatever it is called."""
    from htsr.data.video.files import FrameFormat
    from htsr.serving.limits import Limits, Refusal
    from htsr.serving.media import decode, decode_image
    from htsr.serving.workers import guard

    guard()
    images = pictures_of()
    goods = [*containers_of().values(), images["gif"], saved(ARRAY)]
    limits = Limits(max_frames=100, max_unpacked=1 << 20, max_pixels=1 << 16)

    def read(draw):
        shutil.rmtree("up", ignore_errors=True)
        with _as_input_error(Refusal):
            if draw.random() < 0.3:
                decode_image(spoil(draw, images["single"], goods), FrameFormat(*FORM), limits)
                return
            how = draw.random()
            if how < 0.4:
                members = {"1.png": images["single"], "2.png": images["single"], draw.choice(NAMES) or "x": b"x"}
                content = archive(draw, members)
            elif how < 0.5:
                content = archive(draw, {"frames.npy": npy(draw)})
            else:
                content = spoil(draw, draw.choice(goods), goods)
            decode(written("up/upload", content), FrameFormat(*FORM), 4, 1, limits)

    return read


@target
def links():
    """Folders with links and strange names."""
    from htsr.data.video.files import find_videos

    def read(draw):
        shutil.rmtree("tree", ignore_errors=True)
        os.makedirs("tree/a/b")
        for number in range(draw.randrange(1, 5)):
            place = os.fsencode(f"tree/{draw.choice(('', 'a/', 'a/b/'))}")
            name = draw.choice((b"x", b"caf\xe9", b"a\nb", b".h", b"-rf", b"*")) + str(number).encode()
            suffix = draw.choice((b".npy", b".zip", b".png", b".mp4", b""))
            with contextlib.suppress(FileExistsError):
                if draw.random() < 0.5:
                    goal = draw.choice(
                        (b"..", b".", b"/", b"/etc", b"nowhere", name + suffix, b"/dev/zero", b"/proc/self/mem")
                    )
                    goal = b"../.." if goal in (b"/", b"/etc") else goal
                    os.symlink(goal, place + name + draw.choice((b"", suffix)))
                elif draw.random() < 0.2:
                    os.mkfifo(place + name + suffix)
                else:
                    with open(place + name + suffix, "wb") as file:
                        file.write(draw.choice((b"", saved(ARRAY), b"PK\x03\x04")))
        for video in find_videos(Path("tree")):
            if video.path.suffix == ".npy":
                _frames(video.path)

    return read


@target
def netcdf():
    """Files of WeatherBench, where xarray is installed."""
    from htsr.data.weatherbench import Year

    if importlib.util.find_spec("xarray") is None or importlib.util.find_spec("h5netcdf") is None:
        return None
    import xarray

    times = np.datetime64("2017-01-01T00", "ns") + np.arange(5).astype("timedelta64[h]")
    values = np.full((5, 32, 64), 280, np.float32)
    axes = {"time": times, "lat": np.linspace(-88, 88, 32), "lon": np.arange(64.0)}
    xarray.Dataset({"t2m": (("time", "lat", "lon"), values)}, axes).to_netcdf("good.nc", engine="h5netcdf")
    good = Path("good.nc").read_bytes()

    def read(draw):
        Year(written("y.nc", spoil(draw, good, [good])), 2017).frames(np.arange(1))

    return read


@target
def taxi():
    """TaxiBJ as .npz and HDF5."""
    import h5py

    from htsr.data.taxibj import taxibj

    half = np.zeros((3, 4, 2, 32, 32), np.float32)
    members = {f"{name}_{part}.npy": saved(half + i) for i, name in enumerate("XY") for part in ("train", "test")}
    with h5py.File("good.h5", "w") as file:
        file["data"] = np.random.default_rng(0).integers(0, 9, (48, 2, 32, 32)).astype("f4")
        file["date"] = np.array([f"20130701{slot:02d}".encode() for slot in range(1, 49)])
    good = Path("good.h5").read_bytes()

    def read(draw):
        if draw.random() < 0.5:
            written("d/dataset.npz", archive(draw, members))
            taxibj("test", batch_size=1, seq_len=2, datadir="d", source="openstl").window(0)
        else:
            for year in range(13, 17):
                written(f"d/BJ{year}_M32x32_T30_InOut.h5", spoil(draw, good, [good]) if year == 14 else good)
            taxibj("test", batch_size=1, seq_len=2, datadir="d", source="original").window(0)

    return read
