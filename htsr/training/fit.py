"""Training: Keras ``fit`` over a step-addressed stream of clips, with checkpoints from which it resumes exactly.

The state of a run is its weights, its optimiser's slots and its step; batches, noise and logs are functions of these. A
run that is stopped, killed even, and started again therefore writes the same weights and the same log, bit for bit, as
one that was not (same machine type, thread count and versions, on a CPU).
"""

import math
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from htsr.checks import require_int
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.report import plots
from htsr.runs import checkpoints, trained_on
from htsr.training import schedules
from htsr.training.adam import Adam
from htsr.training.log import Log
from htsr.training.validation import Validation

MAX_SKIPPED = 5  # steps in a row whose gradient is not finite, after which training has diverged


class Result(NamedTuple):
    """Where training ended: the step, the values of the last step, and the signal that stopped it or None."""

    step: int
    logs: dict[str, float]
    stopped_by: int | None


def fit(
    model: VideoModel,
    clips: Clips,
    valid_clips: Clips,
    run: str | Path,
    *,
    steps: int,
    learning_rate: float = 1e-4,
    epsilon: float = 1e-4,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    schedule: Literal["constant", "cosine", "onecycle"] = "constant",
    clip_norm: float | None = 10000.0,
    accumulate: int = 1,
    ema_decay: float | None = None,
    jit_compile: bool = False,
    seed: int = 0,
    log_every: int = 10,
    valid_every: int = 1000,
    valid_examples: int = 64,
    valid_context: int = 36,
    valid_horizon: int = 64,
    valid_noise: Literal["sample", "mean"] = "sample",
    checkpoint_every: int = 1000,
    checkpoint_minutes: float = 10.0,
    keep_last: int = 3,
    keep_every: int | None = None,
) -> Result:
    """Train a model with Adam; continue where the run folder's newest valid checkpoint stands.

    Writes into ``run``: ``metrics.jsonl`` (a line every ``log_every`` steps and at every validation),
    ``training.png`` (its curves), ``tensorboard/``, ``samples/`` (rollouts as GIF and strip), ``model/``
    (checkpoints). SIGTERM and Ctrl-C finish the step, save and stop; a second Ctrl-C stops at once.

    Args:
        model: built, float32 or mixed precision.
        clips: training clips.
        valid_clips: held-out clips of at least ``valid_context + valid_horizon`` frames, and as long as ``clips``.
        run: the run folder.
        steps: training steps in all, those before a resume included; each is ``model.num_passes`` optimiser steps.
        learning_rate: Adam's, after the warm-up.
        epsilon: Adam's, outside the bias correction.
        weight_decay: decoupled (AdamW): every weight shrinks by this fraction of the learning rate at each optimiser
            step.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        schedule: ``constant``, ``cosine`` down to 0 at the last step, or ``onecycle`` (see ``OneCycle``), which also
            changes Adam's ``beta_1``.
        clip_norm: global norm that gradients are clipped to; None clips nothing.
        accumulate, ema_decay, jit_compile: as in ``VideoModel.compile``; validation is of the weights themselves, not
            of their averages.
        seed: of the training noise.
        log_every: steps between lines of the log.
        valid_every: steps between validations; also after the last step.
        valid_examples: clips of a validation.
        valid_context, valid_horizon, valid_noise: frames read and predicted in its rollouts, and what they are of.
        checkpoint_every, checkpoint_minutes: steps and minutes after which a checkpoint is written, whichever is
            first; also after every validation and the last step.
        keep_last, keep_every: checkpoints kept: the last few, and those at multiples of a step; the one with the best
            validation rollouts (mean squared error) always is.

    Returns:
        ``Result``.

    Raises:
        InputError: a refused argument, or a loss or gradient that is not finite in ``MAX_SKIPPED`` steps in a row, none
            of which changes a weight: then the message says at which step, level and term.
    """
    counts = {
        "steps": steps, "log_every": log_every, "valid_every": valid_every, "valid_examples": valid_examples,
        "valid_context": valid_context, "valid_horizon": valid_horizon, "checkpoint_every": checkpoint_every,
        "keep_last": keep_last,
    }  # fmt: skip
    for name, count in counts.items():
        require_int(f"train.{name}", count, 1)
    if valid_clips.shape[0] < max(valid_context + valid_horizon, clips.shape[0]):
        raise InputError(
            f"validation clips have {valid_clips.shape[0]} frames, but train.valid_context + train.valid_horizon is "
            f"{valid_context + valid_horizon} and training clips have {clips.shape[0]}; lower one of them"
        )
    if valid_context < model.min_context:
        raise InputError(
            f"train.valid_context must be at least {model.min_context} for {model.name}, received {valid_context}"
        )
    if not epsilon > 0 or not checkpoint_minutes > 0 or (keep_every is not None and keep_every < 1):
        raise InputError(
            f"train.epsilon, train.checkpoint_minutes and train.keep_every must be above 0, received {epsilon}, "
            f"{checkpoint_minutes} and {keep_every}"
        )
    if not weight_decay >= 0:
        raise InputError(f"train.weight_decay must be at least 0, received {weight_decay}")
    rate = schedules.learning_rate(learning_rate, warmup_steps, schedule, steps, model.num_passes)
    adam = schedules.OneCycleAdam if schedule == "onecycle" else Adam
    optimizer = adam(rate, model.frozen_in_passes, epsilon=epsilon, weight_decay=weight_decay or None, name="adam")
    model.compile(optimizer, clip_norm, accumulate, ema_decay, seed, jit_compile)
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    start = _restore(model, run)
    trained_on.keep(run, clips.source.contents(), resumed=start > 0)
    if start >= steps:
        print(f"{run} has already been trained for {start} steps", file=sys.stderr)
        return Result(start, {}, None)
    log = Log(run, start)
    validation = Validation(
        model, valid_clips, run, valid_examples, valid_context, valid_horizon, valid_noise, clips.shape[0]
    )
    cadence = _Cadence(log_every, valid_every, checkpoint_every, checkpoint_minutes)
    loop = _Loop(run, range(start, steps), log, validation, cadence, {"keep_last": keep_last, "keep_every": keep_every})
    with loop:
        stream = clips.dataset(start, steps)
        try:
            model.fit(stream, steps_per_epoch=steps - start, callbacks=[loop], shuffle=False, verbose=0)
        except tf.errors.OpError:
            if clips.failure is not None:  # what went wrong while reading, in place of the pipeline's report of it
                raise clips.failure from None
            raise
    return Result(loop.step, loop.logs, loop.stopped_by)


class _Cadence(NamedTuple):
    """Steps between what recurs, and the minutes after which a checkpoint is due anyway."""

    log: int
    valid: int
    checkpoint: int
    checkpoint_minutes: float


class _Loop(keras.callbacks.Callback):
    """What happens around a step: progress, log, validation, checkpoints, signals."""

    def __init__(self, run, steps, log, validation, cadence, kept):
        super().__init__()
        self.run, self.step, self.steps, self.log, self.validation = run, steps.start, steps.stop, log, validation
        self.every, self.kept = cadence, kept
        self.logs: dict[str, float] = {}
        self._skipped = 0  # in a row
        self.stopped_by: int | None = None
        self._saved_at = time.monotonic()
        self._timed = (self.step, time.monotonic())

    def __enter__(self):
        # Only the main thread may handle signals; in another one, whoever started it does.
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._handlers = {number: signal.signal(number, self._on_signal) for number in handled}
        interval = 0.5 if sys.stderr.isatty() else 30.0
        look = {"unit": "step", "mininterval": interval, "dynamic_ncols": True, "desc": self.run.name}
        self._bar = tqdm(total=self.steps, initial=self.step, **look)
        return self

    def __exit__(self, *_):
        self._bar.close()
        self.log.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.logs = {name: float(logs[name]) for name in ("loss", *(n for n in logs if n != "loss"))}
        finite = all(map(math.isfinite, self.logs.values()))
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped:
            self._bar.write(f"step {self.step} is skipped: its loss or gradient is not finite", file=sys.stderr)
        if self._skipped == MAX_SKIPPED:
            _refuse_nonfinite(self.step, self.logs)
        last = self.step == self.steps
        if self.step % self.every.log == 0 or last:
            self._write_log()
        self._bar.update()
        score = None
        if self.step % self.every.valid == 0 or last:
            record, score = self.validation()
            self.log.write(self.step, record)
            self._timed = (self.step, time.monotonic())
        if self.stopped_by is not None:
            self.model.stop_training = True
        late = time.monotonic() - self._saved_at > 60 * self.every.checkpoint_minutes
        due = self.step % self.every.checkpoint == 0 or late
        if due or last or score is not None or self.stopped_by is not None:
            self._save(score)
        if score is not None:
            self._draw()

    def _draw(self):
        try:
            self.validation.draw(self.step, self.log)
            plots.save_training_curves(self.run / "training.png", self.log.records(), self.run.name)
        except Exception as error:  # no picture is worth a training
            self._bar.write(f"pictures of step {self.step} not drawn: {' '.join(str(error).split())}", file=sys.stderr)

    def _write_log(self):
        rate = float(self.model.optimizer.learning_rate)
        self.log.write(self.step, {**self.logs, "learning_rate": rate})
        first, began = self._timed
        self.log.timing(self.step, (self.step - first) / (time.monotonic() - began))
        self._timed = (self.step, time.monotonic())
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in self.logs.items()}, refresh=False)

    def _save(self, score):
        self.log.sync()
        arrays = {
            **checkpoints.model_arrays(self.model),
            **checkpoints.model_arrays(self.model.optimizer, "optimizer"),
            **_ema_arrays(self.model),
        }
        checkpoints.save(self.run / "model", self.step, arrays, score=score, **self.kept)
        self._saved_at = time.monotonic()

    def _on_signal(self, number, frame):
        if self.stopped_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped_by = number
        self._bar.write("stopping after this step; press Ctrl-C again to stop without saving", file=sys.stderr)


def _restore(model: VideoModel, run: Path) -> int:
    """Load the newest valid checkpoint, if there is one; the steps it had done."""
    found = checkpoints.load(run / "model")
    if found is None:
        return 0
    step, arrays, _ = found
    checkpoints.assign_model(model, arrays)
    # Imported weights are of step 0 and may be without an optimiser, which then starts anew.
    if step or any(name.startswith("optimizer/") for name in arrays):
        # Where a run begins with the slots of another one, the schedule is its own.
        arrays = arrays if step else {**checkpoints.model_arrays(model.optimizer, "optimizer"), **arrays}
        checkpoints.assign_model(model.optimizer, arrays, "optimizer")
    for name, variable in zip(_ema_arrays(model), model.training_step.ema_variables, strict=True):
        variable.assign(arrays.get(name, arrays[f"model/{name[4:]}"]))
    print(f"resuming {run} at step {step}", file=sys.stderr)
    return step


def _ema_arrays(model: VideoModel) -> dict[str, np.ndarray]:
    if not model.training_step.ema_variables:
        return {}
    paths = [v.path.removeprefix(model.name + "/") for v in model.trainable_variables]
    return {
        f"ema/{path}": variable.numpy() for path, variable in zip(paths, model.training_step.ema_variables, strict=True)
    }


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
