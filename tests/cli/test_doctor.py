"""What ``htsr doctor`` finds, check by check, and its screen."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

from htsr.cli import doctor

GIB = 2**30


def machine(**changes):
    packages = {"tensorflow": "2.21.0", "tensorflow-probability": "0.25.0", "tf-keras": "2.21.0", "numpy": "2.4.6"}
    disk = {"current folder": (Path("/data"), 50 * GIB), "cache": (Path("/home/ada/.cache/htsr"), 50 * GIB)}
    well = doctor.Machine(
        packages, {}, None, "a processor", [], [], (8, 4), math.inf, (16.0 * GIB, 8.0 * GIB, math.inf), "utf-8", set(),
        disk, (Path("/home/ada/.cache/htsr"), 3, 2 * GIB)
    )  # fmt: skip
    return well._replace(**changes)


def traps(**changes):
    return [trap for trap in doctor.known_traps(machine(**changes)) if trap]


def test_nothing_is_said_of_a_machine_that_is_well():
    assert traps() == []


@pytest.mark.parametrize(
    ("changes", "trap"),
    [
        ({"failure": "No module named 'tensorflow'"}, "TensorFlow cannot be imported (No module named 'tensorflow'): "),
        ({"gpus": ["an A100", "another"], "seen": ["an A100"]}, "TensorFlow sees 1 of 2 GPUs: pip install "),
        ({"gpus": ["an A100"], "environ": {"CUDA_VISIBLE_DEVICES": ""}}, "TensorFlow sees 0 of 1 GPUs: CUDA_VISIBLE_"),
        ({"packages": {"tensorflow-probability": "0.25.0"}}, "TensorFlow Probability cannot be imported without tf_k"),
        ({"packages": {"opencv-python": "5", "opencv-python-headless": "5"}}, "opencv-python opencv-python-headless "),
        (
            {"packages": {"tensorflow": "2", "tensorflow-cpu": "2"}},
            "tensorflow and tensorflow-cpu overwrite",
        ),
        ({"environ": {"TF_ENABLE_ONEDNN_OPTS": "0"}}, "TF_ENABLE_ONEDNN_OPTS=0 makes convolutions"),
        ({"environ": {"OMP_NUM_THREADS": "1"}}, "OMP_NUM_THREADS=1 slows NumPy"),
        (
            {"quota": 1.5},
            "TensorFlow starts 4 threads, but the container has time for 1.5: set",
        ),
        ({"encoding": "iso8859-1"}, "names of files are read as iso8859-1, TensorFlow and OpenCV need UTF-8"),
        ({"cache": "the home folder is read-only; set HTSR_CACHE"}, "the home folder is read-only; set HTSR_CACHE"),
        (
            {"unwritable": {Path("/home/ada")}},
            "/home/ada cannot be written to: set HOME to another folder, or HTSR_",
        ),
        (
            {"unwritable": {Path("/mnt/cache")}, "environ": {"HTSR_CACHE": "/mnt/cache"}},
            "the cache /mnt/cache cannot be written to: set HTSR_CACHE",
        ),
        ({"disk": {"cache": (Path("/c"), GIB // 2)}}, "only 0.50 GiB of disk are free for the cache, /c: set HTSR"),
    ],
)
def test_a_trap_is_named_with_its_remedy(changes, trap):
    (said,) = traps(**changes)
    assert said.startswith(trap)
    assert "\n" not in said


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": ["an A100"], "seen": ["an A100"]},
        {"packages": {"opencv-contrib-python": "5"}},
        {"environ": {"TF_ENABLE_ONEDNN_OPTS": "1"}},
        {"environ": {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}},
        {"environ": {"OMP_NUM_THREADS": "1"}, "processors": (8, 1)},
        {"environ": {"TF_NUM_INTRAOP_THREADS": "2"}, "quota": 2.0},
        {"encoding": "UTF-8"},
        {"unwritable": {Path("/home/ada")}, "environ": {"HTSR_CACHE": "/mnt/cache", "MPLCONFIGDIR": "/tmp"}},
    ],
)
def test_a_trap_is_named_only_where_it_applies(changes):
    assert traps(**changes) == []


def test_limits_of_control_groups(tmp_path):
    """Of the process's group and of those above it, the smallest."""
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    (job / "cpu.max").write_text("max 100000\n")
    (job / "memory.max").write_text("max\n")
    assert doctor.control_groups(tmp_path, "0::/slurm/job\n") == (math.inf, math.inf)
    (job.parent / "cpu.max").write_text("250000 100000\n")
    (job.parent / "memory.max").write_text(f"{4 * GIB}\n")
    assert doctor.control_groups(tmp_path, "0::/slurm/job\n") == (2.5, 4 * GIB)
    assert doctor.control_groups(tmp_path, "0::/elsewhere\n") == (math.inf, math.inf)


def test_limits_of_control_groups_of_version_1(tmp_path):
    for name, files in {
        "cpu": {"cpu.cfs_quota_us": -1, "cpu.cfs_period_us": 100000},
        "cpu/docker": {"cpu.cfs_quota_us": 150000, "cpu.cfs_period_us": 100000},
        "memory": {"memory.limit_in_bytes": 2 * GIB},
    }.items():
        (tmp_path / name).mkdir()
        for file, number in files.items():
            (tmp_path / name / file).write_text(f"{number}\n")
    found = doctor.control_groups(tmp_path, "4:cpu,cpuacct:/docker\n2:memory:/docker\n1:name=systemd:/\n")
    assert found == (1.5, 2 * GIB)
    assert doctor.control_groups(tmp_path, "") == (math.inf, math.inf)


def test_a_folder_is_measured(tmp_path):
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "frames.npy").write_bytes(bytes(300))
    (tmp_path / "weights.npz").write_bytes(bytes(200))
    assert doctor.size_of(tmp_path) == (2, 500)
    assert doctor.size_of(tmp_path / "none") == (0, 0)
    assert doctor.existing(tmp_path / "none" / "below") == tmp_path


def test_the_driver_is_asked_for_gpus(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 1 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.nvidia_smi() == ["NVIDIA H100 80GB HBM3, 81559 MiB, 1 MiB of them used"]


def test_the_screen(monkeypatch):
    monkeypatch.setattr(doctor, "examine", machine)
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) < 24
    assert lines[-1] == "no known trap applies"
    assert "threads    4 of 8 processors, no quota" in lines
    assert "memory     16.0 GiB, 8.0 available, no limit" in lines
    monkeypatch.setattr(doctor, "examine", lambda: machine(environ={"OMP_NUM_THREADS": "1"}))
    done = run("doctor")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("! OMP_NUM_THREADS=1 ")


@pytest.mark.parametrize(("chosen", "used"), [(None, "True"), ("0", "False")])
def test_onednn_is_used_unless_it_is_turned_off(monkeypatch, chosen, used):
    """TensorFlow alone uses it only where there is AVX-512."""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if chosen:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    code = "from htsr.runs.environment import describe; print(describe()['onednn'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{used}\n"


def test_this_machine_is_described(tmp_path, monkeypatch):
    monkeypatch.setenv("HTSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    done = run("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert "TensorFlow 2." in done.stdout
    assert "! TF_ENABLE_ONEDNN_OPTS=0 " in done.stdout
