"""Frame errors as other projects compute them, so that a result fits in a row of their tables.

The same frames get different numbers from different projects: predictions clipped or not, sums or means, bytes or
floats, another SSIM window and range. A mode is one project's convention, from the raw prediction to the printed row:

* ``htsr-1``: this package's own set (``htsr.metrics.frame``);
* ``openstl``: OpenSTL of March 2024 and the projects built on it;
* ``cms``: the CMS-LSTM authors' code;
* ``predrnn``: predrnn-pytorch (PredRNN, PredRNN-V2);
* ``cwvae``: Clockwork VAE and HTSR;
* ``lmc``: LMC-Memory;
* ``srvp``: SRVP;
* ``e3d-wrapped``: a PSNR whose bytes overflow, in the tables of E3D-LSTM, SimVP and TAU. To read old tables, no more.

Compare numbers of one mode only, and best-of-K only at equal K. Projects that called scikit-image before 0.19 on
floats without a data range got the SSIM of range 2 (floats were taken to span -1 … 1), which is higher than that of
range 1; newer versions refuse that call. Projects that averaged means of batches counted a short last batch as a full
one; here every frame weighs the same.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from htsr.checks import did_you_mean
from htsr.errors import InputError
from htsr.metrics.frame import checked_pair, frame_errors, ssim
from htsr.metrics.metric import METRICS

SSIM_WINDOW = 7
_OWN = "htsr-1"
_FRAME = (2, 3, 4)  # the axes of a frame in (batch, time, height, width, channel)

Values = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Mode:
    """One project's convention.

    Attributes:
        name: of the mode.
        select: how the best of several samples of a clip is picked, by means over lead times. ``psnr``: the sample with
            the best PSNR supplies every metric; ``per_metric``: every metric picks its own sample.
        definition: for every metric, LPIPS included, what exactly it is.
        errors: raw prediction and truth, floats ``(batch, time, height, width, channel)``, to metrics
            ``(batch, time)``; ``values`` checks and calls it.
        lpips: raw frames, of the prediction or of the truth, to what ``LPIPS.features(frames, check_range=False)`` is
            given; None where the project has no LPIPS. Modes that feed the same frames share one function.
        printed: for every number of the row its metric, and how ``(clip, lead time)`` is reduced to it.
        warning: to be printed wherever numbers of this mode are; mostly empty.
    """

    name: str
    select: Literal["psnr", "per_metric"]
    definition: Mapping[str, str]
    errors: Callable[[np.ndarray, np.ndarray], Values]
    lpips: Callable[[np.ndarray], np.ndarray] | None
    printed: Mapping[str, tuple[str, Callable[[np.ndarray], float]]]
    warning: str = ""

    def column(self, metric: str) -> str:
        """The name under which values of a metric are kept: ``openstl.psnr``, and ``psnr`` for ``htsr-1``."""
        return metric if self.name == _OWN else f"{self.name}.{metric}"

    def values(self, prediction: np.ndarray, truth: np.ndarray) -> Values:
        """Every metric but LPIPS, by column.

        Args:
            prediction: as the model gave it, not clipped, floats ``(batch, time, height, width, channel)``.
            truth: floats of that shape in [0, 1].

        Returns:
            Float64 ``(batch, time)``; the PSNR of an exact frame is infinite in every mode but ``htsr-1``.

        Raises:
            InputError: for other arrays, or frames smaller than the window of SSIM.

        Example:
            >>> half, black = np.full((1, 1, 8, 8, 1), 0.5), np.zeros((1, 1, 8, 8, 1))
            >>> {name: round(value.item(), 3) for name, value in MODES["openstl"].values(half, black).items()}
            {'openstl.mse': 16.0, 'openstl.mae': 32.0, 'openstl.psnr': 6.021, 'openstl.ssim': 0.002}
        """
        prediction = np.asarray(prediction)
        _, truth = checked_pair(np.clip(prediction, 0, 1), truth)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # exact frames, predictions that diverge
            clips = [self.errors(prediction[i : i + 1], truth[i : i + 1]) for i in range(len(truth))]
        return {self.column(metric): np.concatenate([clip[metric] for clip in clips]) for metric in clips[0]}

    def row(self, values: Callable[[str], np.ndarray], lpips: bool = True) -> dict[str, float]:
        """The numbers that the project's table prints.

        Args:
            values: gives the values ``(clip, lead time)`` of a column.
            lpips: whether LPIPS was computed; the row goes without it otherwise.
        """
        return {
            number: float(reduce(np.asarray(values(self.column(metric)), np.float64)))
            for number, (metric, reduce) in self.printed.items()
            if lpips or metric != "lpips"
        }


def resolve_mode(name: str) -> Mode:
    """The mode of a name.

    Raises:
        InputError: for an unknown name.

    Example:
        >>> resolve_mode("cwvae").name
        'cwvae'
    """
    if name not in MODES:
        raise InputError(f"no mode of metrics is called {name!r}; {did_you_mean(name, MODES)}")
    return MODES[name]


def _own(prediction: np.ndarray, truth: np.ndarray) -> Values:
    return frame_errors(_clipped(prediction), truth)


def _openstl(prediction: np.ndarray, truth: np.ndarray) -> Values:
    error, truth = _difference(prediction, truth), _double(truth)
    clipped = _double(_clipped(prediction))
    return {
        "mse": np.square(error).sum(axis=_FRAME),
        "mae": np.abs(error).sum(axis=_FRAME),
        "psnr": _decibels(np.square(clipped - truth).mean(axis=_FRAME)),
        "ssim": _uniform_ssim(clipped, truth, 2).mean(axis=-1),
    }


def _cms(prediction: np.ndarray, truth: np.ndarray) -> Values:
    prediction, truth = _clipped(prediction[..., :1]), truth[..., :1]
    error = _difference(prediction, truth)
    predicted, true = _bytes(prediction), _bytes(truth)
    return {
        "mse": np.square(error).sum(axis=_FRAME),
        "mae": np.abs(error).sum(axis=_FRAME),
        "psnr": _decibels(np.square(predicted - true).mean(axis=_FRAME), 255),
        "ssim": _uniform_ssim(predicted, true, 255).mean(axis=-1),
        "sharp": _largest_laplacian(predicted),
    }


def _predrnn(prediction: np.ndarray, truth: np.ndarray) -> Values:
    prediction = _clipped(prediction)
    predicted, true = _bytes(prediction), _bytes(truth)
    return {
        "mse": np.square(_difference(prediction, truth)).sum(axis=_FRAME),
        "psnr": _decibels(np.square(predicted - true).mean(axis=_FRAME), 255),
        "ssim": _uniform_ssim(predicted, true, 255).mean(axis=-1),
    }


def _cwvae(prediction: np.ndarray, truth: np.ndarray) -> Values:
    prediction, truth = _double(prediction), _double(truth)
    return {
        "psnr": _decibels(np.square(prediction - truth).mean(axis=(2, 3))).mean(axis=-1),
        "ssim": _uniform_ssim(prediction, truth, 2).mean(axis=-1),
    }


def _lmc(prediction: np.ndarray, truth: np.ndarray) -> Values:
    prediction, truth = _double(_clipped(prediction)), _double(truth)
    mse = np.square(prediction - truth).mean(axis=_FRAME)
    return {
        "mse": mse * (truth.shape[2] * truth.shape[3]),
        "psnr": _decibels(mse),
        "ssim": _uniform_ssim(prediction, truth, 2).mean(axis=-1),
    }


def _srvp(prediction: np.ndarray, truth: np.ndarray) -> Values:
    prediction = _clipped(prediction)
    mse = np.square(_difference(prediction, truth)).mean(axis=(2, 3))
    return {"mse": mse.mean(axis=-1), "psnr": _decibels(mse).mean(axis=-1), "ssim": ssim(prediction, truth)}


def _wrapped(prediction: np.ndarray, truth: np.ndarray) -> Values:
    difference = np.mod(_bytes(_clipped(prediction)) - _bytes(truth), 256)
    return {"psnr": _decibels(np.mod(np.square(difference), 256).mean(axis=_FRAME), 255)}


def _as_is(frames: np.ndarray) -> np.ndarray:
    return np.asarray(frames)


def _clipped(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames, 0, 1)


def _fed_unscaled(frames: np.ndarray) -> np.ndarray:
    """``LPIPS.features`` maps [0, 1] to [-1, 1], as the network wants it; this undoes that map beforehand."""
    return (_clipped(frames) + 1) / 2


def _double(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float64)


def _difference(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return _double(prediction) - truth


def _bytes(frames: np.ndarray) -> np.ndarray:
    """Truncated to 0 … 255, kept as float64 so that NaN stays NaN."""
    return np.floor(255 * _double(frames))


def _decibels(square: np.ndarray, peak: float = 1) -> np.ndarray:
    return 20 * np.log10(peak) - 10 * np.log10(square)


def _uniform_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> np.ndarray:
    """SSIM ``(batch, time, channel)``: uniform window 7x7, sample covariance, mean over the valid positions.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004, eq. 13, with
    ``K1 = 0.01, K2 = 0.03``; what scikit-image computes by default.
    """
    height, width = a.shape[2:4]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"SSIM with a uniform window needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, received "
            f"{height}x{width}; use larger frames"
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b, moment_ab, moment_sum = (_window_means(x) for x in (a, b, a * b, a * a + b * b))
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * unbiased * (moment_ab - product) + c2) / (unbiased * (moment_sum - squares) + c2)
    return (luminance * structure).mean(axis=(2, 3))


def _window_means(x: np.ndarray) -> np.ndarray:
    """Means over all windows inside ``(batch, time, height, width, channel)``; shifted sums outrun other ways here."""
    height, width = (size - SSIM_WINDOW + 1 for size in x.shape[2:4])
    rows = sum(x[:, :, i : i + height] for i in range(SSIM_WINDOW))
    return sum(rows[:, :, :, i : i + width] for i in range(SSIM_WINDOW)) / SSIM_WINDOW**2


def _largest_laplacian(x: np.ndarray) -> np.ndarray:
    """Largest ``|sum of the 4 neighbours - 4 x|`` of a frame, at most 255; borders mirror about the outermost pixel."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    vertical = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    horizontal = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    return np.minimum(np.abs(vertical + horizontal - 4 * x).max(axis=_FRAME), 255)


def _means(*metrics: str) -> dict[str, tuple[str, Callable[[np.ndarray], float]]]:
    return {metric: (metric, np.mean) for metric in metrics}


def _root_of_mean(values: np.ndarray) -> float:
    return np.sqrt(values.mean())


def _sum_over_leads(values: np.ndarray) -> float:
    return values.sum(axis=1).mean()


def _thousandfold(values: np.ndarray) -> float:
    return 1000 * values.mean()


_BYTE_PSNR = "clipped, truncated to bytes, range 255; infinite for an exact frame"
_BYTE_SSIM = "clipped, truncated to bytes, uniform window 7x7, sample covariance, range 255"
_LPIPS = "AlexNet v0.1, prediction clipped, [0, 1] mapped to [-1, 1]"
_LPIPS_UNSCALED = "AlexNet v0.1, prediction clipped, fed [0, 1] where the network expects [-1, 1]"
_ALL = [
    Mode(
        name=_OWN,
        select="psnr",
        definition={metric.name: metric.definition for metric in METRICS.values() if metric.conventional},
        errors=_own,
        lpips=_clipped,
        printed=_means(*(metric.name for metric in METRICS.values() if metric.conventional)),
    ),
    Mode(
        name="openstl",
        select="psnr",
        definition={
            "mse": "not clipped, sum of the squared error over pixels and channels; rmse is the root of its mean",
            "mae": "not clipped, sum of the absolute error over pixels and channels",
            "psnr": "clipped, over pixels and channels, range 1; infinite for an exact frame",
            "ssim": "clipped, uniform window 7x7, sample covariance, range 2, mean over channels",
            "lpips": _LPIPS,
        },
        errors=_openstl,
        lpips=_clipped,
        printed={**_means("mse", "mae"), "rmse": ("mse", _root_of_mean), **_means("psnr", "ssim", "lpips")},
    ),
    Mode(
        name="cms",
        select="psnr",
        definition={
            "mse": "first channel, clipped, sum of the squared error over pixels",
            "mae": "first channel, clipped, sum of the absolute error over pixels",
            "psnr": f"first channel, {_BYTE_PSNR}",
            "ssim": f"first channel, {_BYTE_SSIM}",
            "sharp": "first channel, clipped, truncated to bytes, largest absolute Laplacian of the prediction, to 255",
        },
        errors=_cms,
        lpips=None,
        printed=_means("mse", "mae", "psnr", "ssim", "sharp"),
    ),
    Mode(
        name="predrnn",
        select="psnr",
        definition={
            "mse": "clipped, sum of the squared error over pixels and channels; per sequence also over its frames",
            "psnr": f"{_BYTE_PSNR}, over pixels and channels",
            "ssim": f"{_BYTE_SSIM}, mean over channels",
            "lpips": _LPIPS_UNSCALED,
        },
        errors=_predrnn,
        lpips=_fed_unscaled,
        printed={
            "mse_per_seq": ("mse", _sum_over_leads),
            "mse_per_frame": ("mse", np.mean),
            **_means("ssim", "psnr", "lpips"),
        },
    ),
    Mode(
        name="cwvae",
        select="per_metric",
        definition={
            "psnr": "not clipped, range 1, mean over channels; infinite for an exact channel",
            "ssim": "not clipped, uniform window 7x7, sample covariance, range 2, mean over channels",
            "lpips": "AlexNet v0.1, prediction not clipped, [0, 1] mapped to [-1, 1]",
        },
        errors=_cwvae,
        lpips=_as_is,
        printed=_means("ssim", "psnr", "lpips"),
    ),
    Mode(
        name="lmc",
        select="psnr",
        definition={
            "mse": "clipped, mean of the squared error over pixels and channels times the number of pixels",
            "psnr": "clipped, over pixels and channels, range 1; infinite for an exact frame",
            "ssim": "clipped, uniform window 7x7, sample covariance, range 2, mean over channels",
            "lpips": f"{_LPIPS_UNSCALED}; printed times 1000",
        },
        errors=_lmc,
        lpips=_fed_unscaled,
        printed={**_means("mse", "psnr", "ssim"), "lpips_x1000": ("lpips", _thousandfold)},
    ),
    Mode(
        name="srvp",
        select="per_metric",
        definition={
            "mse": "clipped, mean of the squared error over pixels and channels",
            "psnr": "clipped, range 1, mean over channels; infinite for an exact channel",
            "ssim": "clipped, Gaussian window 11x11 of stddev 1.5, range 1, mean over channels",
            "lpips": _LPIPS,
        },
        errors=_srvp,
        lpips=_clipped,
        printed=_means("mse", "psnr", "ssim", "lpips"),
    ),
    Mode(
        name="e3d-wrapped",
        select="psnr",
        definition={"psnr": "clipped, truncated to bytes, difference and square modulo 256, range 255"},
        errors=_wrapped,
        lpips=None,
        printed=_means("psnr"),
        warning="e3d-wrapped.psnr overflows and is several dB too high: read old tables with it, report another PSNR",
    ),
]
MODES: dict[str, Mode] = {mode.name: mode for mode in _ALL}
