"""Long-horizon evaluation: open-loop rollouts of test clips, scored frame by frame beside the baselines.

Clips pass through one small batch at a time and predictions one piece of the horizon at a time; the numbers of each
frame go to files as they are found, so memory grows with neither the number of clips nor (beyond the batch of clips
itself) the horizon, and an evaluation that was stopped goes on where it was. Frame ``k`` after the context is scored
against frame ``k`` of the truth. Tables, pictures and reports are made of the ``Result``, elsewhere.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from htsr.checks import require_choice, require_int
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.baselines import MODEL
from htsr.evaluation.provenance import provenance_of
from htsr.evaluation.result import Result, Unfinished, clips_sha256
from htsr.evaluation.scoring import Scorer
from htsr.metrics import METRIC_SPEC, resolve_mode
from htsr.metrics.curves import Select
from htsr.metrics.digits import MAX_DIGITS
from htsr.metrics.fvd import missing_weights
from htsr.models.base import VideoModel
from htsr.runs import environment

SET_BY_PROGRAM = ("model", "clips", "out", "provenance", "until")  # what no config can give
CHUNK = 50  # predicted frames at once


def evaluate(
    model: VideoModel,
    clips: Clips,
    *,
    out: str | Path,
    context: int = 36,
    horizon: int = 300,
    num_examples: int | None = 100,
    num_samples: int = 1,
    batch_size: int = 8,
    rows: int | None = 8,
    seed: int = 0,
    noise: Literal["sample", "mean"] = "sample",
    select: Select | None = None,
    metric_mode: str = METRIC_SPEC,
    lpips: bool = True,
    fvd: bool = False,
    fvd_frames: int = 16,
    thresholds: Sequence[float] = (),
    digits: bool = True,
    provenance: Mapping[str, Any] | None = None,
    until: contextlib.ExitStack | None = None,
) -> Result:
    """Score a model on clips; write ``curves.json`` and ``curves.npz``.

    A clip's prediction depends on ``seed`` and the clip's index, not on the batch it happens to be in. Where ``out``,
    or a folder beside it, holds the beginning of the same evaluation, it goes on there after the last finished batch.

    Args:
        model: what to score.
        clips: clips of at least ``context + horizon`` frames; their first frames are used.
        out: folder of the results; made when missing.
        context: frames shown to the model.
        horizon: frames it predicts after them.
        num_examples: clips, the first ones in file order; None takes all.
        num_samples: futures per clip; with several, columns ``<metric>_mean<K>`` and ``<metric>_best<K>`` are added
            (see ``htsr.metrics.curves`` for the rules), and CRPS and spread–skill.
        batch_size: clips read and scored at once.
        rows: futures, of clips and samples, that are predicted together (see ``VideoModel.rollout``); None predicts
            all those of a batch together.
        seed: of the model's noise and of the bootstrap.
        noise: ``sample``, or ``mean``: one rollout a clip with means in place of samples.
        select: what picks the best of several samples: ``psnr``, one sample for all metrics, or ``per_metric``; None
            for what the convention has, in ``htsr-1`` ``psnr``.
        metric_mode: convention of the frame metrics: ``htsr-1``, or that of another project (``htsr.metrics.MODES``),
            whose name is then part of column and file names.
        lpips: also compute LPIPS, which needs frames of at least 31x31 pixels.
        fvd: also compute FVD of the first ``fvd_frames`` predicted frames, where the network's weights are there.
        thresholds: event scores (CSI, POD, FAR, bias, HSS) of pixels at or above them, in the data's units.
        digits: also read the digits, of clips that know theirs, at most five.
        provenance: whatever else ``curves.json`` should say: split, checkpoint, config.
        until: contexts of a caller that has more to do, pictures say: until they are left the evaluation counts as
            unfinished, and goes on after its numbers where it is interrupted.

    Raises:
        InputError: an argument is out of range, or model, clips and arguments do not fit each other.
    """
    started = time.monotonic()
    mode = resolve_mode(metric_mode)
    counts = {"context": context, "horizon": horizon, "num_samples": num_samples, "batch_size": batch_size}
    _check(model, clips, noise, select, seed, **counts)
    select = select or mode.select
    total = clips.num_clips if num_examples is None else num_examples
    clips.examples(total)  # refuses a number that is not there
    units = clips.source.units or (0.0, 1.0)
    no_fvd = "not asked for: eval.fvd=false" if not fvd else missing_weights()
    compared = None if no_fvd else min(fvd_frames, horizon)
    scorer = Scorer(
        mode,
        clips.shape[1:],
        lpips=lpips,
        digits=digits and clips.source.labels is not None and len(clips.source.labels(0)) <= MAX_DIGITS,
        thresholds=thresholds,
        units=units,
        fvd_frames=compared,
        num_samples=num_samples,
    )
    settings = {
        **counts,
        "num_examples": total,
        "rows": rows,
        "seed": seed,
        "noise": noise if model.stochastic else "none: the model is deterministic",
        "select": select,
        "metric_mode": mode.name,
        "lpips": lpips,
        "fvd_frames": compared,
        "thresholds": list(thresholds),
        "digits": digits,
        **(provenance or {}),
    }
    first = next(clips.examples(1, 0, 1))[:, : context + horizon]
    machine = {name: value for name, value in environment.describe().items() if name != "command"}
    identity = {"first_clip": clips_sha256(first), "weights": _weights_sha256(model), "machine": machine}
    with contextlib.ExitStack() as computed:
        found = (until or computed).enter_context(Unfinished(Path(out), {**settings, **identity}))
        _predict_and_score(found, model, clips, scorer, settings)
        reduced = found.curves.reduce(MODEL, seed, select, units[1] - units[0])
        about = provenance_of(found, clips, mode, settings, reduced["metrics"], no_fvd)
        about |= {
            "wall_seconds": round(time.monotonic() - started, 1),
            "peak_memory_mib": environment.peak_memory_mib(),
        }
        result = Result(reduced, about, found.out)
        found.curves.save(result.file(".npz"))
        result.save()
    return result


def predict(
    model: VideoModel, context: np.ndarray, indices: Iterable[int], settings: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Predict the clips of these indices after their context as the evaluation of these settings does, in pieces."""
    return model.rollout_chunks(
        context,
        settings["horizon"],
        num_samples=settings["num_samples"],
        seed=clip_seeds(settings["seed"], indices),
        noise="sample" if settings["noise"] == "sample" else "mean",
        rows=settings.get("rows", 1),  # which the oldest results do not say
        chunk=CHUNK,
    )


def clip_seeds(seed: int, indices: Iterable[int]) -> np.ndarray:
    """The rollout seeds of clips, int32: functions of the evaluation's seed and a clip's index alone."""
    states = [np.random.SeedSequence([seed, index]).generate_state(1)[0] for index in indices]
    return (np.array(states) >> 1).astype(np.int32)


def _check(model, clips, noise, select, seed, **counts) -> None:
    for name, value in counts.items():
        require_int(f"eval.{name}", value, least=1)
    require_int("eval.seed", seed, least=0)
    require_choice("eval.noise", noise, ("sample", "mean"))
    if select is not None:
        require_choice("eval.select", select, get_args(Select))
    num_samples = counts["num_samples"]
    if noise == "mean" and num_samples > 1:
        raise InputError(
            f"eval.noise=mean gives one future, but eval.num_samples is {num_samples}; set eval.noise=sample, or "
            "eval.num_samples=1"
        )
    if num_samples > 1 and not model.stochastic:
        raise InputError(f"this model has one future for a context, but eval.num_samples is {num_samples}; set it to 1")
    check_fit(model, clips, counts["context"], counts["horizon"])


def check_fit(model: VideoModel, clips: Clips, context: int, horizon: int) -> None:
    """Refuse clips that are too short, or of other frames than the model's."""
    frames, *shape = clips.shape
    if frames < context + horizon:
        raise InputError(
            f"the clips have {frames} frames, but context {context} and horizon {horizon} need {context + horizon}; "
            "use longer clips or a shorter horizon"
        )
    if tuple(shape) != tuple(model.frame_shape):
        raise InputError(
            f"the model predicts frames of {tuple(model.frame_shape)}, but the clips have {tuple(shape)}; "
            "evaluate on the data it was trained for"
        )


def _predict_and_score(
    found: Unfinished, model: VideoModel, clips: Clips, scorer: Scorer, settings: Mapping[str, Any]
) -> None:
    """Predict and score all clips that are not done yet."""
    context, horizon, total = settings["context"], settings["horizon"], settings["num_examples"]
    try:
        with tqdm(total=total, initial=found.num_clips, desc="clips", unit="clip", disable=None) as progress:
            for batch in clips.examples(total, found.num_clips, settings["batch_size"]):
                clip = batch[:, : context + horizon]
                indices = range(found.num_clips, found.num_clips + len(clip))
                digits = ()
                if scorer.reads_digits:
                    labels = np.stack([clips.source.labels(i) for i in indices])
                    digits = labels, np.stack([clips.source.positions(i)[context : context + horizon] for i in indices])
                chunks = predict(model, clip[:, :context], indices, settings)
                found.add(clip, *scorer.score(chunks, clip[:, :context], clip[:, context:], *digits))
                progress.update(len(clip))
    except KeyboardInterrupt as stop:
        stop.add_note(f"{found.num_clips} of {total} clips are kept")
        raise


def _weights_sha256(model: VideoModel) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()
