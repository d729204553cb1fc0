"""Training: Keras ``fit`` over a step-addressed stream of clips, with checkpoints from which it resumes exactly.

The state of a run is its weights, its optimiser's slots and its step; batches, noise and logs are functions of these. A
run that is stopped, killed even, and started again therefore writes the same weights and the same log, bit for bit, as
one that was not (same machine type, thread count and versions, on a CPU).
"""

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.report import figures
from htsr.runs import checkpoints
from htsr.training.adam import Adam
from htsr.training.schedules import OneCycle, OneCycleAdam


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
        InputError: a refused argument, or a loss that is not finite: then the message says at which step, level and
            term, and the checkpoints are those from before.
    """
    counts = {
        "steps": steps, "log_every": log_every, "valid_every": valid_every, "valid_examples": valid_examples,
        "valid_context": valid_context, "valid_horizon": valid_horizon, "checkpoint_every": checkpoint_every,
        "keep_last": keep_last,
    }  # fmt: skip
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"train.{name} must be at least 1, received {count}")
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
    rate = _learning_rate(learning_rate, warmup_steps, schedule, steps, model.num_passes)
    adam = OneCycleAdam if schedule == "onecycle" else Adam
    optimizer = adam(rate, model.frozen_in_passes, epsilon=epsilon, weight_decay=weight_decay or None, name="adam")
    model.compile(optimizer, clip_norm, accumulate, ema_decay, seed, jit_compile)
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    start = _restore(model, run)
    if start >= steps:
        print(f"{run} has already been trained for {start} steps", file=sys.stderr)
        return Result(start, {}, None)
    log = _Log(run, start)
    validation = _Validation(
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
        _refuse_nonfinite(self.step, self.logs)
        last = self.step == self.steps
        if self.step % self.every.log == 0 or last:
            self._write_log()
        self._bar.update()
        score = None
        if self.step % self.every.valid == 0 or last:
            record, score = self.validation(self.step, self.log)
            self.log.write(self.step, record)
            figures.save_training_curves(self.run / "training.png", self.log.records(), self.run.name)
            self._timed = (self.step, time.monotonic())
        if self.stopped_by is not None:
            self.model.stop_training = True
        late = time.monotonic() - self._saved_at > 60 * self.every.checkpoint_minutes
        due = self.step % self.every.checkpoint == 0 or late
        if due or last or score is not None or self.stopped_by is not None:
            self._save(score)

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


class _Log:
    """``metrics.jsonl`` and TensorBoard. On resume, lines of steps after the checkpoint are dropped."""

    def __init__(self, run: Path, start: int):
        self._path = run / "metrics.jsonl"
        kept = [record for record in self.records() if record["step"] <= start]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        os.replace(temporary, self._path)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        self.tensorboard = tf.summary.create_file_writer(str(run / "tensorboard"))

    def write(self, step: int, record: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **record}) + "\n")
        self._file.flush()
        with self.tensorboard.as_default(step):
            for name, value in record.items():
                tf.summary.scalar(name if "/" in name else f"train/{name}", value)

    def timing(self, step: int, steps_per_second: float) -> None:
        """Speed is in TensorBoard alone: ``metrics.jsonl`` is the same whether or not a run was interrupted."""
        with self.tensorboard.as_default(step):
            tf.summary.scalar("speed/steps_per_second", steps_per_second)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        with self.tensorboard.as_default(step):
            tf.summary.image(name, picture[None])

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self.tensorboard.flush()

    def close(self) -> None:
        self._file.close()
        self.tensorboard.close()

    def records(self) -> list[dict[str, float]]:
        """The lines so far."""
        records = []
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn by a kill: it and what follows is written again
        return records


class _Validation:
    """Loss and open-loop rollouts on the same held-out clips every time, with the same noise."""

    def __init__(self, model, clips, run, num_examples, context, horizon, noise, train_frames):
        self.model, self.clips, self.run = model, clips, run
        self.num_examples = min(num_examples, clips.num_clips)
        self.context, self.horizon, self.noise = context, horizon, noise
        self.train_frames = train_frames
        self._terms = tf.function(model.loss_terms, reduce_retracing=True, autograph=False)

    def __call__(self, step: int, log: _Log) -> tuple[dict[str, float], float]:
        """The record for the log, and the score: the rollouts' mean squared error."""
        terms, errors, count = {}, np.zeros(self.horizon), 0
        for i, clip in enumerate(self.clips.examples(self.num_examples)):
            for name, values in self._terms(clip[:, : self.train_frames], tf.constant(i)).items():
                terms[name] = terms.get(name, 0.0) + float(tf.reduce_sum(values))
            context, future = np.split(clip[:, : self.context + self.horizon], [self.context], 1)
            frames = self.model.rollout(context, self.horizon, seed=i, noise=self.noise)[0].clip(0, 1)
            errors += np.square(frames - future).mean((2, 3, 4), dtype=np.float64).sum(0)
            count += len(clip)
            if i == 0:
                self._draw(step, log, clip[0], frames[0])
        terms = {name: value / count for name, value in terms.items()}
        loss = self.model.total_loss({name: tf.constant(value) for name, value in terms.items()}, self.train_frames)
        errors /= count
        record = {"valid/loss": float(loss), **{f"valid/{name}": value for name, value in terms.items()}}
        for h in (h for h in (1, 5, 10, 20, 50, 100) if h <= self.horizon):
            record[f"valid/rollout_mse_{h}"] = float(errors[h - 1])
        record["valid/rollout_mse"] = float(errors.mean())
        return record, record["valid/rollout_mse"]

    def _draw(self, step: int, log: _Log, clip: np.ndarray, prediction: np.ndarray) -> None:
        clip = np.round(clip[: self.context + self.horizon] * 255).astype(np.uint8)
        predicted = np.round(prediction * 255).astype(np.uint8)
        rows = {self.clips.label("truth"): clip, "prediction": np.concatenate([clip[: self.context], predicted])}
        folder = self.run / "samples"
        folder.mkdir(exist_ok=True)
        figures.save_strip(folder / f"step_{step}.png", rows, self.context)
        figures.save_gif(folder / f"step_{step}.gif", rows, self.context)
        log.image(step, "rollout", figures.rollout_image(rows, self.context))


def _restore(model: VideoModel, run: Path) -> int:
    """Load the newest valid checkpoint, if there is one; the steps it had done."""
    found = checkpoints.load(run / "model")
    if found is None:
        return 0
    step, arrays, _ = found
    checkpoints.assign_model(model, arrays)
    # Imported weights are of step 0 and may be without an optimiser, which then starts anew.
    if step or any(name.startswith("optimizer/") for name in arrays):
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


def _learning_rate(peak: float, warmup_steps: int, schedule: str, steps: int, num_passes: int) -> Any:
    """A number, or a schedule over optimiser steps, of which a training step is ``num_passes``."""
    if not peak > 0:
        raise InputError(f"train.learning_rate must be above 0, received {peak}")
    if not 0 <= warmup_steps < steps:
        raise InputError(
            f"train.warmup_steps must lie in 0..{steps - 1}, received {warmup_steps}: lower it, or raise train.steps"
        )
    if schedule == "onecycle":
        if warmup_steps:
            raise InputError(
                "train.warmup_steps must be 0 with schedule onecycle, which warms up by itself, "
                f"received {warmup_steps}"
            )
        return OneCycle(peak, steps * num_passes)
    if schedule == "constant" and not warmup_steps:
        return peak
    # Keras counts decay_steps after the warm-up; alpha is the fraction left at the end.
    alpha = 1.0 if schedule == "constant" else 0.0
    warmup, decay = warmup_steps * num_passes, (steps - warmup_steps) * num_passes
    if warmup:
        return keras.optimizers.schedules.CosineDecay(0.0, decay, alpha=alpha, warmup_target=peak, warmup_steps=warmup)
    return keras.optimizers.schedules.CosineDecay(peak, decay, alpha=alpha)


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
