"""Config files: what is read, what is refused, and how values are checked against a signature."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

import htsr
from htsr.config import check_section, differences, find_config, read_config, run_folder, save_config
from htsr.errors import InputError

GOOD = """
model: {name: htsr, levels: 3}
data:
  name: moving_mnist
train:
  steps: 10
  learning_rate: 1.0e-4
eval:
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text)
    return path


def fit(
    clips,
    steps: int,
    learning_rate: float = 1e-3,
    *,
    mixed: bool = False,
    decay: Literal["none", "cosine"] = "none",
    beta: float | list[float] = 1.0,
    clip_norm: float | None = None,
    canvas: tuple[int, int] = (64, 64),
    filters: tuple[int, ...] = (32,),
    factors: Sequence[int] = (6,),
    options: dict[str, int] | None = None,
    extra: Any = None,
    **ignored,
):
    """Stand-in for a function that receives a section."""


def check(**values):
    return check_section("train", {"steps": 1, **values}, fit, reserved=("clips",))


def test_file_then_overrides(tmp_path):
    config = read_config(write(tmp_path, GOOD), ["train.steps=100", "eval.context=[1, 2]", "data.source = toronto"])
    assert config == {
        "model": {"name": "htsr", "levels": 3},
        "data": {"name": "moving_mnist", "source": "toronto"},
        "train": {"steps": 100, "learning_rate": 1e-4},
        "eval": {"context": [1, 2]},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {}\ndata: {}\ntrain: {}\n", "no section 'eval'"),
        (GOOD + "training: {}", "unknown section 'training'; did you mean 'train'"),
        ("- 1", "expected the sections"),
        ("", "expected the sections"),
        (GOOD.replace("eval:", "eval: 3"), "section 'eval' must be"),
        (GOOD.replace("steps: 10", "steps: 10\n  steps: 11"), "line 7: key 'steps' appears twice"),
        (GOOD.replace("steps: 10", "3: 10"), "key 3 .int. is not a word"),
        (GOOD.replace("steps: 10", "? [a]\n  : 1"), "is not a word"),
        (GOOD.replace("steps: 10", "steps: &a 10\n  other: *a"), "aliases"),
        (GOOD.replace("steps: 10", "steps: !!python/object/apply:os.getcwd []"), "could not determine a constructor"),
        (GOOD.replace("levels: 3}", "levels: 3"), "line 3: .*expected 'key: value'"),
        ("a: " + "[" * 20000, "not readable as YAML"),
        ("a: \x01", "not readable as YAML"),
        ("a: 2020-99-99", "unknown section 'a'"),
        ("#" * 70000, "bytes; at most"),
    ],
)
def test_files_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read_config(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_config(tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", "expected section.key=value"),
        ("steps=3", "expected section.key=value"),
        ("trian.steps=3", "did you mean 'train'"),
        ("train.steps=[1", "override"),
    ],
)
def test_overrides_refused(tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        read_config(write(tmp_path, GOOD), [override])


@pytest.mark.parametrize(
    "text",
    ["clips #2", "2024", "1e3", "12:30", "a: b", "[old]", "~", "no", "2024-01-31", "0x1F", "*", "a{b", "caf\udce9"],
)
def test_a_path_is_taken_as_it_stands(tmp_path, text):
    assert read_config(write(tmp_path, GOOD), [f"data.datadir={text}"])["data"]["datadir"] == text


@pytest.mark.parametrize(("text", "path"), [("null", None), ("", None), ("'null'", "null"), ('"a b"', "a b")])
def test_paths_may_be_quoted_and_left_out(tmp_path, text, path):
    assert read_config(write(tmp_path, GOOD), [f"data.datadir={text}"])["data"]["datadir"] == path


@pytest.mark.parametrize("number", ["0010", "1:30", "0x10", "0b11", "1_000", "0o17", "2024-01-31"])
def test_numbers_are_decimal(tmp_path, number):
    for config in (
        read_config(write(tmp_path, GOOD), [f"train.steps={number}"]),
        read_config(write(tmp_path, GOOD.replace("steps: 10", f"steps: {number}"))),
    ):
        with pytest.raises(InputError, match=f"train.steps: expected int, received '{number}'"):
            check_section("train", {"steps": config["train"]["steps"]}, fit, reserved=("clips",))


def test_a_comment_in_an_override_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"takes what follows # for a comment; write data.source='\"a #1\"'"):
        read_config(write(tmp_path, GOOD), ["data.source=a #1"])


def test_defaults_are_filled_in_signature_order():
    resolved = check(decay="cosine")
    assert list(resolved) == [name for name in fit.__annotations__ if name != "clips"]
    assert resolved["steps"] == 1
    assert resolved["decay"] == "cosine"
    assert resolved["canvas"] == (64, 64)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", 1, 1.0),
        ("beta", 2, 2.0),
        ("beta", [1, 0.5], [1.0, 0.5]),
        ("clip_norm", None, None),
        ("clip_norm", 3, 3.0),
        ("canvas", [32, 48], (32, 48)),
        ("filters", [1, 2, 3], (1, 2, 3)),
        ("factors", [1, 2], (1, 2)),
        ("options", {"a": 1}, {"a": 1}),
        ("steps", 7, 7),
        ("extra", ["anything"], ["anything"]),
    ],
)
def test_values_take_the_annotated_type(key, value, expected):
    received = check(**{key: value})[key]
    assert received == expected
    assert type(received) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", True, r"train.steps: expected int, received True \(bool\)"),
        ("steps", 1.0, "expected int, received 1.0"),
        ("steps", "10", "write 10 without quotes"),
        ("steps", "0010", "received '0010' .str.; write 10$"),
        ("decay", 3, r"received 3 \(int\)"),
        ("steps", "1e3", r"received '1e3' \(str\)$"),
        ("steps", None, "expected int, received null"),
        ("learning_rate", "1e-4", r"expected float, received '1e-4' \(str\); write 1.0e-4"),
        ("learning_rate", "2.5E5", r"write 2.5e\+5"),
        ("learning_rate", True, "expected float"),
        ("clip_norm", "1e4", r"expected float or null, .* write 1.0e\+4"),
        ("mixed", 1, "expected bool"),
        ("mixed", "yes please", "expected bool"),
        ("decay", "cosin", "expected one of 'none', 'cosine', received 'cosin'"),
        ("decay", False, "expected one of"),
        ("beta", [1, "a"], "expected float or a list of float"),
        ("canvas", [1], "expected a list of 2: int, int"),
        ("filters", 3, "expected a list of int"),
        ("options", {"a": "b"}, "expected a mapping to int or null"),
        ("options", [1], "expected a mapping"),
        ("learning_rat", 1.0, "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("zzz", 1, "unknown key 'zzz'; known: beta, canvas"),
        ("clips", 1, "train.clips is set by the program"),
        ("ignored", 1, "unknown key 'ignored'"),
    ],
)
def test_values_refused(key, value, message):
    with pytest.raises(InputError, match=message):
        check(**{key: value})


def test_the_written_hint_is_what_yaml_reads_as_a_number():
    for text in ("1e-4", "1e5", "1.e5", "-3E+2"):
        with pytest.raises(InputError, match="write") as error:
            check(learning_rate=text)
        assert yaml.safe_load(str(error.value).split("write ")[1].split()[0]) == float(text)


def test_missing_value_and_class_signature():
    class Model:
        def __init__(self, levels: int, *, units: "int" = 3):
            pass

    assert check_section("model", {"levels": 2}, Model) == {"levels": 2, "units": 3}
    with pytest.raises(InputError, match=r"model.levels is missing; expected int"):
        check_section("model", {}, Model)


def test_annotation_that_no_config_can_supply():
    def function(path: Path):
        pass

    with pytest.raises(TypeError, match="cannot supply"):
        check_section("data", {"path": "x"}, function)


def test_save_and_read_back(tmp_path):
    config = {"model": {"name": "htsr"}, "data": {}, "train": check(canvas=[8, 8], learning_rate=1e-4), "eval": {}}
    path = tmp_path / "config.yml"
    save_config(config, path)
    again = read_config(path)
    assert differences(config, again) == []
    assert check_section("train", again["train"], fit, reserved=("clips",)) == config["train"]
    assert [file.name for file in tmp_path.iterdir()] == ["config.yml"]


def test_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "config.yml"
    save_config({"train": {"steps": 1}}, path)
    with pytest.raises(yaml.YAMLError):
        save_config({"train": {"steps": object()}}, path)
    assert yaml.safe_load(path.read_text()) == {"train": {"steps": 1}}
    assert len(list(tmp_path.iterdir())) == 1


def test_differences_name_key_and_both_values():
    old = {"train": {"steps": 100, "canvas": [8, 8], "gone": 1}, "eval": {"horizon": 3}}
    new = {"train": {"steps": 200, "canvas": (8, 8), "added": "x"}, "eval": {"horizon": 4}}
    assert differences(old, new) == [
        "train.steps: 100 (int) before, 200 (int) now",
        "train.gone: 1 (int) before, absent now",
        "train.added: absent before, 'x' (str) now",
        "eval.horizon: 3 (int) before, 4 (int) now",
    ]
    assert differences(old, new, ignore=("eval", "train.steps", "train.gone", "train.added")) == []


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("configs/mmnist.yml", "logs/mmnist"),
        ("configs/cwvae/mmnist.yml", "logs/cwvae/mmnist"),
        ("/somewhere/configs/old/configs/a/b.yml", "logs/a/b"),
        ("/elsewhere/mine.yml", "logs/mine"),
    ],
)
def test_run_folder(config, folder):
    assert run_folder("logs", config) == Path(folder)


def test_run_folder_from_inside_configs(tmp_path, monkeypatch):
    (tmp_path / "configs" / "cwvae").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "configs" / "cwvae")
    assert run_folder("logs", "mmnist.yml") == Path("logs/cwvae/mmnist")


@pytest.mark.parametrize("name", ["", " ", ".", "/tmp/x", "../x"])
def test_run_name_stays_below_the_log_folder(name):
    with pytest.raises(InputError, match="run name must be"):
        run_folder("logs", "configs/mmnist.yml", name)


def test_config_does_not_import_tensorflow():
    code = "import sys, htsr.config; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_config_is_found_by_path_or_by_name(tmp_path, monkeypatch):
    bundled = Path(htsr.__file__).parents[1] / "configs"
    monkeypatch.chdir(tmp_path)
    for name in ("cms_lstm/mmnist", "cms_lstm/mmnist.yml", "configs/cms_lstm/mmnist.yml"):
        assert find_config(name) == bundled / "cms_lstm" / "mmnist.yml"
    assert run_folder("logs", find_config("cms_lstm/mmnist")) == Path("logs/cms_lstm/mmnist")
    Path("mmnist").write_text("model:")
    assert find_config("mmnist") == Path("mmnist")
    Path("kth").mkdir()  # such as a folder of data
    assert find_config("kth") == bundled / "kth.yml"
    with pytest.raises(InputError, match=r"config file mmnist_labtop does not exist.*; did you mean 'mmnist_laptop'\?"):
        find_config("mmnist_labtop")
    with pytest.raises(InputError, match=r"give a path or one of cms_lstm/mmnist, .*videos"):
        find_config("#")
