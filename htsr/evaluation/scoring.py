"""What is measured of a batch: every metric of the model and of the baselines, piece by piece of the horizon."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from htsr.errors import InputError
from htsr.evaluation.baselines import BASELINES, MODEL, TRUTH
from htsr.metrics import METRIC_SPEC, Mode, VideoFeatures, ensemble_errors, event_counts
from htsr.metrics.digits import shared_reader
from htsr.metrics.fvd import MIN_FRAMES
from htsr.metrics.lpips import MIN_SIZE, shared_network
from htsr.metrics.metric import METRICS

Values = dict[str, np.ndarray]


class Scorer:
    """The metrics of an evaluation.

    Args:
        mode: the convention of the frame metrics.
        shape: of a frame, (height, width, channel).
        lpips: whether LPIPS is computed, where the convention has it.
        digits: whether the digits of the frames are read.
        thresholds: of events, in the data's units; none for no event scores.
        units: which values 0 and 1 stand for.
        fvd_frames: how many of the first predicted frames FVD compares; None for no FVD.
        num_samples: futures a clip.

    Raises:
        InputError: frames are too small for a metric, or thresholds are out of range.
    """

    def __init__(
        self,
        mode: Mode,
        shape: Sequence[int],
        *,
        lpips: bool,
        digits: bool,
        thresholds: Sequence[float],
        units: tuple[float, float],
        fvd_frames: int | None,
        num_samples: int,
    ):
        self._mode, self._units, self._thresholds = mode, units, thresholds
        self._feed = mode.lpips if lpips else None
        if self._feed and (min(shape[:2]) < MIN_SIZE or shape[2] not in (1, 3)):
            raise InputError(
                f"LPIPS needs frames of at least {MIN_SIZE}x{MIN_SIZE} pixels with 1 or 3 channels, received "
                f"{'x'.join(map(str, shape))}; set eval.lpips=false"
            )
        if fvd_frames is not None and (fvd_frames < MIN_FRAMES or shape[2] not in (1, 3)):
            raise InputError(
                f"FVD needs at least {MIN_FRAMES} frames with 1 or 3 channels, received {fvd_frames} frames with "
                f"{shape[2]}; set eval.fvd=false or eval.fvd_frames"
            )
        if thresholds:
            nothing = np.zeros((1, 1, 1, 1, 1))
            event_counts(nothing, nothing, thresholds, units)  # refuses thresholds before time is spent
        # TensorFlow keeps what it has traced of a network for ever, so every evaluation has the same ones.
        self._network = shared_network() if self._feed else None
        self._reader = shared_reader() if digits else None
        self._video = VideoFeatures() if fvd_frames is not None else None
        self._fvd_frames = fvd_frames
        self._ensemble = num_samples > 1
        own = mode.name == METRIC_SPEC  # beside another project's metrics, none of ours is computed
        self._computed = [metric for metric in METRICS.values() if metric.compute and own]

    @property
    def reads_digits(self) -> bool:
        return self._reader is not None

    def score(
        self,
        chunks: Iterable[np.ndarray],
        observed: np.ndarray,
        future: np.ndarray,
        labels: np.ndarray | None = None,
        corners: np.ndarray | None = None,
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """Score one batch.

        Args:
            chunks: consecutive pieces ``(sample, batch, time, height, width, channel)`` of the prediction.
            observed, future: context and truth ``(batch, time, height, width, channel)``.
            labels, corners: of true digits, as ``DigitReader.read`` takes them; corners of the future alone.

        Returns:
            For every series its values ``(sample, batch, horizon)`` by metric; likewise ``(sample, batch, feature)``
            for FVD, empty without it.
        """
        stills = {name: baseline.predict(observed) for name, baseline in BASELINES.items()}
        features = {name: self._features(still) for name, still in stills.items()}
        pieces: dict[str, list[Values]] = {name: [] for name in (MODEL, *stills, TRUTH)}
        first_frames, begin = [], 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy computes on one core at a time
            for predicted in chunks:
                chunk = np.where(np.isfinite(predicted), predicted, np.nan)  # clipping would make infinity white
                end = begin + chunk.shape[2]
                place = (labels, None if corners is None else corners[:, begin:end])
                for name, values in self._chunk(pool, chunk, future[:, begin:end], place, stills, features).items():
                    pieces[name].append(values)
                if self._fvd_frames is not None and begin < self._fvd_frames:
                    first_frames.append(chunk[:, :, : self._fvd_frames - begin])
                begin = end
        scores = {
            name: {metric: np.concatenate([piece[metric] for piece in parts], axis=2) for metric in parts[0]}
            for name, parts in pieces.items()
            if parts
        }
        return scores, self._video_features(first_frames, future, stills)

    def _chunk(self, pool: ThreadPoolExecutor, chunk, truth, place, stills, features) -> dict[str, Values]:
        """Every metric ``(sample, batch, time)`` of each series over a piece of the horizon."""
        beside = (truth, self._features(truth), place, stills["median_frame"])
        jobs = {MODEL: [pool.submit(self._frames, sample, *beside) for sample in chunk]}
        for name, still in stills.items():
            frames = np.broadcast_to(still, truth.shape)
            jobs[name] = [pool.submit(self._frames, frames, *beside, features[name])]
        if self._reader:
            jobs[TRUTH] = [pool.submit(self._reader.read, truth, *place)]
        samples = {name: [job.result() for job in of_name] for name, of_name in jobs.items()}
        found = {name: {metric: np.stack([v[metric] for v in vs]) for metric in vs[0]} for name, vs in samples.items()}
        if self._ensemble:
            errors = ensemble_errors(np.clip(chunk, 0, 1), truth)
            found[MODEL] |= {metric: values[None] for metric, values in errors.items()}
        return found

    def _frames(self, prediction, truth, truth_features, place, median, features=None) -> Values:
        """Every metric ``(batch, time)``; ``features`` of the prediction where they are known already."""
        values = self._mode.values(prediction, truth)
        if self._network:
            features = self._features(prediction) if features is None else features
            values[self._mode.column("lpips")] = self._network.distance(features, truth_features)
        clipped = np.clip(prediction, 0, 1)
        for metric in self._computed:
            value = metric.compute(clipped, truth, *[median] * metric.needs_median)
            values |= value if isinstance(value, dict) else {metric.name: value}
        if self._thresholds:
            values |= event_counts(clipped, truth, self._thresholds, self._units)
        if self._reader:
            values |= self._reader.read(clipped, *place)
        return values

    def _features(self, frames: np.ndarray) -> np.ndarray | None:
        return self._network.features(self._feed(frames), check_range=False) if self._network else None

    def _video_features(self, first_frames, future, stills) -> dict[str, Values]:
        if self._video is None:
            return {}
        prediction = np.clip(np.concatenate(first_frames, axis=2), 0, 1)
        truth = future[:, : self._fvd_frames]
        videos = {name: np.broadcast_to(still, truth.shape) for name, still in stills.items()}
        found = {MODEL: {"i3d": self._video.features(prediction)}}
        for name, frames in {**videos, TRUTH: truth}.items():
            found[name] = {"i3d": self._video.features(frames)[None]}
        return found
