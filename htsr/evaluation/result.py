"""The result of an evaluation, and its values while they are being found, in files, so that a stopped one goes on."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from htsr.errors import InputError
from htsr.files import new_file
from htsr.metrics import METRIC_SPEC, Curves
from htsr.runs.folder import UNFINISHED

_REQUEST = "request.json"
_DIGEST = 65  # bytes of a SHA-256 in hexadecimal, and a newline


class Result(NamedTuple):
    """What ``evaluate`` found: what ``Curves.reduce`` made of the values, how they came about, and where they lie."""

    reduced: dict[str, Any]
    provenance: dict[str, Any]
    folder: Path

    @property
    def curves(self) -> Curves:
        """Every value, read from the folder."""
        return Curves.load(self.file(".npz"))

    def file(self, suffix: str) -> Path:
        """Return the path of numbers, values or plot (``.json``, ``.npz``, ``.png``); another convention names it."""
        mode = self.provenance["metric_mode"]
        return self.folder / ("curves" + ("" if mode == METRIC_SPEC else f".{mode}") + suffix)

    def save(self) -> None:
        """Write the file of numbers: ``provenance`` and what ``Curves.reduce`` returned."""
        save_json(self.file(".json"), {"provenance": self.provenance, **self.reduced})


class Unfinished:
    """The values found so far: those of a stopped evaluation if it was the same one.

    A context manager, since no two processes may write the same files: it holds a lock until it is left, and deletes
    the files, which the results have replaced, where it is left without an error.

    Args:
        out: folder of the results; where one beside it holds the beginning of this evaluation, that one is taken.
        request: everything that the values depend on.

    Attributes:
        out: the folder taken.
        curves, features: the values, and the features of FVD.
        num_clips: clips that are done: whole batches, so that going on changes no bit.
        resumed_at: how many were done before.
    """

    def __init__(self, out: Path, request: Mapping[str, Any]):
        request = plain(request)
        begun = (folder for folder in sorted(out.parent.glob(f"*/{UNFINISHED}")) if self._is_same(folder, request))
        self._folder = next(begun, None)
        if self._folder is None:
            self._folder = out / UNFINISHED
            if self._folder.exists():
                raise InputError(
                    f"{self._folder} is of another unfinished evaluation; remove it, or choose another out"
                )
            self._folder.mkdir(parents=True)
            save_json(self._folder / _REQUEST, request)
            if not self._is_same(self._folder, request):
                raise InputError(f"another process works in {self._folder}; choose another out")
        self.out = self._folder.parent
        self.curves, self.features = Curves(self._folder / "frames"), Curves(self._folder / "videos")
        self._digests = self._folder / "clips.sha256"
        self._digests.touch()
        done, size = self._digests.stat().st_size // _DIGEST, request["batch_size"]
        done = min([done, *(values.num_clips() for values in (self.curves, self.features) if values.series)])
        self.num_clips = self.resumed_at = done if done == request["num_examples"] else done // size * size
        for values in (self.curves, self.features):
            values.truncate(self.num_clips)
        with open(self._digests, "r+b") as file:
            file.truncate(_DIGEST * self.num_clips)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        os.close(self._lock)
        if error is None:
            shutil.rmtree(self._folder)

    def add(self, clip: np.ndarray, scores: Mapping[str, Any], features: Mapping[str, Any]) -> None:
        """Keep the values of a batch; the digests of its clips come last and say that the rest is there."""
        for curves, values in ((self.curves, scores), (self.features, features)):
            for series, arrays in values.items():
                curves.add(series, arrays)
        with open(self._digests, "ab") as file:
            file.write(_digests(clip))
        self.num_clips += len(clip)

    def sha256(self, num_clips: int) -> str:
        """Of the digests of the first clips."""
        return hashlib.sha256(self._digests.read_bytes()[: _DIGEST * num_clips]).hexdigest()

    def _is_same(self, folder: Path, request: Mapping[str, Any]) -> bool:
        """Whether the folder is of this evaluation, and no other process works on it; it is then locked."""
        path = folder / _REQUEST
        try:
            if json.loads(path.read_text(encoding="utf-8")) != request:
                return False
        except (OSError, ValueError):
            return False
        self._lock = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process
        except BlockingIOError:
            os.close(self._lock)
            return False
        return True


def clips_sha256(clip: np.ndarray) -> str:
    """What identifies clips ``(clip, time, height, width, channel)``: the SHA-256 of the digests of their values."""
    return hashlib.sha256(_digests(clip)).hexdigest()


def save_json(path: Path, content: Any) -> None:
    """Write JSON that every reader takes, whole or not at all: values that are not finite are null."""
    with new_file(path) as file:
        file.write(json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """What JSON can say: lists for arrays, null for values that are not finite."""
    return json.loads(json.dumps(value, default=lambda array: array.tolist()), parse_constant=lambda _: None)


def _digests(clip: np.ndarray) -> bytes:
    """A line a clip."""
    return b"".join(hashlib.sha256(one.tobytes()).hexdigest().encode() + b"\n" for one in clip)
