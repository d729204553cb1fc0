"""Checkpoints that survive a stop at any moment.

A checkpoint is the directory ``<run>/model/step_<n>/`` with ``state.npz`` (named arrays, uncompressed), the log of the
training so far and ``manifest.json`` (schema version, step, score, SHA-256, dtypes and shapes, versions, threads). It
is written under a temporary name, flushed to the disk and then renamed, so a directory of the final name is complete.
Why not Keras's own files: a ``.weights.h5`` is written in place and is unreadable after a stop in the middle of it.

Arrays only are read, into models this package builds itself; nothing is unpickled. POSIX only (``fsync`` of
directories).
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from htsr.checks import require_int
from htsr.errors import DAMAGE, InputError, out_of_reach

SCHEMA = 1
_FINAL, _TEMPORARY = "step_", ".tmp-"

Arrays = dict[str, np.ndarray]


def save(
    folder: str | Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    *,
    score: float | None = None,
    keep_last: int = 3,
    keep_every: int | None = None,
    log: Path | None = None,
) -> Path:
    """Write a checkpoint, then remove those no longer wanted and the leftovers of interrupted saves.

    A valid checkpoint of the same step is left as it is, a damaged one is replaced.

    Args:
        folder: ``<run>/model``; created when missing.
        step: training steps done.
        arrays: NumPy arrays by name, such as ``model/encoder/conv0/kernel``.
        score: validation result, lower is better; the checkpoint of the lowest score is always kept.
        keep_last: how many of the newest to keep, at least 1.
        keep_every: keep also each whose step is a multiple of this.
        log: a file to keep a copy of.

    Returns:
        The directory ``<folder>/step_<step>``.

    Raises:
        InputError: an array is of a type NumPy cannot store, such as bfloat16.
        OSError: the disk is full or read-only; earlier checkpoints are untouched and the unfinished one is removed.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"{name} is {array.dtype}, which no checkpoint can hold; use dtype float32 or mixed_bfloat16"
            )
    folder = Path(folder)
    final, temporary = folder / f"{_FINAL}{step}", folder / f"{_TEMPORARY}{_FINAL}{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        if final.exists() and not _is_valid(final):
            _remove(final)
        if not final.exists():
            _write(temporary, step, arrays, score, log)
            os.rename(temporary, final)
            _sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        message = f"{error.strerror or error}: checkpoint of step {step} not written, earlier ones are intact"
        raise OSError(error.errno, message, str(folder)) from error
    _prune(folder, step, keep_last, keep_every)
    return final


def load(folder: str | Path, which: str | int = "latest") -> tuple[int, Arrays, dict[str, Any]] | None:
    """Read the newest valid checkpoint, the best or that of one step.

    A damaged checkpoint is passed over with a line on stderr, unless its step was asked for.

    Args:
        folder: ``<run>/model``.
        which: ``"latest"``, ``"best"`` (lowest score) or a step.

    Returns:
        Step, arrays by name (read-only use), manifest; None when there is no checkpoint at all.

    Raises:
        InputError: checkpoints exist but none of them is the one asked for and undamaged, or it is of another version's
            format.
    """
    folder = Path(folder)
    steps = sorted(_steps(folder), reverse=True)
    if which == "best":
        scores = {step: score for step in steps if (score := _score(folder, step)) is not None}
        if steps and not scores:
            raise InputError(f"no checkpoint in {folder} has a score; use 'latest' or one of {steps}")
        steps = sorted(scores, key=lambda step: (scores[step], step))
    elif which != "latest":
        if which not in steps:
            raise InputError(f"no checkpoint {which!r} in {folder}; expected 'latest', 'best' or one of {steps}")
        steps = [int(which)]
    if not steps:
        return None
    for step in steps:
        try:
            return step, *_read(folder / f"{_FINAL}{step}")
        except _Damaged as damage:
            print(f"checkpoint {folder}/{_FINAL}{step} is damaged ({damage}); skipped", file=sys.stderr)
    raise InputError(
        f"every checkpoint in {folder} is damaged ({steps}); restore a copy or remove the folder to start anew"
    )


def model_arrays(owner: Any, prefix: str = "model") -> Arrays:
    """Return the variables of a built model or optimizer as arrays named ``<prefix>/<path below the owner>``.

    Layers must be named explicitly: a name Keras makes up depends on what the process has built before.
    """
    return {name: np.asarray(variable) for name, variable in named_variables(owner, prefix).items()}


def named_variables(owner: Any, prefix: str = "model") -> dict[str, Any]:
    """The variables of a built model or optimizer by name, the owner's own name replaced by the prefix."""
    named = {f"{prefix}/{variable.path.removeprefix(owner.name + '/')}": variable for variable in owner.variables}
    if len(named) != len(owner.variables):
        raise ValueError(f"variables of {owner.name} share a path: give its layers different names")
    return named


def assign_model(owner: Any, arrays: Mapping[str, np.ndarray], prefix: str = "model") -> None:
    """Set the variables of a built model or optimizer from arrays named as ``model_arrays`` names them.

    Arrays of other prefixes are ignored. Nothing is set unless everything fits.

    Raises:
        InputError: a variable has no array, an array no variable, or shapes differ; the first few are listed.
    """
    variables = named_variables(owner, prefix)
    given = {name: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}
    problems = [f"{name} is missing" for name in variables if name not in given]
    problems += [f"{name} is not part of it" for name in given if name not in variables]
    for name, array in given.items():
        if name in variables and tuple(variables[name].shape) != array.shape:
            problems.append(f"{name} has shape {array.shape} instead of {tuple(variables[name].shape)}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(
            f"these weights are not of this {owner.name}: {', '.join(problems[:3])}{more}; check the config"
        )
    for name, variable in variables.items():
        variable.assign(given[name])


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of the newest checkpoint in ``<run>/model``; that its arrays are undamaged is not looked at.

    Raises:
        InputError: there is no checkpoint, or its manifest is damaged or of another version's format.
    """
    step = max(_steps(Path(folder)), default=None)
    if step is None:
        raise InputError(f"{folder} holds no checkpoint; train first, or give another folder")
    directory = Path(folder) / f"{_FINAL}{step}"
    try:
        return _manifest(directory)
    except _Damaged as damage:
        raise InputError(f"checkpoint {directory} is damaged ({damage}); remove it") from None


def step_of(path: Path) -> int | None:
    """Return the step of a ``step_<n>`` folder by its name, None for another name."""
    number = path.name.removeprefix(_FINAL)
    return int(number) if number != path.name and number.isdecimal() else None


class _Damaged(Exception):
    """The checkpoint is incomplete or was altered."""


def _write(directory: Path, step: int, arrays: Mapping[str, np.ndarray], score: float | None, log: Path | None) -> None:
    directory.mkdir()
    state = directory / "state.npz"
    with open(state, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    files = [state]
    if log is not None:
        files.append(directory / log.name)
        with open(log, "rb") as source, open(files[-1], "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
    manifest = {
        "schema": SCHEMA,
        "step": step,
        "score": float(score) if score is not None and math.isfinite(score) else None,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files},
        "arrays": {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()},
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    with open(directory / "manifest.json", "w", encoding="utf-8") as file:
        json.dump({**manifest, "sha256": _sha256_of(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync(directory)


def _read(directory: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return arrays and manifest, or raise ``_Damaged``: the hash is checked first, then every dtype and shape."""
    manifest = _manifest(directory)
    with _as_damage():
        for name in {"state.npz", *manifest["files"]}:
            path = directory / Path(name).name
            if path.stat().st_size != manifest["files"][name]["bytes"]:
                raise _Damaged(f"{name} has another length than the manifest says")
            if _sha256(path) != manifest["files"][name]["sha256"]:
                raise _Damaged(f"the checksum of {name} differs")
        with np.load(directory / "state.npz", allow_pickle=False) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.zip.infolist()):
                raise _Damaged("state.npz is compressed")  # a small file could then fill the memory
            if set(archive.files) != set(manifest["arrays"]):
                raise _Damaged("the arrays are not those of the manifest")
            arrays = {name: archive[name] for name in manifest["arrays"]}
        for name, array in arrays.items():
            if {"dtype": str(array.dtype), "shape": list(array.shape)} != manifest["arrays"][name]:
                raise _Damaged(f"{name} is not of the shape and dtype in the manifest")
    return arrays, manifest


def _manifest(directory: Path) -> dict[str, Any]:
    """Return a manifest that says what it has to, and is as it was written."""
    with _as_damage():
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        schema = manifest["schema"]
    if schema != SCHEMA:
        raise InputError(
            f"{directory} is of format {schema!r:.20}, but this version of htsr reads format {SCHEMA}; use the version "
            "that wrote it, or another checkpoint"
        )
    with _as_damage():
        if manifest.pop("sha256", None) not in (None, _sha256_of(manifest)):  # an older one has none
            raise _Damaged("the checksum of manifest.json differs")
        require_int("step", manifest["step"], step_of(directory) or 0, step_of(directory) or 0)
        if not isinstance(manifest["score"], int | float | None):
            raise _Damaged("its score is no number")
        for about in manifest["arrays"].values():
            if not isinstance(about["dtype"], str) or not all(isinstance(size, int) for size in about["shape"]):
                raise _Damaged("an array has no shape")
        for about in (manifest["files"]["state.npz"], *manifest["files"].values()):
            require_int("bytes", about["bytes"], 0)
    return manifest


@contextlib.contextmanager
def _as_damage() -> Iterator[None]:
    """What a damaged file raises is ``_Damaged``; one that cannot be read at the moment is none."""
    try:
        yield
    except DAMAGE as error:
        if out_of_reach(error):
            raise
        raise _Damaged(f"{type(error).__name__}: {error}") from None


def _sha256_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _is_valid(directory: Path) -> bool:
    try:
        _read(directory)
    except _Damaged:
        return False
    return True


def _prune(folder: Path, step: int, keep_last: int, keep_every: int | None) -> None:
    """Remove checkpoints before ``step`` that are neither recent nor best nor at a multiple of ``keep_every``."""
    older = sorted(other for other in _steps(folder) if other < step)
    scores = {other: score for other in [*older, step] if (score := _score(folder, other)) is not None}
    kept = set(older[max(0, len(older) - keep_last + 1) :]) | {min(scores, key=scores.__getitem__, default=step)}
    for other in older:
        if other not in kept and not (keep_every and other % keep_every == 0):
            _remove(folder / f"{_FINAL}{other}")


def _remove(directory: Path) -> None:
    """Rename, then delete: a stop in between leaves a leftover, never half a checkpoint."""
    doomed = directory.with_name(f"{_TEMPORARY}{directory.name}")
    os.rename(directory, doomed)
    shutil.rmtree(doomed)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{_TEMPORARY}{_FINAL}*"):
        shutil.rmtree(leftover)


def _steps(folder: Path) -> Iterator[int]:
    return (step for path in folder.glob(f"{_FINAL}*") if (step := step_of(path)) is not None)


def _score(folder: Path, step: int) -> float | None:
    try:
        return _manifest(folder / f"{_FINAL}{step}")["score"]
    except (InputError, OSError, _Damaged):
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
