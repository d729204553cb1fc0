"""What happens around the steps of a training: numbers are looked at, a stop is agreed upon, one process writes."""

import math
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tqdm import tqdm

from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.report import plots
from htsr.runs import checkpoints
from htsr.training.log import Log
from htsr.training.strategy import Agreement
from htsr.training.validation import Validation
from htsr.training.watch import Watch

MAX_SKIPPED = 5  # steps in a row whose gradient is not finite, after which training has diverged


class Cadence(NamedTuple):
    """Steps between what recurs, and the minutes after which a checkpoint is due anyway."""

    valid: int
    checkpoint: int
    checkpoint_minutes: float


class Writer:
    """What one process alone does: progress bar, log, validation, pictures, checkpoints."""

    def __init__(
        self, model: VideoModel, run: Path, steps: range, validation: Validation, every: Cadence, kept: dict[str, Any]
    ):
        self._model, self._run, self._validation, self._every, self._kept = model, run, validation, every, kept
        self._log = Log(run, steps.start)
        self._saved_at = time.monotonic()
        self._timed = (steps.start, time.monotonic())
        interval = 0.5 if sys.stderr.isatty() else 30.0
        look = {"unit": "step", "mininterval": interval, "dynamic_ncols": True, "desc": run.name}
        self._bar = tqdm(total=steps.stop, initial=steps.start, **look)
        self.watch = Watch(self.say)

    def close(self) -> None:
        self._bar.close()
        self._log.close()

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(line, file=sys.stderr)

    def write_log(self, step: int, logs: dict[str, float]) -> None:
        rate = float(self._model.optimizer.learning_rate)
        self._log.write(step, {**logs, "learning_rate": rate})
        first, began = self._timed
        self._log.timing(step, (step - first) / (time.monotonic() - began))
        self._timed = (step, time.monotonic())
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()}, refresh=False)

    def after(self, step: int, last: bool, stopping: bool) -> None:
        """Validate, save and draw where it is due."""
        self._bar.update()
        score = None
        if step % self._every.valid == 0 or last:
            record, score = self._validation()
            self._log.write(step, record)
            self._timed = (step, time.monotonic())
        late = time.monotonic() - self._saved_at > 60 * self._every.checkpoint_minutes
        if step % self._every.checkpoint == 0 or late or last or score is not None or stopping:
            self._save(step, score)
        if score is not None:
            self._draw(step)

    def _save(self, step: int, score: float | None) -> None:
        self._log.sync()
        arrays = {
            **checkpoints.model_arrays(self._model),
            **checkpoints.model_arrays(self._model.optimizer, "optimizer"),
            **{name: variable.numpy() for name, variable in variables_beside(self._model).items()},
        }
        checkpoints.save(self._run / "model", step, arrays, score=score, log=self._log.path, **self._kept)
        self._saved_at = time.monotonic()

    def _draw(self, step: int) -> None:
        try:
            self._validation.draw(step, self._log)
            plots.save_training_curves(self._run / "training.png", self._log.records(), self._run.name)
        except Exception as error:  # no picture is worth a training
            self.say(f"pictures of step {step} not drawn: {' '.join(str(error).split())}")


class Loop:
    """Context manager around the steps: counts them, looks at their numbers now and then, stops when it is asked to.

    Args:
        steps: those to be done.
        log_every: steps after which the device is asked for numbers, and other workers whether to stop.
        agree: how workers tell each other.
        writer: what this process writes with; None in a process that writes nothing.

    Attributes:
        step: steps done.
        logs: the numbers of the last step that was looked at.
        stopped_by: the signal that asked for a stop, or None.
    """

    def __init__(self, steps: range, log_every: int, agree: Agreement, writer: Writer | None):
        self.step, self._steps, self._log_every = steps.start, steps.stop, log_every
        self._agree, self._writer = agree, writer
        self.logs: dict[str, float] = {}
        self.stopped_by: int | None = None
        self._skipped = 0  # in a row
        self._unseen: list[dict[str, Any]] = []  # numbers of the last steps, on the device

    def __enter__(self):
        # Only the main thread may handle signals; in another one, whoever started it does.
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._handlers = {number: signal.signal(number, self._on_signal) for number in handled}
        return self

    def __exit__(self, *_):
        if self._writer is not None:
            self._writer.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def after(self, logs: dict[str, Any]) -> bool:
        """Take note of a step that was done, and of its numbers; whether it was the last one."""
        self.step += 1
        self._unseen.append(logs)
        last = self.step == self._steps
        logged = self.step % self._log_every == 0 or last
        stopping = self.stopped_by is not None and self._agree.alone
        if logged or stopping:
            self._look()
            asked = [number for number in self._agree(self.stopped_by or 0) if number]
            stopping = bool(asked)
            if stopping:  # else a signal may have come since
                self.stopped_by = asked[0]
        if self._writer is not None:
            if logged:
                self._writer.write_log(self.step, self.logs)
            self._writer.after(self.step, last, stopping)
        return last or stopping

    def _look(self) -> None:
        """Fetch the numbers of the steps since the last look."""
        steps = range(self.step - len(self._unseen) + 1, self.step + 1)
        for step, logs in zip(steps, self._unseen, strict=True):
            names = ("loss", *(name for name in logs if name != "loss"))
            self.logs = {name: float(self._agree.own(logs[name])) for name in names}
            finite = all(map(math.isfinite, self.logs.values()))
            overflow = math.isfinite(self.logs["loss"]) and self.logs.get("loss_scale", 1.0) > 1.0
            self._skipped = 0 if finite or overflow else self._skipped + 1
            if self._writer is not None and finite:
                self._writer.watch.step(step, self.logs)
            elif self._writer is not None:
                why = "gradient overflowed; the loss scale is halved" if overflow else "loss or gradient is not finite"
                self._writer.say(f"step {step} is skipped: its {why}")
            if self._skipped == MAX_SKIPPED:
                _refuse_nonfinite(step, self.logs)
        self._unseen = []

    def _on_signal(self, number, frame):
        if self.stopped_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped_by = number
        if self._writer is not None:
            self._writer.say("stopping after this step; press Ctrl-C again to stop without saving")


def variables_beside(model: VideoModel) -> dict[str, tf.Variable]:
    """What a training has beside weights and optimiser, by names for checkpoints: averages of weights, a loss scale."""
    step = model.training_step
    paths = [v.path.removeprefix(model.name + "/") for v in model.trainable_variables]
    found = {f"ema/{path}": average for path, average in zip(paths, step.ema_variables, strict=False)}
    if step.loss_scale is not None:
        found |= {"loss_scale/factor": step.loss_scale.factor, "loss_scale/steps": step.loss_scale.steps}
    return found


def _refuse_nonfinite(step: int, logs: dict[str, float]) -> None:
    wrong = [name for name, value in logs.items() if not math.isfinite(value)]
    if not wrong:
        return
    terms = [name for name in wrong if name not in ("loss", "grad_norm")] or wrong
    level = terms[0].rpartition("_")[2]
    where = f"{terms[0]} (level {level})" if level.isdecimal() else terms[0]
    raise InputError(
        f"training stopped at step {step}: {where} is {logs[terms[0]]}; earlier checkpoints are intact: lower "
        "train.learning_rate or train.clip_norm in a new run"
    )
