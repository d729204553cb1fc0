"""The values of an evaluation while they are being found, in files, so that a stopped evaluation goes on."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from htsr.errors import InputError
from htsr.metrics import Curves
from htsr.metrics.curves import plain, save_json

FOLDER, REQUEST = "partial", "request.json"
_DIGEST = 65  # bytes of a SHA-256 in hexadecimal, and a newline


class Gathered:
    """The values found so far: those of a stopped evaluation if it was the same one.

    A context manager, since no two processes may write the same files: it holds a lock until it is left.

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
        begun = (folder for folder in sorted(out.parent.glob(f"*/{FOLDER}")) if self._is_same(folder, request))
        self._folder = next(begun, None)
        if self._folder is None:
            self._folder = out / FOLDER
            if self._folder.exists():
                raise InputError(
                    f"{self._folder} is of another unfinished evaluation; remove it, or choose another out"
                )
            self._folder.mkdir(parents=True)
            save_json(self._folder / REQUEST, request)
            if not self._is_same(self._folder, request):
                raise InputError(f"another process works in {self._folder}; choose another out")
        self.out = self._folder.parent
        self.curves, self.features = Curves(self._folder / "frames"), Curves(self._folder / "videos")
        self._digests = self._folder / "clips.sha256"
        self._digests.touch()
        done, size = self._digests.stat().st_size // _DIGEST, request["batch_size"]
        done = min([done, *(gathered.num_clips() for gathered in (self.curves, self.features) if gathered.series)])
        self.num_clips = self.resumed_at = done if done == request["num_examples"] else done // size * size
        for gathered in (self.curves, self.features):
            gathered.truncate(self.num_clips)
        with open(self._digests, "r+b") as file:
            file.truncate(_DIGEST * self.num_clips)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)

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

    def remove(self) -> None:
        """Delete the files, which the results have replaced."""
        shutil.rmtree(self._folder)

    def _is_same(self, folder: Path, request: Mapping[str, Any]) -> bool:
        """Whether the folder is of this evaluation, and no other process works on it; it is then locked."""
        path = folder / REQUEST
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


def _digests(clip: np.ndarray) -> bytes:
    """A line a clip."""
    return b"".join(hashlib.sha256(one.tobytes()).hexdigest().encode() + b"\n" for one in clip)
