"""Measure a config: every figure in processes of their own, beside what the machine can do, or in turn with a checkout.

Nothing here imports TensorFlow: a process that is started counts the memory of the one that started it as its own.
"""

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import htsr
from htsr.checks import require_choice, require_int
from htsr.config import save_config
from htsr.errors import InputError
from htsr.runs import environment

FIGURES = {  # name -> in words
    "step": "training step",
    "rollout_1": "rollout of 1 clip",
    "rollout_8": "rollout of 8 clips",
    "input": "input, a clip",
    "evaluation": "evaluation, a clip",
    "first_step": "first step since the start of Python",
}
CURVES: dict[str, tuple[str, str, Sequence[int]]] = {  # name -> key of the config, in words, its values
    "clip_length": ("data.seq_len", "frames of a clip", (36, 72, 144, 288, 576, 1000)),
    "batch": ("data.batch_size", "clips of a batch", (1, 2, 4, 8, 16)),
    "levels": ("model.levels", "levels", (1, 2, 3, 4)),
    "frame_size": ("data.image_size", "height and width, pixels", (64, 128)),
}
OWN = Path(htsr.__file__).parents[1]
WAIT = 0.01  # seconds between two looks for the first step

Config = dict[str, dict[str, Any]]


def limits() -> dict[str, Any]:
    """Measure what the machine can do: ``htsr.bench.ceilings.measure``, and ``import``, seconds of TensorFlow and
    Keras."""
    return json.loads(_output([sys.executable, "-P", "-m", "htsr.bench.ceilings", "1"], OWN))


def figures(
    config: Config,
    names: Iterable[str],
    repeats: int = 5,
    rounds: int = 1,
    against: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Measure figures of a config.

    Args:
        config: by section.
        names: of ``FIGURES``.
        repeats: timings in a process, after a first call.
        rounds: processes for every figure.
        against: top folder of another checkout, which is measured in turn: A B A B.
        say: is told what is being measured.

    Returns:
        A ``summary`` by name, in which ``against`` is that of the other checkout, and ``faster`` how many times this
        one is as fast: the ratio of the medians, and the lowest and highest of the rounds.
    """
    require_int("--repeats", repeats, 1)
    require_int("--rounds", rounds, 1)
    if against is not None and not (against / "htsr" / "__init__.py").exists():
        raise InputError(f"--against {against} is no checkout of htsr: it has no htsr/__init__.py; give its top folder")
    found = {}
    for name in names:
        require_choice("figure", name, FIGURES)
        say(FIGURES[name])
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_measured(name, config, repeats, OWN))
            if against is not None:
                theirs.append(_measured(name, config, repeats, against))
        found[name] = summary(ours)
        if against is not None:
            found[name] |= {"against": summary(theirs), "faster": ratio(theirs, ours)}
    return found


def curve(
    config: Config, name: str, repeats: int, values: Sequence[int] = (), say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Measure training step and rollout of a config over one of ``CURVES``: a record a value."""
    require_choice("curve", name, CURVES)
    key, words, usual = CURVES[name]
    section, _, entry = key.partition(".")
    records = []
    for value in values or usual:
        say(f"{words}: {value}")
        changed = copy.deepcopy(config)
        changed[section][entry] = value
        # A rollout does not depend on the length or number of training clips.
        names = ["step"] if section == "data" and entry != "image_size" else ["step", "rollout_8"]
        if name == "frame_size":
            changed["model"].pop("frame_shape", None)
        records.append({name: value, **figures(changed, names, repeats, say=lambda _: None)})
    return records


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Reduce the timings of several processes: median, lowest and highest of all of them, the most memory."""
    first = runs[0]
    found = {key: first[key] for key in ("operations", "bytes") if key in first}
    for key in ("wall", "processor"):
        times = [seconds for run in runs for seconds in run[key]]
        found[key] = {"median": statistics.median(times), "low": min(times), "high": max(times)}
    return found | {key: max(run[key] for run in runs) for key in ("memory", "gpu_memory") if key in first}


def ratio(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how many times as long theirs take as ours: of all, and the lowest and highest of a round."""
    found = {}
    for key in ("wall", "processor"):
        medians = [[statistics.median(run[key]) for run in runs] for runs in (theirs, ours)]
        rounds = [their / our for their, our in zip(*medians, strict=True)]
        whole = summary(theirs)[key]["median"] / summary(ours)[key]["median"]
        found[key] = {"median": whole, "low": min(rounds), "high": max(rounds)}
    return found


def share(figure: Mapping[str, Any], found: Mapping[str, Any], dtype: str) -> float | None:
    """Return the part of a figure's time that the machine would need at its limits; None where it cannot be told.

    Args:
        figure: a ``summary``.
        found: ``limits``.
        dtype: of ``model.dtype``.
    """
    precision = "float32" if dtype == "float32" else "bfloat16"
    if figure.get("operations") == {}:
        return None
    if "operations" in figure:
        least = sum(number / found[kind][precision] for kind, number in figure["operations"].items())
    elif "bytes" in figure:
        least = figure["bytes"] / found["copy"]
    else:
        least = found["import"]
    return least / figure["wall"]["median"]


def _measured(name: str, config: Config, repeats: int, checkout: Path) -> dict[str, Any]:
    if name == "first_step":
        return first_step(config, repeats, checkout)
    request = {"name": name, "config": config, "repeats": repeats, "count": checkout == OWN}
    script = Path(__file__).with_name("job.py")
    return json.loads(_output([sys.executable, "-P", str(script), json.dumps(request)], checkout))


def first_step(config: Config, repeats: int, checkout: Path) -> dict[str, Any]:
    """Start a training, and stop it as soon as its first step is in the log; as often as there are repeats."""
    found = {"wall": [], "processor": [], "memory": 0.0}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            save_config(config, Path(folder, "first.yml"))
            command = [sys.executable, "-P", "-m", "htsr", "train", "--config", f"{folder}/first.yml"]
            command += ["--logdir", folder, "--name", "first", "--set", "train.log_every=1"]
            log = Path(folder, "first", "metrics.jsonl")
            began = time.perf_counter()
            with open(Path(folder, "said"), "w+b") as said:
                process = subprocess.Popen(command, stdout=said, stderr=said, env=_environment(checkout))
                try:
                    while not (log.exists() and log.stat().st_size):
                        if process.poll() is not None:
                            raise _failure(Path(folder, "said").read_text(errors="replace"))
                        time.sleep(WAIT)
                    found["wall"].append(time.perf_counter() - began)
                finally:
                    process.kill()
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = -9
            found["processor"].append(used.ru_utime + used.ru_stime)
            found["memory"] = max(found["memory"], environment.peak_memory_mib(used))
    return found


def _output(command: Sequence[str], checkout: Path) -> str:
    """Run a command with the htsr of a checkout; the last line of what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(checkout), check=False)
    if done.returncode:
        raise _failure(done.stderr)
    return done.stdout.splitlines()[-1]


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout.absolute()), "TF_CPP_MIN_LOG_LEVEL": "3"}


def _failure(said: str) -> InputError:
    last = next(iter(said.strip().splitlines()[-1:]), "it said nothing")
    return InputError(f"a measuring process failed: {last.removeprefix('htsr.errors.InputError: ')}")
