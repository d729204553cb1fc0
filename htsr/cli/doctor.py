"""Say on one screen what this installation computes with, and what is known to go wrong on such a machine.

    htsr doctor

Versions, devices, threads, memory, free disk and the cache come first, then the known traps that apply, each with what
to do. The exit status is 0 where none applies, and 1 otherwise.
"""

import argparse
import importlib.metadata
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from htsr import __version__
from htsr.errors import InputError
from htsr.files import cache_folder

GIB = 2**30
LITTLE = 1.0  # GiB of free disk; checkpoints of the published models take most of it
SHOWN = {  # patterns of packages' names
    "TensorFlow": "tensorflow(-cpu)?",
    "Keras": "keras",
    "TensorFlow Probability": "tensorflow-probability",
    "NumPy": "numpy",
    "PyAV": "av",
    "OpenCV": "opencv-.*",
}
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class Machine(NamedTuple):
    """What is known of the machine and of the process.

    Attributes:
        packages: versions of what is installed, by names in lower case with hyphens.
        environ: variables of the process.
        failure: why TensorFlow cannot be imported, or None.
        processor: its name.
        gpus: what the driver of NVIDIA lists, a line each.
        seen: what TensorFlow sees of them, a line each.
        processors: of the machine, and those on which this process may run.
        quota: processors' worth of time that the control groups give it; infinite where they do not say.
        memory: bytes of RAM, bytes of them that are available, and bytes that the control groups give the process.
        encoding: of names of files and of text.
        unwritable: which of the home folder and the cache cannot be written to.
        disk: for every place its folder and its free bytes.
        cache: the folder of the cache, its entries, and their bytes; or why there is none.
    """

    packages: Mapping[str, str]
    environ: Mapping[str, str]
    failure: str | None
    processor: str
    gpus: list[str]
    seen: list[str]
    processors: tuple[int, int]
    quota: float
    memory: tuple[float, float, float]
    encoding: str
    unwritable: set[Path]
    disk: dict[str, tuple[Path, int]]
    cache: tuple[Path, int, int] | str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command: none."""


def run(args: argparse.Namespace) -> int:
    """Print the screen: 1 where a trap applies, else 0."""
    machine = examine()
    print("\n".join(describe(machine)))
    traps = [trap for trap in known_traps(machine) if trap]
    print("\n".join(f"! {trap}" for trap in traps) or "no known trap applies")
    return int(bool(traps))


# ---- what there is


def examine() -> Machine:
    """Look at the machine and at this process."""
    from htsr.runs import environment

    try:
        environment.import_tensorflow_quietly()
        known, failure = environment.describe(), None
    except ImportError as error:
        known, failure = {"processor": platform.processor(), "gpus": []}, " ".join(str(error).split())
    count = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    membership = Path("/proc/self/cgroup")
    quota, limit = control_groups(Path("/sys/fs/cgroup"), membership.read_text() if membership.exists() else "")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    available = re.search(r"MemAvailable: +(\d+)", meminfo.read_text() if meminfo.exists() else "")
    disk = {"current folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    try:
        disk["cache"] = cache_folder()
        cache = (disk["cache"], *size_of(disk["cache"]))
    except InputError as error:
        cache = str(error)
    homes = {Path(os.path.expanduser("~")), *([disk["cache"]] if "cache" in disk else [])}
    return Machine(
        {name.lower().replace("_", "-"): d.version for d in importlib.metadata.distributions() if (name := d.name)},
        dict(os.environ),
        failure,
        known["processor"],
        nvidia_smi(),
        [f"{g.get('device_name')}, compute capability {g.get('compute_capability')}" for g in known["gpus"]],
        (count, allowed),
        quota,
        (total, 1024.0 * int(available[1]) if available else math.nan, limit if limit < total else math.inf),
        sys.getfilesystemencoding(),
        {home for home in homes if not os.access(existing(home), os.W_OK)},
        {place: (folder, shutil.disk_usage(existing(folder)).free) for place, folder in disk.items()},
        cache,
    )


def control_groups(root: Path, membership: str) -> tuple[float, float]:
    """Read the limits of control groups, version 1 and 2: processors and bytes, infinite where there is none.

    Args:
        root: where they are mounted.
        membership: text of ``/proc/self/cgroup``.
    """
    quotas, limits = [math.inf], [math.inf]
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for top in (root / name for name in controllers.split(",")):
            group = top / path.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
                limits += _numbers(folder / "memory.max") + _numbers(folder / "memory.limit_in_bytes")
                quota = _numbers(folder / "cpu.max") or (
                    _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
                )
                if len(quota) == 2 and quota[0] > 0:
                    quotas.append(quota[0] / quota[1])
    return min(quotas), min(limits)


def _numbers(file: Path) -> list[float]:
    try:
        return [math.inf if word == "max" else float(word) for word in file.read_text().split()]
    except OSError:
        return []


def nvidia_smi() -> list[str]:
    """Ask NVIDIA's driver for its GPUs, with their memory."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ["NVIDIA GPU, whose driver does not answer"] if Path("/dev/nvidia0").exists() else []
    return ["{}, {}, {} of them used".format(*line.split(", ")) for line in done.stdout.splitlines()]


def size_of(folder: Path) -> tuple[int, int]:
    """Count what a folder holds, and the bytes of all files below it."""
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return len(list(folder.iterdir())) if folder.is_dir() else 0, sum(file.lstat().st_size for file in files)


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


# ---- the screen


def describe(machine: Machine) -> Iterator[str]:
    """Yield the lines about what there is."""
    yield f"htsr {__version__}, Python {platform.python_version()}, {platform.platform()}"
    installed = machine.packages.items()
    versions = {name: [v for p, v in installed if re.fullmatch(pattern, p)] for name, pattern in SHOWN.items()}
    yield ", ".join(f"{name} {' and '.join(found) or '(none)'}" for name, found in versions.items())
    yield f"processor  {machine.processor}"
    yield from (f"GPU        {gpu}" for gpu in machine.gpus or ["none"])
    yield from (f"  seen     {gpu}" for gpu in machine.seen)
    count, allowed = machine.processors
    quota = "no quota" if machine.quota == math.inf else f"a quota of {machine.quota:.1f}"
    variables = [f"{name}={value}" for name, value in machine.environ.items() if name in THREAD_VARIABLES]
    yield f"threads    {allowed} of {count} processors, {', '.join([quota, *variables])}"
    total, available, limit = (f"{value / GIB:.1f}" for value in machine.memory)
    yield f"memory     {total} GiB, {available} available, {'no limit' if limit == 'inf' else f'limit {limit}'}"
    for place, (folder, free) in machine.disk.items():
        yield f"disk       {free / GIB:.1f} GiB free for the {place}, {folder}"
    if not isinstance(machine.cache, str):
        folder, entries, size = machine.cache
        yield f"cache      {size / GIB:.2f} GiB in {entries} entries of {folder}, which may be deleted at any time"


# ---- the traps: what is wrong and what to do, or None


def known_traps(machine: Machine) -> Iterator[str | None]:
    """Yield what every check says."""
    allowed = machine.processors[1]
    if machine.failure:
        yield f"TensorFlow cannot be imported ({machine.failure}): install what requirement.txt lists"
    else:
        yield unseen_gpu(len(machine.gpus), len(machine.seen), machine.environ)
    yield missing_tf_keras(machine.packages)
    yield two_opencvs(machine.packages)
    yield two_tensorflows(machine.packages)
    yield slow_convolutions(machine.environ)
    yield openmp_alone(allowed, machine.environ)
    yield more_threads_than_time(allowed, machine.quota, machine.environ)
    yield foreign_encoding(machine.encoding)
    if isinstance(machine.cache, str):
        yield machine.cache
    yield from (unwritable(folder, machine.environ) for folder in sorted(machine.unwritable))
    yield from (little_disk(place, folder, free) for place, (folder, free) in machine.disk.items())


def unseen_gpu(present: int, seen: int, environ: Mapping[str, str]) -> str | None:
    """A GPU that TensorFlow does not use."""
    if seen >= present:
        return None
    what = f"TensorFlow sees {seen} of {present} GPUs"
    if "CUDA_VISIBLE_DEVICES" in environ:
        return f"{what}: CUDA_VISIBLE_DEVICES is {environ['CUDA_VISIBLE_DEVICES']!r}; unset it to use all of them"
    return f'{what}: pip install "tensorflow[and-cuda]" of the same version; nvidia-smi must answer, too'


def missing_tf_keras(packages: Mapping[str, str]) -> str | None:
    """TensorFlow Probability without the Keras it needs."""
    if "tensorflow-probability" not in packages or "tf-keras" in packages:
        return None
    return "TensorFlow Probability cannot be imported without tf_keras: pip install tf_keras"


def two_opencvs(packages: Mapping[str, str]) -> str | None:
    """Two packages that write the same folder."""
    both = [name for name in packages if re.fullmatch("opencv-(contrib-)?python(-headless)?", name)]
    if len(both) < 2:
        return None
    names = " ".join(sorted(both))
    return f"{names} overwrite each other: pip uninstall {names}, then pip install opencv-python-headless"


def two_tensorflows(packages: Mapping[str, str]) -> str | None:
    """Two packages that write the same folder."""
    if not {"tensorflow", "tensorflow-cpu"} <= set(packages):
        return None
    return (
        "tensorflow and tensorflow-cpu overwrite each other: pip uninstall tensorflow tensorflow-cpu, then pip install"
        " -r requirement.txt (tf_keras needs the one without -cpu)"
    )


def slow_convolutions(environ: Mapping[str, str]) -> str | None:
    """Without oneDNN the convolutions of HTSR take three to seven times as long on a processor."""
    if environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        return None
    return "TF_ENABLE_ONEDNN_OPTS=0 makes convolutions on a processor several times slower: unset it"


def openmp_alone(allowed: int, environ: Mapping[str, str]) -> str | None:
    """A limit that NumPy keeps to and TensorFlow does not."""
    if environ.get("OMP_NUM_THREADS") != "1" or allowed == 1 or "TF_NUM_INTRAOP_THREADS" in environ:
        return None
    return (
        f"OMP_NUM_THREADS=1 slows NumPy and does not hold for TensorFlow, which uses {allowed} threads: unset it, or"
        " set TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS, too"
    )


def more_threads_than_time(allowed: int, quota: float, environ: Mapping[str, str]) -> str | None:
    """More threads than the container's share of time keeps busy, so that all of them are halted again and again."""
    if quota >= allowed or "TF_NUM_INTRAOP_THREADS" in environ:
        return None
    threads = max(1, round(quota))
    return (
        f"TensorFlow starts {allowed} threads, but the container has time for {quota:.1f}: set"
        f" TF_NUM_INTRAOP_THREADS={threads} and TF_NUM_INTEROP_THREADS={threads}"
    )


def foreign_encoding(encoding: str) -> str | None:
    """Names of files that are not UTF-8, at which TensorFlow and OpenCV end the process."""
    if encoding.lower().replace("-", "") == "utf8":
        return None
    return f"names of files are read as {encoding}, TensorFlow and OpenCV need UTF-8: set LC_ALL=C.UTF-8"


def unwritable(folder: Path, environ: Mapping[str, str]) -> str | None:
    """A home or a cache that is not the user's; a home is of no use where all that is kept in it is elsewhere."""
    remedies = {"HTSR_CACHE": "decoded videos", "MPLCONFIGDIR": "Matplotlib"}
    if folder == Path(environ.get("HTSR_CACHE") or "/"):
        return f"the cache {folder} cannot be written to: set HTSR_CACHE to another folder"
    missing = [f"{name} (for {what})" for name, what in remedies.items() if not environ.get(name)]
    if not missing:
        return None
    return f"{folder} cannot be written to: set HOME to another folder, or {' and '.join(missing)}"


def little_disk(place: str, folder: Path, free: int) -> str | None:
    """A disk that is nearly full."""
    if free >= LITTLE * GIB:
        return None
    remedies = {"cache": "set HTSR_CACHE to another disk, or delete what is in it", "temporary files": "set TMPDIR"}
    remedy = remedies.get(place, "make room, or set --logdir")
    return f"only {free / GIB:.2f} GiB of disk are free for the {place}, {folder}: {remedy}"
