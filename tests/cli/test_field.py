"""What users' machines, environments and names do to the commands: each once went wrong without a word, or loudly."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import field
import numpy as np
import pytest
from command import ROOT, run, start_child

from htsr.data.video.files import write_video
from htsr.errors import InputError, lasting_output
from htsr.files import cache_folder, new_file
from htsr.report import figures
from htsr.runs import checkpoints

pytestmark = pytest.mark.usefixtures("plain_graphs")

BAD = os.fsdecode(b"caf\xe9")  # Latin 1, as old archives have it


def train(folder, data, *arguments):
    return run("train", "--config", field.config(folder), "--logdir", folder / "logs", "--datadir", data, *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return field.write(tmp_path_factory.mktemp("data"), **{f"part{n}": field.noise(n) for n in range(4)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("trained")
    done = train(folder, data)
    assert done.returncode == 0, done.stderr
    return folder / "logs" / "tiny"


# Names


def test_bytes_that_are_not_utf8_are_read(tmp_path, trained):
    source = tmp_path / BAD
    field.write(source, a=field.noise(1), b=field.noise(2))
    (source / "b.npy").rename(source / f"{BAD}.npy")
    write_video(tmp_path / "c.avi", field.noise(3), 10, "FFV1")
    (tmp_path / "c.avi").rename(source / f"{BAD}.avi")
    done = run("prepare", source, "--out", tmp_path / f"out{BAD}", "--size", 16, "--gray")
    assert done.returncode == 0, done.stderr
    assert "  caf\\udce9.avi       40 frames  10 fps" in done.stdout
    assert "caf\\udce9.npy" in done.stdout
    assert (tmp_path / f"out{BAD}" / "contact_sheet.png").is_file()
    arguments = ("--logdir", trained, "--input", source / f"{BAD}.avi")
    done = run("predict", *arguments, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "p" / "predict.json").read_text())["input"] == "caf\\udce9.avi"
    for done in (
        run("predict", *arguments, "--out", tmp_path / f"p{BAD}"),
        train(tmp_path, source, "--name", BAD),
    ):
        assert done.returncode == 2, done.stderr
        assert "is not UTF-8, which TensorFlow and OpenCV need; rename it" in done.line


def test_a_new_line_in_a_name_breaks_no_table(tmp_path):
    field.write(tmp_path / "in", **{"a\nb": field.noise(1), "c": field.noise(2), "d": field.noise(3)})
    done = run("prepare", tmp_path / "in", "--out", tmp_path / "out", "--size", 16)
    assert "  a\\nb.npy       40 frames  no frame rate\n" in done.stdout


@pytest.mark.parametrize("name", ["clips #2", "2024", "1e3", "12:30", "a: b", "[old]", "null", "~"])
def test_the_folder_that_was_named_is_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    field.write(tmp_path / "clips", x=field.noise(1), y=field.noise(2), z=field.noise(3))  # of a name that is cut
    done = train(tmp_path, name)
    assert (done.returncode, done.line) == (2, f"error: folder {name} does not exist; expected one with videos")
    done = run("train", "--config", "kth", "--logdir", tmp_path / "logs", "--datadir", name)
    assert (done.returncode, name in done.line) == (2, True)


# Output that nobody reads, and of other encodings


def test_a_reader_that_stops_stops_nothing(tmp_path, data):
    """``htsr prepare … | head -1``."""
    process = start_child("prepare", data, "--out", tmp_path / "out", "--size", 16, "--gray",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    process.stdout.close()
    assert (process.wait(300), process.stderr.read().count("Broken pipe")) == (0, 0)
    process.stderr.close()
    names = {"frames.npy", "manifest.json", "contact_sheet.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_output_without_a_place_to_go():
    code = "import sys\nfrom htsr.errors import lasting_output\nwith lasting_output():\n    print('… \\udce9'); "
    code += "print('x', file=sys.stderr, flush=True); print('y', flush=True)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout == b"\\u2026 \\udce9\ny\n"
    for closed in ("<&- >&- 2>&-", "2>/dev/full"):
        command = f'"{sys.executable}" -c "$0" {closed}'
        assert subprocess.run(["bash", "-c", command, code], env=environment, check=False).returncode == 0


def test_output_is_given_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), lasting_output():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


# Settings of the user's


def test_settings_of_other_programs_change_nothing(tmp_path, data, trained):
    """A notebook's Matplotlib, a matplotlibrc with LaTeX, Keras's own file and backend, a strict ASCII terminal."""
    (tmp_path / ".keras").mkdir()
    settings = {"image_data_format": "channels_first", "floatx": "float16", "backend": "jax", "epsilon": 0.1}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: serif\nbackend: tkagg\n")
    environment = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "KERAS_BACKEND": "torch",
        "HOME": str(tmp_path),
        "MATPLOTLIBRC": str(tmp_path),
        "PYTHONIOENCODING": "ascii:strict",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        process = start_child("train", "--config", field.config(tmp_path), "--logdir", tmp_path, "--datadir", data,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "not drawn" not in error
    assert (tmp_path / "tiny" / "training.png").is_file()
    logs = [(logdir / "metrics.jsonl").read_text().splitlines() for logdir in (tmp_path / "tiny", trained)]
    for one, other in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_another_backend_of_keras_is_refused_in_one_line():
    code = "import os, sys, types; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras; "
    code += "keras.backend.backend = lambda: 'jax'; import htsr.models"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "InputError: htsr computes with TensorFlow, but Keras was imported with the backend jax" in done.stderr


def test_a_picture_that_fails_costs_no_step(tmp_path, data, monkeypatch):
    def fail(*_):
        raise RuntimeError("latex was\nnot found")

    monkeypatch.setattr(figures, "save_strip", fail)
    done = train(tmp_path, data)
    assert done.returncode == 0, done.stderr
    assert "pictures of step 2 not drawn: latex was not found" in done.stderr
    assert checkpoints.load(tmp_path / "logs" / "tiny" / "model")[0] == 2


def test_a_user_without_a_home(monkeypatch, tmp_path):
    monkeypatch.delenv("HTSR_CACHE")
    monkeypatch.setenv("HOME", "/proc/none")
    with pytest.raises(InputError, match=r"kept in the home folder, but .*; set HTSR_CACHE to a folder"):
        cache_folder()

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(InputError, match="but this user has none; set HTSR_CACHE to a folder"):
        cache_folder()


# The way out


def test_a_run_that_cannot_be_written_to(tmp_path, trained, monkeypatch):
    locked = shutil.copytree(trained, tmp_path / "tiny")
    before = sorted(locked.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    done = run("evaluate", "--logdir", locked)
    assert done.returncode == 2
    assert "tiny cannot be written to; name a folder for the results (--out)" in done.line
    done = run("evaluate", "--logdir", locked, "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "curves.json").is_file()
    done = run("compare", f"a={locked}", f"b={trained}", "--out", tmp_path / "comparison")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "comparison" / "results" / "a" / "curves.json").is_file()
    assert sorted(locked.rglob("*")) == before


def test_small_frames_go_without_ssim(tmp_path):
    small = field.write(tmp_path / "small", **{f"part{n}": field.noise(n, size=8) for n in range(4)})
    done = run("train", "--config", field.config(tmp_path, data={"image_size": 8}), "--logdir", tmp_path,
               "--datadir", small)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("evaluate", "--logdir", tmp_path / "tiny")
    assert done.returncode == 0, done.stderr
    assert "warning: SSIM is left out: its window takes frames of at least 11x11 pixels" in done.stdout
    assert "PSNR (dB)" in done.stdout


def test_a_finished_run_is_trained_further(tmp_path, data, trained):
    folder = tmp_path / "logs" / "tiny"
    shutil.copytree(trained, folder)
    done = train(tmp_path, data, "--set", "train.steps=3")
    assert (done.returncode, "is at step 3 of 3" in done.line) == (0, True), done.stderr
    whole = train(tmp_path, data, "--set", "train.steps=3", "--name", "whole")
    assert whole.returncode == 0
    for name, array in checkpoints.load(tmp_path / "logs" / "whole" / "model")[1].items():
        np.testing.assert_allclose(checkpoints.load(folder / "model")[1][name], array, rtol=1e-3, atol=1e-6)
    cosine = ("--set", "train.schedule=cosine", "--name", "further")
    done = train(tmp_path, data, "--set", "train.steps=2", *cosine, "--from-run", folder)
    assert done.returncode == 0, done.stderr
    assert "further is at step 2 of 2" in done.line
    done = train(tmp_path, data, "--set", "train.steps=4", *cosine)
    assert done.returncode == 2
    assert "with the schedule cosine, and now train.steps is 4; restore it, or train the weights further" in done.line


def test_new_runs_begin_with_weights_and_slots(tmp_path, data, trained):
    done = train(
        tmp_path, data, "--set", "train.learning_rate=1.0e-30", "--set", "train.steps=1", "--from-run", trained
    )
    assert done.returncode == 0, done.stderr
    before = checkpoints.load(trained / "model")[1]
    after = checkpoints.load(tmp_path / "logs" / "tiny" / "model")[1]
    for name in before:
        if name.startswith("model/"):
            np.testing.assert_allclose(after[name], before[name], atol=1e-12)
    assert after["optimizer/iteration"] == before["optimizer/iteration"] / 2  # of one step, not of three
    done = train(tmp_path, data, "--name", "other", "--from-run", tmp_path)
    assert (done.returncode, "is not a run folder" in done.line) == (2, True)


def test_too_long_a_warm_up_names_the_flag(tmp_path, data):
    done = train(tmp_path, data, "--set", "train.steps=100", "--set", "train.warmup_steps=200", "--name", "w")
    assert done.returncode == 2
    assert "received 200: add --set train.warmup_steps=10, or raise train.steps" in done.line


@pytest.mark.parametrize("fps", [0.5, 25, 60, 240])
def test_films_have_the_frame_rate_of_the_input(tmp_path, trained, fps):
    import av

    write_video(tmp_path / "a.avi", field.noise(1), fps, "FFV1")
    done = run("predict", "--logdir", trained, "--input", tmp_path / "a.avi", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out" / "prediction.mp4")) as film:
        assert float(film.streams.video[0].average_rate) == pytest.approx(fps)


def test_files_take_any_text(tmp_path):
    with new_file(tmp_path / "a.html") as file:
        file.write(BAD)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "caf\\udce9"
