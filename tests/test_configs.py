"""Every config runs, shrunk to one step, and the README's commands name scripts, configs and flags that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from htsr.checkpoints import load_model
from htsr.config import read_config

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yml"))
SHRUNK = {
    "data.batch_size": 2,
    "train.steps": 1,
    "train.warmup_steps": 0,
    "train.accumulate": 2,
    "train.valid_examples": 1,
    "train.valid_context": 3,
    "train.valid_horizon": 2,
}


SHRUNK_MODEL = {
    "htsr": {"data.seq_len": 38},
    "recurrent": {"data.seq_len": 8, "model.filters": "[8, 8]", "model.context": 4},
}


@pytest.fixture(scope="module")
def taxibj(tmp_path_factory):
    """A file of the form of OpenSTL's dataset.npz."""
    folder = tmp_path_factory.mktemp("taxibj")
    frames = np.random.default_rng(0).uniform(-1, 1, (240, 2, 32, 32)).astype(np.float32)
    clips = frames.reshape(-1, 2, 4, 2, 32, 32)
    np.savez(
        folder / "dataset.npz",
        **{
            f"{half}_{part}": clips[some, i]
            for i, half in enumerate("XY")
            for part, some in (("train", slice(25)), ("test", slice(25, None)))
        },
    )
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT / "configs").as_posix())
def test_config_runs(path, tmp_path, monkeypatch, taxibj):
    config = read_config(path)
    shrunk = {**SHRUNK, **SHRUNK_MODEL[config["model"]["name"]]}
    settings = [argument for key, value in shrunk.items() for argument in ("--set", f"{key}={value}")]
    if config["data"]["name"] == "taxibj":
        settings += ["--datadir", str(taxibj)]
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--logdir", str(tmp_path), *settings])
    assert train.main() == 0
    run = tmp_path / path.relative_to(ROOT / "configs").with_suffix("")
    assert (run / "model" / "step_1" / "manifest.json").exists()
    assert load_model(run).count_params() > 10_000
    assert f"--config {path.relative_to(ROOT)}" in path.read_text()


def test_readme_commands():
    readme = (ROOT / "README.md").read_text()
    commands = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.S) for line in block.splitlines()]
    scripts = [command.split("python ")[-1] for command in commands if ".py" in command]
    assert len(scripts) >= 3
    for command in scripts:
        script, *arguments = shlex.split(command.replace("[", "").replace("]", ""))
        help_text = subprocess.run(
            [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for argument in arguments:
            assert not argument.startswith("--") or argument in help_text, command
            assert not argument.endswith(".yml") or (ROOT / argument).exists(), command
    for path in re.findall(r"`(configs/[\w/]+\.yml)`", readme):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("http") or (ROOT / link).exists(), link
