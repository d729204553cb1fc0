"""The log of a run after an interruption: that of the checkpoint, whatever has become of the file."""

import json
from pathlib import Path

import numpy as np
import pytest

from htsr.runs import checkpoints
from htsr.training.log import Log

DAMAGES = {
    "none": lambda path: None,
    "flipped bit": lambda path: path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step": 3')),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "zeros": lambda path: path.write_bytes(bytes(50)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "gone": Path.unlink,
}


def lines(*steps):
    return "".join(json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in steps)


def resumed(run, start):
    log = Log(run, start)
    log.write(start + 1, {"loss": 1 / (start + 1)})
    log.close()
    return (run / "metrics.jsonl").read_text()


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_goes_on_from_the_copy_in_the_checkpoint(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2))
    checkpoints.save(tmp_path / "model", 2, {"model/a": np.zeros(1)}, log=path)
    path.write_text(lines(1, 2, 3))
    DAMAGES[damage](path)
    assert resumed(tmp_path, 2) == lines(1, 2, 3)


@pytest.mark.parametrize("more", ["", '{"step": 4, "lo'])
def test_checkpoints_of_older_versions_have_none(tmp_path, more):
    checkpoints.save(tmp_path / "model", 2, {"model/a": np.zeros(1)})
    (tmp_path / "metrics.jsonl").write_text(lines(1, 2, 3) + more)
    assert resumed(tmp_path, 2) == lines(1, 2, 3)


def test_a_file_in_the_place_of_tensorboards_folder(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(OSError, match=r"tensorboard cannot be written .*; make room, or remove it"):
        Log(tmp_path, 0)
