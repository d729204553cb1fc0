"""The log of a run."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from htsr.files import new_file, require_utf8


@contextlib.contextmanager
def _as_oserror(path: Path) -> Iterator[None]:
    """What TensorFlow says of a disk, as Python says it."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"{path} cannot be written ({str(error.message)[-200:]}); make room, or remove it") from None


class Log:
    """``metrics.jsonl`` and TensorBoard. On resume the log is that of the checkpoint.

    Attributes:
        path: the file.
    """

    def __init__(self, run: Path, start: int):
        self.path = run / "metrics.jsonl"
        self._folder = run / "tensorboard"
        with _as_oserror(self._folder):
            self.tensorboard = tf.summary.create_file_writer(require_utf8(self._folder))
        before = run / "model" / f"step_{start}" / self.path.name
        if before.is_file():
            content = before.read_text(encoding="utf-8")
        else:  # of an older version: lines of steps after the checkpoint are dropped
            kept = [record for record in self.records() if record["step"] <= start]
            content = "".join(json.dumps(record) + "\n" for record in kept)
        with new_file(self.path) as file:
            file.write(content)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)

    def write(self, step: int, record: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **record}) + "\n")
        self._file.flush()
        with _as_oserror(self._folder), self.tensorboard.as_default(step):
            for name, value in record.items():
                tf.summary.scalar(name if "/" in name else f"train/{name}", value)

    def timing(self, step: int, steps_per_second: float) -> None:
        """Speed is in TensorBoard alone: ``metrics.jsonl`` is the same whether or not a run was interrupted."""
        with _as_oserror(self._folder), self.tensorboard.as_default(step):
            tf.summary.scalar("speed/steps_per_second", steps_per_second)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        with _as_oserror(self._folder), self.tensorboard.as_default(step):
            tf.summary.image(name, picture[None])

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        with _as_oserror(self._folder):
            self.tensorboard.flush()

    def close(self) -> None:
        self._file.close()
        with _as_oserror(self._folder):
            self.tensorboard.close()

    def records(self) -> list[dict[str, float]]:
        """Return the lines so far."""
        records = []
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn by a kill: it and what follows is written again
        return records
