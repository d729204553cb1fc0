"""A sample of benchmarks.fuzz: every reader reads, or refuses in one line, what is damaged or hostile."""

import os
import random
import subprocess
import sys
import tempfile

import command
import pytest

from benchmarks.fuzz.__main__ import TARGETS, TENSORFLOW
from htsr.errors import InputError

SLOW = {*TENSORFLOW, "command_line", "containers", "uploads", "netcdf", "taxi"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_forty_inputs(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir(tmp_path.parent))
    read = TARGETS[name]()
    for number in range(40):
        try:
            read(random.Random(f"{name}/test/{number}"))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert set(os.listdir(tmp_path.parent)) == before


@pytest.mark.slow
def test_a_thousand_inputs(tmp_path):
    """All readers, in processes that are watched: time, memory, files elsewhere."""
    program = [sys.executable, "-m", "benchmarks.fuzz", "--inputs", "1000", "--out", tmp_path / "found.json"]
    done = subprocess.run(program, cwd=command.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'wrong': []") == len(TARGETS), done.stdout
