"""What the levels of HTSR (and of Clockwork VAE and the RSSM, which are the same class) carry.

Two looks at the same clips. *Observed*: posteriors at every tick of the whole clip, as in a training step with samples;
where they leave the prior, the level has learnt something from the frames that it could not foresee. *Open loop*: only
the context is observed; what the rollouts lose against the posteriors' reconstruction is what the priors do not know,
and redrawing the noise of one level shows which part of the future it decides.

Numbers in nats are per frame (sum over the ticks of a clip over its frames, as in the loss) or per tick. A unit is
*active* when its KL, averaged over clips and ticks, is above 0.01 nats. By the criterion of Burda et al., "Importance
weighted autoencoders" (arXiv 1509.00519), it is when the variance of its posterior mean over the data is above 0.01;
here the data are clips and ticks, and the mean is counted from the prior's in prior stddevs (Deviation: theirs is fixed
at mean 0 and stddev 1, where that is the same). The second finds units whose KL is the same whatever the frames are: it
pays for less noise and tells nothing. A level is *collapsed* when all its units together stay below 0.01 nats a tick.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from htsr.checks import require_int
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.evaluate import CHUNK, check_fit, clip_seeds
from htsr.evaluation.pictures import save_pictures, to_bytes
from htsr.evaluation.result import save_json
from htsr.metrics import bootstrap_interval, psnr
from htsr.models.htsr.hierarchy import Level, RolloutState
from htsr.models.htsr.model import HTSR
from htsr.ops import noise as noise_lib
from htsr.ops.likelihoods import gaussian_kl
from htsr.report.latents import ACTIVE, ALL_LEVELS, save_plot, table, warnings_of

REDRAWS = 4
_RULES = {
    "active_units": f"units whose KL averaged over clips and ticks is above {ACTIVE} nats",
    "active_units_by_variance": "units whose posterior mean, from the prior mean in prior stddevs, has a variance over "
    f"clips and ticks above {ACTIVE} (arXiv 1509.00519)",
    "collapsed": f"KL of the level below {ACTIVE} nats a tick",
    "redraw_stddev": f"standard deviation of a pixel over {REDRAWS} futures that differ in this level's noise after "
    "the context, averaged over pixels",
    "redraw_share": "redraw_stddev over that of futures that differ in the noise of all levels; may exceed 1, and the "
    "levels' shares need not add up to it",
    "interval": "95 % percentile bootstrap over clips",
}
_RECONSTRUCTION, _MEANS, _SAMPLE = "reconstruction", "rollout of means", "rollout of a sample"


class _Sums(NamedTuple):
    """Sums over clips of what a level's units did at every tick, float64 ``(ticks, units)``."""

    kl: np.ndarray
    prior_stddev: np.ndarray
    posterior_stddev: np.ndarray
    shift: np.ndarray
    shift_square: np.ndarray


def diagnose(
    model: HTSR,
    clips: Clips,
    *,
    out: str | Path,
    context: int = 36,
    horizon: int = 100,
    num_examples: int = 16,
    batch_size: int = 4,
    seed: int = 0,
) -> dict[str, Any]:
    """Say what a model's levels carry; print a table; write ``latents.json``, ``latents.png``, ``level_<l>.png/.gif``.

    Clip by clip the futures are those that ``evaluate`` scores with the same seed. Pictures of a level show, for the
    first clip, the truth and futures that differ in that level's noise alone. Memory grows with
    ``batch_size * (context + horizon)``, not with the number of clips.

    Args:
        model: an HTSR model.
        clips: clips of at least ``context + horizon`` frames; their first frames are used.
        out: folder of the results; made when missing.
        context: frames shown before a rollout.
        horizon: frames predicted after them.
        num_examples: clips, the first ones in file order.
        batch_size: clips at once.
        seed: of the noise and of the bootstrap.

    Returns:
        What ``latents.json`` holds, with arrays for its lists: the arguments, ``rules``, ``levels`` (one dict a level,
        fastest first), ``psnr`` and ``gap`` (reconstruction minus rollout) by series, ``redraw_stddev_all``,
        ``warnings``. A curve is ``{"mean", "low", "high"}``, each ``(horizon,)``.

    Raises:
        InputError: another model, an argument out of range, or clips that are too short or do not fit the model.
    """
    _check(model, clips, context, horizon, batch_size, seed)
    batches = clips.examples(num_examples, batch_size=batch_size)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    probe, sums, first = _Probe(model), None, 0
    scores: dict[str, list[np.ndarray]] = {name: [] for name in (_RECONSTRUCTION, _MEANS, _SAMPLE)}
    spreads: dict[str, list[np.ndarray]] = {
        name: [] for name in (*map("level {}".format, range(model.levels)), ALL_LEVELS)
    }
    with tqdm(total=num_examples, desc="clips", unit="clip", disable=None) as progress:
        for batch in batches:
            clip = batch[:, : context + horizon]
            observed, future = clip[:, :context], clip[:, context:]
            seeds = clip_seeds(seed, range(first, first + len(clip)))
            batch_sums, outputs = probe.observe(clip, seeds)
            sums = batch_sums if sums is None else tf.nest.map_structure(np.add, sums, batch_sums)
            means, state = (probe.start(observed, seeds, stochastic) for stochastic in (False, True))
            scores[_RECONSTRUCTION].append(_psnr(probe.decoded(means.scene, outputs[:, context:]), future))
            scores[_MEANS].append(_psnr(probe.futures(means, horizon), future))
            scores[_SAMPLE].append(_psnr(probe.futures(state, horizon), future))
            for level, name in enumerate(spreads):
                levels = range(model.levels) if name == ALL_LEVELS else [level]
                spread, pictured = _redrawn(probe.redraws(state, horizon, seeds, levels))
                spreads[name].append(spread)
                if first == 0 and name != ALL_LEVELS:
                    _illustrate(out, f"level_{level}", clips.label("truth"), clip[0], pictured)
            first += len(clip)
            progress.update(len(clip))
    report = _report(model, sums, scores, spreads, context, num_examples, seed)
    if clips.note:
        report["note"] = clips.note
    print(table(report))
    save_json(out / "latents.json", report)
    save_plot(out / "latents.png", report)
    return report


class _Probe:
    """A model's parts as graphs, and how their noise is seeded.

    A clip's posteriors and its reference future draw from ``fold(seed, 0)``: those of ``loss_terms`` for this clip
    alone and of the first sample of ``rollout``.
    """

    def __init__(self, model: HTSR):
        self._levels = model.levels
        clip = tf.TensorSpec((None, None, *model.frame_shape))
        flag, number = tf.TensorSpec((), tf.bool), tf.TensorSpec((), tf.int32)
        seeds = tf.TensorSpec((model.levels, None), tf.int32)
        outputs = tf.TensorSpec((None, None, model.stoch + model.cells[0].deter))

        def observe(clip, seeds):
            levels = model.observe(model.encode(clip), seeds, tf.constant(True))
            return [_sums_of(level) for level in levels], levels[0].states.output

        def start(context, seeds, stochastic):
            return model.start(context, 1, seeds, stochastic)

        # With signatures, none is traced anew for the last batch or the last piece.
        self._observe = tf.function(observe, [clip, seeds], autograph=False)
        self._start = tf.function(start, [clip, seeds, flag], autograph=False)
        state = tf.nest.map_structure(tf.TensorSpec.from_tensor, self._start.get_concrete_function().structured_outputs)
        self._draw_on = tf.function(model.draw_on, [state.scene, outputs], autograph=False)
        self._advance = tf.function(model.advance, [state, number], autograph=False)

    def observe(self, clip: np.ndarray, seeds: np.ndarray) -> tuple[list[_Sums], tf.Tensor]:
        """What all levels did on clips observed in full, and the fastest level's outputs ``(clip, time, ...)``."""
        sums, outputs = self._observe(clip, self._held(seeds))
        return tf.nest.map_structure(np.asarray, sums), outputs

    def decoded(self, scene, outputs: tf.Tensor) -> Iterator[np.ndarray]:
        """Frames after a scene, of outputs ``(clip, time, ...)``, in consecutive pieces ``(clip, time, ...)``."""
        for begin in range(0, outputs.shape[1], CHUNK):
            scene, frames = self._draw_on(scene, outputs[:, begin : begin + CHUNK])
            yield frames.numpy()

    def start(self, context: np.ndarray, seeds: np.ndarray, stochastic: bool) -> RolloutState:
        """The state after a context, a row a clip."""
        return self._start(context, self._held(seeds), stochastic)

    def futures(self, state: RolloutState, horizon: int) -> Iterator[np.ndarray]:
        """Frames after a state, in consecutive pieces ``(row, time, height, width, channel)``."""
        for begin in range(0, horizon, CHUNK):
            state, frames = self._advance(state, min(CHUNK, horizon - begin))
            yield frames.numpy()

    def redraws(
        self, state: RolloutState, horizon: int, seeds: np.ndarray, levels: Iterable[int]
    ) -> Iterator[np.ndarray]:
        """Futures that differ in what some levels draw after the context: ``(redraw, clip, time, ...)``, in pieces."""
        fresh = tf.reshape(noise_lib.fold(seeds, tf.range(1, REDRAWS + 1)[:, None]), [-1])
        held = tf.tile(noise_lib.fold(seeds, 0), [REDRAWS])
        parts = state.levels, state.scene
        repeated = tf.nest.map_structure(lambda x: tf.tile(x, [REDRAWS] + [1] * (x.shape.rank - 1)), parts)
        state = state._replace(
            levels=repeated[0],
            scene=repeated[1],
            seeds=tf.stack([fresh if level in levels else held for level in range(self._levels)]),
        )
        for frames in self.futures(state, horizon):
            yield frames.reshape(REDRAWS, len(seeds), *frames.shape[1:])

    def _held(self, seeds: np.ndarray) -> tf.Tensor:
        return tf.tile(noise_lib.fold(seeds, 0)[None], [self._levels, 1])


def _sums_of(level: Level) -> _Sums:
    p, q = (tf.nest.map_structure(lambda x: tf.cast(x, tf.float64), normal) for normal in level[:2])
    kl = gaussian_kl(*(x[..., None] for x in (*q, *p)))  # a unit at a time
    shift = (q.mean - p.mean) / p.stddev
    return _Sums(*(tf.reduce_sum(x, 0) for x in (kl, p.stddev, q.stddev, shift, tf.square(shift))))


def _check(model, clips: Clips, context: int, horizon: int, batch_size: int, seed: int) -> None:
    if not getattr(model, "has_latents", False):
        raise InputError(
            f"diagnose needs a model with levels of latents (htsr, which is Clockwork VAE and RSSM too), received "
            f"{type(model).__name__}; the others have none"
        )
    for name, value in (("context", context), ("horizon", horizon), ("batch_size", batch_size)):
        require_int(name, value, least=1)
    require_int("seed", seed, least=0)
    check_fit(model, clips, context, horizon)


def _psnr(pieces: Iterable[np.ndarray], future: np.ndarray) -> np.ndarray:
    """``(clip, lead time)`` of consecutive pieces ``(clip, time, height, width, channel)``."""
    values, begin = [], 0
    for frames in pieces:
        truth = future[:, begin : begin + frames.shape[1]]
        values.append(psnr(np.clip(frames, 0, 1), truth))
        begin += frames.shape[1]
    return np.concatenate(values, axis=1)


def _redrawn(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean standard deviation of a pixel ``(clip, lead time)``, and the first clip's futures as bytes."""
    spreads, pictured = [], []
    for piece in pieces:
        frames = np.clip(piece, 0, 1)
        spreads.append(frames.std(axis=0, ddof=1, dtype=np.float64).mean(axis=(2, 3, 4)))
        pictured.append(to_bytes(frames[:, 0]))
    return np.concatenate(spreads, axis=1), np.concatenate(pictured, axis=1)


def _report(model: HTSR, sums, scores, spreads, context: int, num_examples: int, seed: int) -> dict[str, Any]:
    psnrs = {name: np.concatenate(batches) for name, batches in scores.items()}
    stddevs = {name: np.concatenate(batches) for name, batches in spreads.items()}
    horizon = stddevs[ALL_LEVELS].shape[1]
    levels = [
        {
            "level": level,
            "period": model.temporal_factor**level,
            **_observed_numbers(level_sums, num_examples, context + horizon),
            **_redraw_numbers(own, stddevs[ALL_LEVELS], seed),
        }
        for level, (level_sums, own) in enumerate(zip(sums, stddevs.values(), strict=False))
    ]
    report = {
        "context": context,
        "horizon": horizon,
        "num_examples": num_examples,
        "seed": seed,
        "redraws": REDRAWS,
        "rules": _RULES,
        "levels": levels,
        "psnr": {name: _curve(values, seed) for name, values in psnrs.items()},
        "gap": {name: _curve(psnrs[_RECONSTRUCTION] - psnrs[name], seed) for name in (_MEANS, _SAMPLE)},
        "redraw_stddev_all": _curve(stddevs[ALL_LEVELS], seed),
    }
    return {**report, "warnings": warnings_of(report, model.imagine_from)}


def _observed_numbers(sums: _Sums, num_clips: int, num_frames: int) -> dict[str, Any]:
    """What a level's posteriors say, from sums over clips."""
    means = _Sums(*(x / num_clips for x in sums))
    kl_per_unit = means.kl.mean(axis=0)
    variance = means.shift_square.mean(axis=0) - means.shift.mean(axis=0) ** 2
    return {
        "ticks": len(means.kl),
        "units": len(kl_per_unit),
        "kl_per_frame": means.kl.sum() / num_frames,
        "kl_per_tick": kl_per_unit.sum(),
        "active_units": int((kl_per_unit > ACTIVE).sum()),
        "active_units_by_variance": int((variance > ACTIVE).sum()),
        "prior_stddev": means.prior_stddev.mean(),
        "posterior_stddev": means.posterior_stddev.mean(),
        "kl_per_unit": kl_per_unit,
        "kl": means.kl.sum(axis=1),
    }


def _redraw_numbers(own: np.ndarray, everything: np.ndarray, seed: int) -> dict[str, Any]:
    """How far a level's redraws spread, ``(clip, lead time)``, beside those of all levels."""
    with np.errstate(invalid="ignore"):  # where nothing spreads, a share is undefined
        return {
            "redraw_stddev": _curve(own, seed),
            "redraw_share": own.mean(axis=0) / everything.mean(axis=0),
            "redraw_share_mean": own.mean() / everything.mean(),
        }


def _curve(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    low, high = bootstrap_interval(values, seed)
    return {"mean": values.mean(axis=0), "low": low, "high": high}


def _illustrate(out: Path, name: str, label: str, truth: np.ndarray, futures: np.ndarray) -> None:
    """A strip and a GIF of the truth, floats, above futures, bytes ``(redraw, horizon, height, width, channel)``."""
    truth = to_bytes(truth)
    context = len(truth) - futures.shape[1]
    redraws = {f"redraw {i}": np.concatenate([truth[:context], future]) for i, future in enumerate(futures, 1)}
    save_pictures(out, name, {label: truth, **redraws}, context)
