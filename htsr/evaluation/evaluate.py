"""Long-horizon evaluation: open-loop rollouts of test clips, scored frame by frame beside the baselines.

Clips pass through one small batch at a time and predictions one piece of the horizon at a time; the numbers of each
frame go to files as they are found, so memory grows with neither the number of clips nor (beyond the batch of clips
itself) the horizon, and an evaluation that was stopped goes on where it was. Frame ``k`` after the context is scored
against frame ``k`` of the truth.
"""

import functools
import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from tqdm import tqdm

from htsr.checks import require_choice, require_int
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.baselines import BASELINES, MODEL, SERIES, TRUTH
from htsr.evaluation.partial import Gathered, clips_sha256
from htsr.evaluation.pictures import CHUNK, clip_seeds, illustrate
from htsr.evaluation.scoring import Scorer
from htsr.metrics import METRIC_SPEC, Curves, Mode, frechet_distance, resolve_mode
from htsr.metrics.curves import CONFIDENCE, RESAMPLES, Select
from htsr.metrics.digits import MAX_DIGITS
from htsr.metrics.frame import MAX_PSNR
from htsr.metrics.fvd import describe, missing_weights
from htsr.metrics.metric import METRICS
from htsr.models.base import VideoModel
from htsr.report import figures
from htsr.report.tables import bands, title
from htsr.runs import environment

SET_BY_PROGRAM = ("model", "clips", "out", "provenance", "expected_sha256", "conclude")  # what no config can give


class Result(NamedTuple):
    """What ``evaluate`` found: what ``Curves.reduce`` made of the values, how they came about, and where they lie."""

    reduced: dict[str, Any]
    provenance: dict[str, Any]
    folder: Path

    @property
    def curves(self) -> Curves:
        """Every value, read from the folder."""
        return Curves.load(self.folder / f"{file_name(self.provenance['metric_mode'])}.npz")


def evaluate(
    model: VideoModel,
    clips: Clips,
    *,
    out: str | Path,
    context: int = 36,
    horizon: int = 300,
    num_examples: int | None = 100,
    num_samples: int = 1,
    batch_size: int = 4,
    rows: int | None = 1,
    seed: int = 0,
    noise: Literal["sample", "mean"] = "sample",
    select: Select | None = None,
    metric_mode: str = METRIC_SPEC,
    lpips: bool = True,
    fvd: bool = False,
    fvd_frames: int = 16,
    thresholds: Sequence[float] = (),
    digits: bool = True,
    num_pictures: int = 6,
    provenance: Mapping[str, Any] | None = None,
    expected_sha256: str | None = None,
    conclude: Callable[[Result], None] | None = None,
) -> Result:
    """Score a model on clips; write ``curves.json``, ``curves.npz``, ``curves.png``, strips and GIFs.

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
        rows: futures that are predicted together (see ``VideoModel.rollout``); None predicts all those of a batch
            together, which is faster on a GPU.
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
        num_pictures: clips that get a strip and a GIF (truth, the first samples, absolute difference of the first):
            the best, the median and the worst by PSNR, then the first ones; a GIF ends after 300 predicted frames.
        provenance: whatever else ``curves.json`` should say: split, checkpoint, config.
        expected_sha256: what the digest of the clips has to be; a warning in the result says so when it is not.
        conclude: called with the result when all else is done; interrupted there, an evaluation goes on
            there.

    Raises:
        InputError: an argument is out of range, or model, clips and arguments do not fit each other.
    """
    started = time.monotonic()
    mode = resolve_mode(metric_mode)
    _check(model, clips, noise, select, context, horizon, num_samples, batch_size, seed, num_pictures)
    select = select or mode.select
    total = clips.num_clips if num_examples is None else num_examples
    clips.examples(total)  # refuses a number that is not there
    units = clips.source.units or (0.0, 1.0)
    no_fvd = "not asked for: eval.fvd=false" if not fvd else missing_weights()
    scorer = Scorer(
        mode,
        clips.shape[1:],
        lpips=lpips,
        digits=digits and clips.source.labels is not None and len(clips.source.labels(0)) <= MAX_DIGITS,
        thresholds=thresholds,
        units=units,
        fvd_frames=None if no_fvd else min(fvd_frames, horizon),
        num_samples=num_samples,
    )
    settings = {
        "context": context,
        "horizon": horizon,
        "num_examples": total,
        "num_samples": num_samples,
        "batch_size": batch_size,
        "rows": rows,
        "seed": seed,
        "noise": noise if model.stochastic else "none: the model is deterministic",
        "select": select,
        "metric_mode": mode.name,
        "lpips": lpips,
        "fvd_frames": None if no_fvd else min(fvd_frames, horizon),
        "thresholds": list(thresholds),
        "digits": digits,
        **(provenance or {}),
    }
    first = next(clips.examples(1, 0, 1))[:, : context + horizon]
    machine = {name: value for name, value in environment.describe().items() if name != "command"}
    identity = {"first_clip": clips_sha256(first), "weights": _weights_sha256(model), "machine": machine}
    with Gathered(Path(out), {**settings, **identity}) as gathered:
        _gather(gathered, model, clips, scorer, settings)
        pictures = illustrate(model, clips, gathered.curves, settings, num_pictures, gathered.out)
        reduced = gathered.curves.reduce(MODEL, seed, select, units[1] - units[0])
        report = _report(gathered, clips, mode, settings, reduced["metrics"], no_fvd)
        report |= {
            "pictures": pictures,
            "warnings": _warnings(report, gathered.curves, expected_sha256, mode.warning),
            "wall_seconds": round(time.monotonic() - started, 1),
            "resumed_at_clip": gathered.resumed_at,
            "peak_memory_mib": peak_memory_mib(),
        }
        gathered.curves.save(gathered.out, reduced, report, file_name(mode.name))
        plot = gathered.out / f"{file_name(mode.name)}.png"
        figures.save_curves(plot, bands(reduced, report), "Open-loop prediction", title(report))
        found = Result(reduced, report, gathered.out)
        if conclude:
            conclude(found)
        gathered.remove()
    return found


def file_name(metric_mode: str) -> str:
    """What files of results are called: ``curves``, and with another convention's metrics ``curves.openstl``."""
    return "curves" if metric_mode == METRIC_SPEC else f"curves.{metric_mode}"


def results_of(folder: Path, suffix: str) -> Path:
    """The one file of numbers in a folder of results, ``.json`` or ``.npz``.

    Raises:
        InputError: there is none, or more than one.
    """
    found = list(folder.glob(f"curves*{suffix}"))
    if len(found) != 1:
        raise InputError(f"{folder} should hold the results of one evaluation, found {len(found)}; evaluate again")
    return found[0]


def peak_memory_mib() -> int:
    """The most memory this process has had in use so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)


_BEST_RULES = {
    "psnr": "per clip, the sample with the best PSNR averaged over the horizon supplies every metric",
    "per_metric": "per clip and metric, the sample that is best by that metric averaged over the horizon",
}


def _check(model, clips, noise, select, context, horizon, num_samples, batch_size, seed, num_pictures) -> None:
    least = {"context": 1, "horizon": 1, "num_samples": 1, "batch_size": 1, "seed": 0, "num_pictures": 0}
    given = (context, horizon, num_samples, batch_size, seed, num_pictures)
    for (name, minimum), value in zip(least.items(), given, strict=True):
        require_int(f"eval.{name}", value, least=minimum)
    require_choice("eval.noise", noise, ("sample", "mean"))
    if select is not None:
        require_choice("eval.select", select, get_args(Select))
    if noise == "mean" and num_samples > 1:
        raise InputError(
            f"eval.noise=mean gives one future, but eval.num_samples is {num_samples}; set eval.noise=sample, or "
            "eval.num_samples=1"
        )
    if num_samples > 1 and not model.stochastic:
        raise InputError(f"this model has one future for a context, but eval.num_samples is {num_samples}; set it to 1")
    check_fit(model, clips, context, horizon)


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


def _gather(gathered: Gathered, model: VideoModel, clips: Clips, scorer: Scorer, settings: Mapping[str, Any]) -> None:
    """Predict and score all clips that are not done yet."""
    context, horizon, total = settings["context"], settings["horizon"], settings["num_examples"]
    noise = "sample" if settings["noise"] == "sample" else "mean"
    try:
        with tqdm(total=total, initial=gathered.num_clips, desc="clips", unit="clip", disable=None) as progress:
            for batch in clips.examples(total, gathered.num_clips, settings["batch_size"]):
                clip = batch[:, : context + horizon]
                indices = range(gathered.num_clips, gathered.num_clips + len(clip))
                chunks = model.rollout_chunks(
                    clip[:, :context],
                    horizon,
                    num_samples=settings["num_samples"],
                    seed=clip_seeds(settings["seed"], indices),
                    noise=noise,
                    rows=settings["rows"],
                    chunk=CHUNK,
                )
                digits = ()
                if scorer.reads_digits:
                    labels = np.stack([clips.source.labels(i) for i in indices])
                    digits = labels, np.stack([clips.source.positions(i)[context : context + horizon] for i in indices])
                scores = scorer.score(chunks, clip[:, :context], clip[:, context:], *digits)
                gathered.add(clip, *scores)
                progress.update(len(clip))
    except KeyboardInterrupt:
        print(f"\n{gathered.num_clips} of {total} clips are kept; the same command goes on from there", file=sys.stderr)
        raise


def _weights_sha256(model: VideoModel) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def _report(
    gathered: Gathered,
    clips: Clips,
    mode: Mode,
    settings: Mapping[str, Any],
    metrics: Iterable[str],
    no_fvd: str | None,
) -> dict[str, Any]:
    """How the numbers came about."""
    curves, select = gathered.curves, settings["select"]
    names = {metric.partition("@")[0] for metric in metrics}
    definitions = {name: about.definition for name, about in METRICS.items() if name in names and about.definition}
    report = {
        "metric_spec": METRIC_SPEC,
        **settings,
        "series": {name: SERIES[name] for name in curves.series},
        "definitions": {**mode.definition, **definitions},
        "best_rule": _BEST_RULES[select],
        "interval": f"{CONFIDENCE:.0%} percentile bootstrap over clips, {RESAMPLES} resamples",
        "clips_sha256": gathered.sha256(settings["num_examples"]),
        "first_clip_sha256": gathered.sha256(1),
        "fvd": no_fvd or _frechet(gathered.features, settings["fvd_frames"]),
        "exact_frames": _exact_frames(curves),
        "environment": environment.describe(),
    }
    if clips.note:
        report["note"] = clips.note
    if clips.source.units:
        report["units"] = list(clips.source.units)
    if mode.name != METRIC_SPEC:
        best = settings["num_samples"] > 1 and select == "per_metric"
        report["published_rule"] = f"best of {settings['num_samples']} by each metric" if best else "first sample"
        report["published_row"] = _published_rows(mode, curves, "best" if best else "single", select)
    return report


def _exact_frames(curves: Curves) -> dict[str, int]:
    """Of every series, the frames that are the true ones."""
    found = {}
    for series in curves.series:
        for metric in curves.metrics(series):
            if metric.rpartition(".")[2] == "psnr":
                found[series] = int((curves.array(series, metric) >= MAX_PSNR).sum())
    return found


def _frechet(features: Curves, num_frames: int) -> dict[str, Any] | str:
    """FVD of every series against the true frames."""
    if features.num_clips() < 2:
        return "skipped: FVD needs at least 2 clips"
    truth = features.values(TRUTH, "i3d")
    values = {
        series: frechet_distance(features.values(series, "i3d"), truth) for series in features.series if series != TRUTH
    }
    return {"spec": describe(len(truth), num_frames), "values": values}


def _published_rows(mode: Mode, curves: Curves, rule: str, select: Select) -> dict[str, dict[str, float]]:
    """The numbers that the convention's own tables have, of every series."""
    rows = {}
    for series in (MODEL, *BASELINES):
        lpips = mode.column("lpips") in curves.metrics(series)
        rows[series] = mode.row(functools.partial(curves.values, series, rule=rule, select=select), lpips)
    return rows


def _warnings(report: Mapping[str, Any], curves: Curves, expected: str | None, warning: str) -> list[str]:
    found = []
    if expected is not None and expected != report["clips_sha256"]:
        found.append(
            f"the clips are not those of the protocol: expected SHA-256 {expected}, received {report['clips_sha256']}"
        )
    metric = next(iter(curves.metrics(MODEL)))
    missing = int(np.isnan(curves.array(MODEL, metric)).any(axis=2).sum())
    if missing:
        found.append(f"{missing} predictions hold values that are not numbers")
    if warning:
        found.append(warning)
    if report["metric_mode"] == METRIC_SPEC and "ssim" not in curves.metrics(MODEL):
        found.append("SSIM is left out: its window takes frames of at least 11x11 pixels")
    if report.get("seen_in_training"):
        found.append(report["seen_in_training"])
    return found
