"""Training: a loop over a step-addressed stream of clips, on one or several devices, with checkpoints.

The state of a run is its weights, its optimiser's slots and its step; batches, noise and logs are functions of these. A
run that is stopped, killed even, and started again therefore writes the same weights and the same log, bit for bit, as
one that was not (same machine type, thread count and versions, on a CPU). On several replicas the training is the same
up to the order of summation, and goes on from the checkpoint of any other number of them.

The device is asked for numbers no more often than every ``log_every`` steps.
"""

import sys
from pathlib import Path
from typing import Literal, NamedTuple

import tensorflow as tf

from htsr.checks import require_int
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.runs import checkpoints, trained_on
from htsr.training import schedules
from htsr.training.adam import Adam
from htsr.training.loop import Cadence, Loop, Writer, variables_beside
from htsr.training.strategy import Agreement, automatic, is_chief, noticing_loss, shares
from htsr.training.validation import Validation


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
    recompute: int | None = None,
    jit_compile: bool | Literal["auto"] = "auto",
    deterministic: bool | Literal["auto"] = "auto",
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

    A model that was built in the scope of a ``tf.distribute`` strategy is trained on all of its replicas, each of which
    gets an equal part of every batch; of several workers the first alone writes.

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
        accumulate, ema_decay, recompute: as in ``VideoModel.compile``; validation is of the weights themselves, not of
            their averages.
        jit_compile: compile the step with XLA; ``auto`` does it where there is a GPU.
        deterministic: take operations that always give the same bits, without which a run does not resume exactly;
            ``auto`` does it where there is neither a GPU, on which they are slow, nor XLA.
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
    _check(
        model, clips, valid_clips, valid_context, valid_horizon, epsilon, weight_decay, checkpoint_minutes, keep_every
    )
    jit_compile, deterministic = automatic(jit_compile, deterministic)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    rate = schedules.learning_rate(learning_rate, warmup_steps, schedule, steps, model.num_passes)
    adam = schedules.OneCycleAdam if schedule == "onecycle" else Adam
    replicas = model.distribute_strategy
    with replicas.scope():
        optimizer = adam(rate, model.frozen_in_passes, epsilon=epsilon, weight_decay=weight_decay or None, name="adam")
        model.compile(optimizer, clip_norm, accumulate, ema_decay, seed, jit_compile, recompute)
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    agree = Agreement(replicas)
    agree(0)  # the first worker may have written what a run begins with
    start = _restore(model, run)
    if len(set(agree(start))) > 1:
        raise InputError(f"the workers see different checkpoints in {run}; put it where all of them read and write")
    chief = is_chief(replicas)
    if chief:
        trained_on.keep(run, clips.source.contents(), resumed=start > 0)
    if start >= steps:
        print(f"{run} has already been trained for {start} steps", file=sys.stderr)
        return Result(start, {}, None)
    stream = replicas.distribute_datasets_from_function(
        lambda context: clips.dataset(start, steps, shares(context, clips.batch_size, accumulate))
    )
    writer = None
    if chief:
        validation = Validation(
            model, valid_clips, run, valid_examples, valid_context, valid_horizon, valid_noise, clips.shape[0]
        )
        every = Cadence(valid_every, checkpoint_every, checkpoint_minutes)
        kept = {"keep_last": keep_last, "keep_every": keep_every}
        writer = Writer(model, run, range(start, steps), validation, every, kept)
    whole = model.jit_compile and not model.training_step.distributed
    step = tf.function(lambda clip: replicas.run(model.train_step, (clip,)), autograph=False, jit_compile=whole)
    with noticing_loss(replicas, run), Loop(range(start, steps), log_every, agree, writer) as loop:
        try:
            for clip in stream if writer is None else writer.watch.batches(stream):
                if loop.after(step(clip)):
                    break
        except tf.errors.OpError:
            if clips.failure is not None:  # what went wrong while reading, in place of the pipeline's report of it
                raise clips.failure from None
            raise
    return Result(loop.step, loop.logs, loop.stopped_by)


def _check(
    model, clips, valid_clips, valid_context, valid_horizon, epsilon, weight_decay, checkpoint_minutes, keep_every
) -> None:
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
    for name, variable in variables_beside(model).items():
        # A run that begins with the weights of one without averages, or of another precision.
        variable.assign(arrays.get(name, arrays.get(name.replace("ema/", "model/", 1), variable)))
    print(f"resuming {run} at step {step}", file=sys.stderr)
    return step
