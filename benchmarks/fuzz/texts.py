"""What is text: configs, protocols, names, addresses, command lines."""

import contextlib
import json
from pathlib import Path

import yaml

from benchmarks.fuzz.spoil import ODD, odd_value, spoil
from benchmarks.fuzz.table import CONFIG, ROOT, YAML, as_input_error, target, written


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
        with as_input_error(Doubtful):
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
        with as_input_error(Refusal):
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
