"""A sample of benchmarks.faults: disturbed trainings end as undisturbed ones."""

import json
import os
import subprocess
import sys

import command
import pytest


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="mounts file systems")
def test_twenty_faults(tmp_path):
    program = [sys.executable, "-m", "benchmarks.faults", "--faults", "20", "--works", "train, videos", "prepare"]
    program += ["--out", tmp_path / "found.json"]
    done = subprocess.run(program, cwd=command.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) >= 20
    assert not [record for record in found if record["failure"]]
