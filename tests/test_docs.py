"""README and docs: links and anchors exist, every command is one that its parser accepts, examples run, shrunk."""

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from htsr.config import check_section, read_config, save_config
from htsr.data.video.files import write_video

pytestmark = pytest.mark.usefixtures("plain_graphs")
ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name / "README.md" for name in ("pretrained", "benchmarks")),
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
RESULTS = sorted((DOCS / "results").glob("*.yml"))
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.M | re.S)
OTHER_PROGRAMS = ("python3 -m venv", "pip install", "pytest", "ruff", "make -C docs html", "source", "curl", '"inputs"')


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in some languages."""
    return [text for language, text in FENCE.findall(path.read_text()) if language in languages]


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def extensions(monkeypatch):
    """The modules of docs/extensions can be imported."""
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))


# ---- pages


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match("https?:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link} does not exist"
        assert path.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(path), f"{link}: the page has {sorted(anchors(path))}"


def test_readme_is_one_page():
    assert (ROOT / "README.md").stat().st_size <= 8000


def test_readme_names_every_dataset_config_and_model():
    from htsr.data import DATASETS

    readme = (ROOT / "README.md").read_text()
    assert [name for name in DATASETS if f"`{name}`" not in readme] == []
    train = (DOCS / "train.md").read_text()
    for folder in {path.parent for path in (ROOT / "configs").rglob("*.yml")}:
        name = folder.relative_to(ROOT / "configs").as_posix()
        assert name == "." or f"`{name}/" in train, f"docs/train.md does not name configs/{name}"


def test_tree_in_the_design_is_that_of_the_package(extensions):
    package_tree = importlib.import_module("package_tree")
    page = (DOCS / "design.md").read_text()
    assert package_tree.replaced(page) == page, "run python docs/extensions/package_tree.py"


@pytest.mark.parametrize("path", RESULTS, ids=name_of)
def test_result_files(path, extensions):
    results = importlib.import_module("results")
    result = results.read(path)
    assert len(re.findall(r"^\|---", results.markdown(result), re.M)) == len(result["tables"])
    pages = [page for page in PAGES if f"{{results}} {path.stem}\n" in page.read_text()]
    assert len(pages) == 1


def test_reference_has_every_room():
    rooms = {path.parent.name for path in (ROOT / "htsr").glob("*/__init__.py")} - {"cli"}
    assert {path.stem for path in (DOCS / "api").glob("*.md")} == {*rooms, "base", "index"}


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path):
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="the documentation's tools, extra docs, are not installed")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", str(DOCS), str(tmp_path / "html")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "html" / "api" / "models.html").exists()


# ---- commands


def htsr_command(line: str) -> list[str] | None:
    """Return the arguments of ``htsr`` in a line of shell, or None for another program's."""
    line = re.sub(r"^(\w+=\S+ )+", "", line.strip()).replace(".venv/bin/", "")
    for start, command in {
        "python -m htsr ": [],
        "htsr ": [],
        "python train.py": ["train"],
        "python eval_with_LPIPS.py": ["evaluate"],
    }.items():
        if line.startswith(start):
            return command + shlex.split(line.removeprefix(start))
    return None


def shell_lines(path: Path) -> list[str]:
    """Return the commands of a page's shell blocks."""
    text = "\n".join(blocks(path, "bash", "sh")).replace("\\\n", " ")
    return [line.strip() for whole in text.splitlines() for line in whole.split(" && ") if line.strip()]


def documented(path: Path) -> list[list[str]]:
    """Return every ``htsr`` command with arguments of a page: in shell blocks, in code among prose, in its results."""
    lines = shell_lines(path) + re.findall(r"`([^`\n]+)`", prose(path))
    for name in re.findall(r"^```{results} (\w+)", path.read_text(), re.M):
        lines += yaml.safe_load((DOCS / "results" / f"{name}.yml").read_text())["commands"]
    return [command for line in lines if (command := htsr_command(line)) and len(command) > 1]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_a_page_are_accepted(page):
    commands = importlib.import_module("htsr.cli.main").COMMANDS
    for line in shell_lines(page):
        assert htsr_command(line) or any(program in line for program in OTHER_PROGRAMS) or "python -m" in line, line
    for module in re.findall(r"python -m ((?:htsr|benchmarks)\.[\w.]+)", page.read_text()):
        assert importlib.util.find_spec(module), f"{page}: python -m {module}"
    for command in documented(page):
        arguments = [argument.strip("[]") if "=[" not in argument else argument for argument in command[1:]]
        module = importlib.import_module(f"htsr.cli.{commands[command[0]][0]}")
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        try:
            parsed = vars(parser.parse_args(arguments))
        except (SystemExit, argparse.ArgumentError) as error:
            pytest.fail(f"htsr {shlex.join(command)} is not accepted: {error}")
        if parsed.get("config") and not parsed["config"].startswith("logs/"):
            check_config(parsed["config"], parsed["set"])


def check_config(name: str, overrides: list[str]) -> None:
    """Refuse a config or an override with a key that nothing reads."""
    from htsr.config import find_config
    from htsr.data import DATASETS
    from htsr.models import MODELS

    config = read_config(find_config(name), overrides)
    for section, table in {"model": MODELS, "data": DATASETS}.items():
        values = dict(config[section])
        check_section(section, values, table[values.pop("name")], reserved=("split", "frame_shape"))


def test_example_of_a_config():
    from htsr.models import MODELS

    (example,) = blocks(DOCS / "train.md", "yaml")
    values = yaml.safe_load(example)["model"]
    check_section("model", values, MODELS[values.pop("name")])


TINY = [
    *("model.stoch=4", "model.deter=8", "model.units=8", "model.dense_layers=1", "model.dense_units=8"),
    *("model.channels_mult=0.125", "model.imagine_from=6", "model.decoded_frames=2", "data.seq_len=12"),
    *("data.batch_size=2", "train.steps=1", "train.warmup_steps=0", "train.valid_examples=1"),
    *("train.valid_context=6", "train.valid_horizon=2", "eval.context=6", "eval.horizon=2"),
]
SHORT = ["--horizon", "2", "--open-loop-ctx", "6", "--num-examples", "2"]

# Documented commands in the order in which they are run, each with what makes it short.
JOURNEY = {
    "train --config mmnist_laptop": [argument for setting in TINY for argument in ("--set", setting)],
    "evaluate --logdir logs/mmnist_laptop --horizon 300": [*SHORT, "--no-latents", "--set", "eval.lpips=false"],
    "compare A=logs/a B=logs/b --out comparison": SHORT,
    "export --logdir logs/mmnist_laptop --out exported/mmnist": [],
    "release logs/mmnist_laptop pretrained/mine": [],
    "prepare my_videos --size 64 --gray --out data/mine": [],
    "predict --logdir logs/videos --input clip.mp4 --horizon 300 --num-samples 3 --out out": ["--horizon", "2"],
    "predict --pretrained htsr-mmnist-laptop --demo": ["--horizon", "2"],
}


def test_documented_commands_run(tmp_path, monkeypatch):
    main = importlib.import_module("htsr.cli.main").main
    monkeypatch.chdir(tmp_path)
    known = [shlex.join(command) for page in PAGES for command in documented(page)]
    Path("my_videos").mkdir()
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 256, (40, 64, 64, 3), np.uint8)
        write_video(Path("my_videos") / f"{number}.avi", frames, 10, "FFV1")
    write_video(Path("clip.mp4"), frames, 10, "mp4v")
    for command, shorter in JOURNEY.items():
        assert command in known, f"no page has htsr {command}"
        assert main([*shlex.split(command), *shorter]) == 0, command
        if command.startswith("train"):
            for copy in ("a", "b", "videos"):
                shutil.copytree("logs/mmnist_laptop", f"logs/{copy}")
    assert list(Path("logs/mmnist_laptop/eval").glob("*/report.html"))
    for result in ("comparison/report.html", "exported/mmnist/saved_model.pb", "pretrained/mine/model.md"):
        assert Path(result).exists(), result
    assert np.load("out/prediction.npz")["prediction"].shape == (3, 2, 64, 64, 1)
    assert Path("demo/prediction.gif").exists()


# ---- examples in Python

SHORTER = {
    "horizon=300": "horizon=2",
    "horizon=64": "horizon=2",
    "seq_len=100": "seq_len=38",
    "steps=20": "steps=1",
}


def run_examples(page: Path, names: dict) -> dict:
    """Run the Python blocks of a page from top to bottom, shortened: the names they leave."""
    for block in blocks(page, "python"):
        short = re.sub("|".join(SHORTER), lambda found: SHORTER[found[0]], block)
        exec(compile(short, str(page), "exec"), names)
    return names


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the trained models beside, as the repository's top folder has them."""
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "quickstart.md"], ids=name_of)
def test_first_lines_of_python(page, workplace):
    assert run_examples(page, {})["frames"].shape == (1, 4, 2, 64, 64, 1)


def test_examples_of_python_and_export(workplace):
    """With a small model in the place of the trained one."""
    import tensorflow as tf

    from htsr.models import build_model
    from htsr.runs import checkpoints

    (workplace / "pretrained").unlink()
    run = workplace / "pretrained" / "htsr-mmnist-laptop"
    small = {"name": "recurrent", "cell": "conv_lstm", "filters": [4], "layer_norm": False, "embed": False}
    run.mkdir(parents=True)
    save_config({"model": small, "data": {}, "train": {}, "eval": {}}, run / "config.yml")
    checkpoints.save(run / "model", 1, checkpoints.model_arrays(build_model(**small)))
    x = np.random.default_rng(0).random((4, 11, 16, 16, 1), np.float32)
    arrived = np.zeros((4, 64, 64, 1), np.float32)
    names = run_examples(DOCS / "python.md", {"x": x[:, :10], "y": x[:, 10], "arrived": arrived})
    assert names["frames"].shape == (3, 4, 2, 64, 64, 1)
    assert names["distance"].shape == (4, 2)
    assert names["network"].predict(x[:1, :10], verbose=0).shape == (1, 16, 16, 1)
    assert names["frame"].shape == (4, 64, 64, 1)
    (workplace / "exported" / "mmnist").symlink_to(workplace / "exported")
    assert run_examples(DOCS / "export.md", {"tf": tf, "context": names["context"]})["frames"].shape[:3] == (3, 4, 2)


def test_examples_of_extending(workplace, monkeypatch):
    from htsr.data import DATASETS
    from htsr.metrics.metric import METRICS
    from htsr.models import MODELS

    for table in (DATASETS, METRICS, MODELS):
        for name in ("stripes", "worst_pixel", "frame_mixer"):
            monkeypatch.setitem(table, name, None)
            monkeypatch.delitem(table, name)  # so that what the page adds is gone after the test
    names = run_examples(DOCS / "extend.md", {"__name__": "examples"})
    assert names["batch"].shape == (4, 12, 64, 64, 1)
    assert names["frames"].shape == (1, 2, 30, 64, 64, 1)
    assert np.abs(np.diff(names["clips"].window(0).astype(int), axis=0)).max() == 255
