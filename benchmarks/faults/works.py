"""What is disturbed: trainings and other commands, on a model of a few numbers and on a small HTSR."""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from benchmarks.faults.children import Child, Ended, Team
from htsr.files import new_file
from htsr.runs import checkpoints
from htsr.runs.folder import RunLock

STUB = {"name": "stub"}
HTSR = {
    "name": "htsr", "levels": 2, "temporal_factor": 2, "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1,
    "channels_mult": 0.125,
}  # fmt: skip
DIGITS = {"name": "moving_mnist", "num_digits": 1, "seq_len": 6, "batch_size": 4}
VIDEOS = {"name": "videos", "datadir": "videos", "image_size": 64, "channels": 1, "seq_len": 6, "batch_size": 4}
STEPS = 24
TRAIN = {
    "steps": STEPS, "learning_rate": 1e-3, "warmup_steps": 5, "schedule": "cosine", "ema_decay": 0.99, "log_every": 1,
    "valid_every": 12, "valid_examples": 2, "valid_context": 4, "valid_horizon": 3, "checkpoint_every": 3,
}  # fmt: skip
EVAL = {"context": 4, "horizon": 3, "num_examples": 5, "batch_size": 1, "lpips": False, "num_pictures": 1}
RUN = Path("logs/tiny")


class Work(NamedTuple):
    """A command and what it makes.

    Attributes:
        model, data: of the config.
        command: the arguments of ``htsr``.
        out: what it makes: a run folder, or another one.
        workers: whether two processes do it.
    """

    model: dict
    data: dict
    command: tuple[str, ...]
    out: Path = RUN
    workers: bool = False

    @property
    def trains(self) -> bool:
        return self.command[0] in ("train", "save")


_TRAIN = ("train", "--config", "tiny.yml", "--logdir", "logs")
WORKS = {
    "checkpoints alone": Work(STUB, VIDEOS, ("save",)),
    "train, digits": Work(STUB, DIGITS, _TRAIN),
    "train, videos": Work(STUB, VIDEOS, _TRAIN),
    "train, HTSR": Work(HTSR, VIDEOS, _TRAIN),
    "train, two workers": Work(STUB, DIGITS, _TRAIN, workers=True),
    "evaluate": Work(STUB, VIDEOS, ("evaluate", "--logdir", str(RUN), "--out", "result"), Path("result")),
    "prepare": Work(STUB, VIDEOS, ("prepare", "videos", "--out", "prepared", "--gray"), Path("prepared")),
    "predict": Work(
        STUB, VIDEOS, ("predict", "--logdir", str(RUN), "--input", "videos/a.npy", "--out", "out"), Path("out")
    ),
    "export": Work(STUB, VIDEOS, ("export", "--logdir", str(RUN), "--out", "exported"), Path("exported")),
    "release": Work(STUB, VIDEOS, ("release", str(RUN), "released"), Path("released")),
}


def save() -> int:
    """Be a training without TensorFlow: whose steps are sums, each of them saved."""
    with RunLock(RUN):
        log = RUN / "metrics.jsonl"
        found = checkpoints.load(RUN / "model")
        step, state = (found[0], found[1]["model/a"]) if found else (0, np.zeros(20_000, np.float32))
        before = RUN / "model" / f"step_{step}" / log.name
        with new_file(log) as file:
            file.write(before.read_text() if found else "")
        while step < STEPS:
            step, state = step + 1, state / 2 + np.random.default_rng(step).normal(size=state.shape).astype("f4")
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "loss": float(state.sum())}) + "\n")
            _done(step)
            checkpoints.save(RUN / "model", step, {"model/a": state}, score=float(state[0]), keep_last=2, log=log)
    print(f"{RUN} is at step {step} of {STEPS}")
    return 0


def _done(step: int) -> None:
    """Where faults come in; as `htsr.training.loop.Loop.after`."""


def begin(work: Work, folder: Path) -> None:
    """Write config and videos into a new folder."""
    folder.mkdir(parents=True)
    config = {"model": work.model, "data": work.data, "train": TRAIN, "eval": EVAL}
    (folder / "tiny.yml").write_text(yaml.safe_dump(config))
    (folder / "videos").mkdir()
    for number, name in enumerate("abc"):
        video = np.random.default_rng(number).integers(0, 256, (40, 64, 64, 1), np.uint8)
        np.save(folder / "videos" / f"{name}.npy", video)


def start(
    work: Work, folder: Path, inside: Callable[[], None] | None = None, draw: random.Random | None = None
) -> Child | Team:
    """Start the command of a work; of two workers the one that is disturbed is drawn."""
    if work.workers:
        return Team(work.command, folder, draw.randrange(2) if draw else 0, inside)
    return Child(work.command, folder, inside)


def run(work: Work, folder: Path, inside: Callable[[], None] | None = None) -> Ended:
    """Run the command of a work to its end."""
    return start(work, folder, inside).wait()


class Made(NamedTuple):
    """Folders to begin with, what an undisturbed command makes, and how long it takes."""

    fresh: Path
    half: Path | None
    expected: dict[str, str]
    seconds: float


def make(name: str, folder: Path) -> Made:
    """Run a work undisturbed, twice, and stop it once in the middle."""
    work = WORKS[name]
    fresh, whole, half = folder / "fresh", folder / "whole", folder / "half"
    begin(work, fresh)
    if not work.trains and work.command[0] != "prepare":
        _must(run(Work(work.model, work.data, _TRAIN), fresh))
    shutil.copytree(fresh, whole)
    _must(run(work, whole))
    expected = results(work, whole)
    if not work.trains:
        return Made(fresh, None, expected, _seconds(work, fresh, folder / "again", expected))
    shutil.copytree(fresh, half)
    ended = run(work, half, lambda: after_step(STEPS // 2 + 1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    if ended.status not in (143, -signal.SIGTERM):
        raise RuntimeError(ended.output)
    return Made(fresh, half, expected, _seconds(work, fresh, folder / "again", expected))


def _seconds(work: Work, fresh: Path, folder: Path, expected: dict[str, str]) -> float:
    import time

    shutil.copytree(fresh, folder)
    began = time.monotonic()
    _must(run(work, folder))
    if results(work, folder) != expected:
        raise RuntimeError(f"{work.command}: two undisturbed runs differ: {results(work, folder)}, {expected}")
    return time.monotonic() - began


def _must(ended: Ended) -> None:
    if ended.status:
        raise RuntimeError(ended.output)


def after_step(step: int, act: Callable[[], None]) -> None:
    """In a child: do something after a training step."""
    whenever(lambda done, this: act() if done == step else None)


def after_steps(count: int, act: Callable[[], None]) -> None:
    """In a child: do something after so many steps of this start."""
    whenever(lambda done, this: act() if this == count else None)


def whenever(look: Callable[[int, int], None]) -> None:
    """In a child: call ``look`` with the number of each step, and how many there were since the start."""
    global _done  # noqa: PLW0603
    steps = []

    def _done(step):
        steps.append(step)
        look(step, len(steps))

    loop = sys.modules.get("htsr.training.loop")
    if loop:
        before = loop.Loop.after

        def after(self, logs):
            _done(self.step + 1)
            return before(self, logs)

        loop.Loop.after = after


def results(work: Work, folder: Path) -> dict[str, str]:
    """Digests of what the command has made, where it must be the same to the bit."""
    out = folder / work.out
    if work.trains:
        return {path: _sha256(out / path) for path in ("metrics.jsonl", f"model/step_{STEPS}/state.npz")}
    if work.command[0] == "evaluate":
        with np.load(out / "curves.npz") as file:
            found = {name: hashlib.sha256(file[name].tobytes()).hexdigest() for name in file.files}
        return {**found, "report": str((out / "report.html").is_file()), "files": str(_names(out))}
    if work.command[0] == "export":  # protocol buffers are written in any order
        return {"weights": _sha256(next(out.glob("variables/*.data*"))), "files": str(_names(out))}
    if work.command[0] == "predict":
        return {path: _sha256(out / path) for path in _names(out) if not path.endswith(".json")}
    found = {path: _sha256(out / path) for path in _names(out) if not path.endswith((".md", ".png"))}
    if work.command[0] == "prepare":  # when the file was changed
        about = json.loads((out / "manifest.json").read_text())
        found["manifest.json"] = str({**about, "state": None})
    return found


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finished_steps(folder: Path) -> list[int]:
    """The steps of complete and undamaged checkpoints in a run folder."""
    found = []
    for path in folder.glob(f"{RUN}/model/step_*"):
        try:
            about = json.loads((path / "manifest.json").read_text())["files"]["state.npz"]
            if _sha256(path / "state.npz") == about["sha256"]:
                found.append(int(path.name.removeprefix("step_")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found)
