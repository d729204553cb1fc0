"""The command ``htsr`` itself: its help, its version, unknown commands, and the aliases at the top."""

import re
import subprocess
import sys

import pytest
import yaml
from command import ROOT, run, run_child

from htsr import __version__
from htsr.cli.main import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does(name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: htsr {name} ")
    options = done.stdout.partition("\noptions:\n")[2]
    assert all(re.match(r"  -|   +\S", line) for line in options.splitlines() if line and not line.endswith(":"))
    assert ".py" not in done.stdout


def test_help_needs_neither_tensorflow_nor_opencv():
    code = (
        "import sys\nfrom htsr.cli.main import COMMANDS, main\nfor name in COMMANDS:\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit:\n        pass\n"
        "print(sorted({'tensorflow', 'keras', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_list_of_commands_and_the_version():
    done = run("--help")
    assert done.returncode == 0
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^    {name} +{summary.split()[0]}", done.stdout, re.M)
    assert run("--version")[:2] == (0, f"htsr {__version__}\n")
    assert run_child("--version")[:2] == (0, f"htsr {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "htsr: error: unknown command 'trian'; did you mean 'train'?"),
        (["xyz"], "htsr: error: unknown command 'xyz'; choose one of train, evaluate, predict, prepare, compare, "),
        ([], "htsr: error: the following arguments are required: COMMAND"),
        (["train", "--confg", "x"], "htsr train: error: the following arguments are required: --config"),
        (["export", "--logdir", "x", "--out", "y", "--fast"], "htsr export: error: unrecognized arguments: --fast"),
    ],
)
def test_a_wrong_command_line(arguments, message):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.line.startswith(message)


def test_bad_input_is_one_line_in_a_process_of_its_own(tmp_path):
    done = run_child("evaluate", "--logdir", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: nowhere is not a run folder: .*\n", done.stderr)


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("train.py", "the following arguments are required: --config"),
        ("eval_with_LPIPS.py", "one of the arguments --logdir --pretrained is required"),
    ],
)
def test_aliases_show_their_own_names(script, missing):
    done = subprocess.run([sys.executable, ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {script} ")
    assert done.stderr.splitlines()[-1] == f"{script}: error: {missing}"


@pytest.mark.parametrize("config", ["videos", "cms_lstm/mmnist_laptop"])
def test_a_config_is_shown_with_every_key(config, tmp_path):
    """What is printed is a config again, of the same meaning."""
    done = run("train", "--config", config, "--show", "--set", "train.steps=7")
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert (shown["train"]["steps"], shown["train"]["recompute"], shown["train"]["strategy"]) == (7, None, "one")
    assert "frame_shape" not in shown["model"]  # which the data says
    (tmp_path / "all.yml").write_text(done.stdout)
    assert run("train", "--config", tmp_path / "all.yml", "--show").stdout == done.stdout
    done = run("train", "--config", config, "--show", "--set", "eval.horzon=7")
    assert (done.returncode, done.line) == (2, "error: eval: unknown key 'horzon'; did you mean 'horizon'?")
