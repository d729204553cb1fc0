"""``htsr prepare``: what it says about a folder of videos, and that training reads what it made."""

import os
import re

import numpy as np
import pytest
from command import run
from PIL import Image

from htsr.data import load_clips
from htsr.data.video.files import write_video


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "my").mkdir()
    for number in range(1, 4):
        frames = np.random.default_rng(number).integers(0, 256, (20, 24, 32, 3), np.uint8)
        write_video(tmp_path / "my" / f"{number}.avi", frames, 10, "FFV1")
    (tmp_path / "my" / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "my" / "notes.txt").write_text("left alone")
    return tmp_path / "my"


def test_it_says_what_it_found_and_training_reads_the_result(videos, tmp_path):
    out = tmp_path / "data" / "mine"
    done = run("prepare", videos, "--size", 24, 32, "--gray", "--out", out)
    assert done.returncode == 0
    said = done.stdout
    assert "4 videos found" in said
    assert "passed over, since they are no videos: notes.txt\n" in said
    assert "1.avi       20 frames  10 fps" in said
    assert "refused: video broken.mp4 cannot be decoded" in said
    assert all(f"{split}: 20 frames in 1: " in said for split in ("train", "valid", "test"))
    assert f"htsr train --config videos --datadir {out}" in said
    with Image.open(out / "contact_sheet.png") as sheet:
        width, height = sheet.size
    assert width > 8 * 64
    assert height > 3 * 48
    raw = {"image_size": (24, 32), "channels": 1, "damaged": "skip"}
    for split in ("train", "test"):
        prepared = load_clips("videos", split, datadir=str(out), batch_size=1, seq_len=20)
        same = load_clips("videos", split, datadir=str(videos), batch_size=1, seq_len=20, **raw)
        np.testing.assert_array_equal(prepared.window(0), same.window(0))


def test_one_file(videos, tmp_path):
    done = run("prepare", videos / "1.avi", "--out", tmp_path / "one")
    assert done.returncode == 0
    assert "train: 14 frames in 1: 1.avi (frames 0 to 13)" in done.stdout
    assert "passed over" not in done.stdout
    assert load_clips("videos", "test", datadir=str(tmp_path / "one"), batch_size=1, seq_len=3).shape == (3, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{tmp}"], "exists; give --out a new folder"),
        (["--out", "{tmp}/new", "--damaged", "refuse"], "video broken.mp4 cannot be decoded"),
        (["--out", "{tmp}/new", "--damaged", "keep"], "unknown --damaged 'keep'; .*known: refuse, skip"),
        (["--out", "{tmp}/new", "--fit", "squeeze"], "unknown fit 'squeeze'"),
        (["--out", "{tmp}/new", "--size", "0"], "image_size must be a whole number of at least 1"),
        (["--out", "{tmp}/new", "--size", "1", "2", "3"], "--size takes one number, or height and width"),
    ],
)
def test_refused_arguments_leave_nothing_behind(videos, tmp_path, arguments, message):
    before = sorted(tmp_path.iterdir())
    done = run("prepare", videos, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2
    error = done.line
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert sorted(tmp_path.iterdir()) == before


def test_the_synthetic_label_stays(videos, tmp_path):
    (videos / "SYNTHETIC.txt").write_text("synthetic stand-in for KTH")
    run("prepare", videos, "--gray", "--out", tmp_path / "mine")
    clips = load_clips("videos", "train", datadir=str(tmp_path / "mine"), batch_size=1, seq_len=5)
    assert clips.note == "synthetic stand-in for KTH"
    assert clips.resolved == {"image_size": [64, 64], "channels": 1, "fit": "stretch"}


def test_other_folders_beside_the_result_are_left_alone(videos, tmp_path):
    foreign, ours = tmp_path / ".backup.tmp-keep", tmp_path / f".mine.tmp-{'0' * 16}"
    for path in (foreign, ours):
        path.mkdir()
        os.utime(path, (0, 0))
    run("prepare", videos, "--out", tmp_path / "mine")
    assert foreign.is_dir()
    assert not ours.exists()


def test_prepared_size_and_asked_size_must_agree(videos, tmp_path):
    run("prepare", videos, "--gray", "--out", tmp_path / "mine")
    arguments = {"datadir": str(tmp_path / "mine"), "batch_size": 1, "seq_len": 5}
    assert load_clips("videos", "train", **arguments, image_size=64, channels=1).shape == (5, 64, 64, 1)
    for wrong, message in (({"image_size": 32}, r"was prepared with image_size \[64, 64\], but data.image_size is 32"),
                           ({"channels": 3}, "was prepared with channels 1, but data.channels is 3"),
                           ({"fit": "crop"}, "was prepared with fit stretch, but data.fit is crop")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_clips("videos", "train", **arguments, **wrong)
