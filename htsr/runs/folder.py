"""A run folder: where it is, its config, its lock, and the model in it."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htsr.config import read_config, read_overrides, shipped
from htsr.errors import InputError
from htsr.runs.checkpoints import assign_model, load, step_of

if TYPE_CHECKING:
    from htsr.models.base import VideoModel

UNFINISHED = "partial"  # a folder beside the results of an evaluation, until it is finished

# Arguments of a recurrent model that went into its ``cell``.
_OF_THE_CELL = ("ce", "se", "key_filters", "memory_kernel_size", "offsets", "trend_decay")


def find_run(logdir: str | Path) -> Path:
    """Return the run folder that contains ``logdir``: itself, or the one whose ``model`` or ``step_<n>`` folder it is.

    Raises:
        InputError: it has no ``config.yml``.
    """
    path = Path(logdir)
    folders = [path, path.parent, path.parent.parent]
    depth = 2 if step_of(path) is not None else int(path.name == "model")
    run = next((folder for folder in folders[: depth + 1] if (folder / "config.yml").is_file()), folders[depth])
    if not (run / "config.yml").is_file():
        raise InputError(f"{logdir} is not a run folder: {run}/config.yml is missing; give e.g. logs/mmnist")
    return run


def pretrained_run(name: str) -> Path:
    """Return the run folder of a model that comes with htsr.

    Raises:
        InputError: there is none of that name.
    """
    there = pretrained_names()
    if name not in there:
        raise InputError(f"--pretrained must be one of {', '.join(there)}, received {name!r}")
    return shipped("pretrained") / name


def pretrained_names() -> list[str]:
    """Return the names of the models that come with htsr."""
    return sorted(path.parent.name for path in shipped("pretrained").glob("*/config.yml"))


def read_run_config(run: str | Path, overrides: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the config of a run, in today's words, with overrides such as ``"eval.horizon=20"`` on top of it."""
    config = upgrade(read_config(Path(run) / "config.yml"))
    for section, values in read_overrides(overrides).items():
        config[section] |= values
    return config


def upgrade(config: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the config of an older run in today's words; one of today stays as it is."""
    config = {section: dict(values) for section, values in config.items()}
    model = config["model"]
    if isinstance(name := model.get("cell"), str):
        own = {key: model.pop(key) for key in _OF_THE_CELL if key in model}
        if name != "cms_lstm":  # of which no blocks are published
            own = {key: value for key, value in own.items() if key not in ("ce", "se") or value}
        own = {key: value for key, value in own.items() if value is not None}
        model["cell"] = {"name": name, **own} if own else name
    if config["train"]:
        config["train"].setdefault("deterministic", not config["train"].get("jit_compile"))
    config["data"], config["eval"] = upgrade_data(config["data"]), upgrade_eval(config["eval"])
    return config


def upgrade_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data section of an older run or protocol in today's words; one of today stays as it is."""
    data = {name: value for name, value in data.items() if name != "cache"}
    if data.get("name") in ("kth", "mazes") and data.get("stand_in") in (None, "builtin"):
        data["stand_in"] = None if data.get("datadir") else "generated"
    return data


def upgrade_eval(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the eval section of an older run or protocol in today's words; one of today stays as it is."""
    settings = dict(settings)
    if "batched" in settings:
        settings["rows"] = None if settings.pop("batched") else 1
    if settings.get("metric_mode") == "htsr":
        settings["metric_mode"] = "cwvae"
    return settings


def results_of(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The finished evaluations of a run, the newest first: folder and numbers; damaged ones are passed over."""
    for folder in sorted(run.glob("eval/*"), reverse=True):
        if not (folder / UNFINISHED).exists():
            with contextlib.suppress(ValueError):
                yield folder, json.loads(result_file(folder, ".json").read_text(encoding="utf-8"))


def result_file(folder: Path, suffix: str) -> Path:
    """The one file of numbers in a folder of results, ``.json`` or ``.npz``.

    Raises:
        InputError: there is none, or more than one.
    """
    found = list(folder.glob(f"curves*{suffix}"))
    if len(found) != 1:
        raise InputError(f"{folder} should hold the results of one evaluation, found {len(found)}; evaluate again")
    return found[0]


def load_model(logdir: str | Path, which: str | int = "latest", ema: bool = True) -> "VideoModel":
    """Build the model of a run from its config and load its weights.

    Args:
        logdir: run folder, the ``model`` folder in it, or a ``step_<n>`` folder in that.
        which: ``"latest"``, ``"best"`` or a step; of a ``step_<n>`` folder its own.
        ema: use the averaged weights where the run kept them.

    Raises:
        InputError: no run, no checkpoint, one of another version's format, or weights that do not fit the config.
    """
    return load_run(logdir, which, ema)[0]


def load_run(logdir: str | Path, which: str | int = "latest", ema: bool = True) -> tuple["VideoModel", dict[str, Any]]:
    """Return ``load_model``'s model and the manifest of its checkpoint; a step may be text, as commands receive it."""
    from htsr.models import build_model

    run = find_run(logdir)
    which = int(which) if isinstance(which, str) and which.isdecimal() else which
    step = step_of(Path(logdir))
    if step is not None and run != Path(logdir):
        if which not in ("latest", step):
            raise InputError(f"{logdir} is the checkpoint of step {step}, but {which!r} was asked for; give {run}")
        which = step
    found = load(run / "model", which)
    if found is None:
        raise InputError(f"{run}/model holds no checkpoint; train first, or give another folder")
    _, arrays, manifest = found
    model = build_model(**read_run_config(run)["model"])
    if ema:
        averages = {f"model/{name[4:]}": array for name, array in arrays.items() if name.startswith("ema/")}
        arrays = {**arrays, **averages}
    assign_model(model, arrays)
    return model, manifest


class RunLock:
    """Context manager: at most one process works in a run folder.

    The kernel drops the lock with the process, however it ends, so no stale lock is left behind.

    Raises:
        InputError: another process holds the lock; the message names it and its host.
    """

    def __init__(self, run: str | Path) -> None:
        self._path = Path(run) / "lock"

    def __enter__(self) -> "RunLock":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.is_dir():
            raise InputError(f"{self._path} has to be a file, but is a folder; remove it")
        self._file = open(self._path, "a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with self._file:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
            raise InputError(
                f"{self._path.parent} is in use by {owner}; wait for it, or choose another --name"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.truncate(0)
        self._file.close()
