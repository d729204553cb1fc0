"""How far predicted frames are from the true ones: per frame, never reduced before the end.

The set ``htsr-1``: predictions clipped to [0, 1], predicted frames only, data range 1, one value for every
(sample, clip, lead time). ``MODES`` has the conventions of other projects.
"""

from htsr.metrics.conventions import MODES, Mode, resolve_mode
from htsr.metrics.curves import Curves
from htsr.metrics.digits import DigitReader
from htsr.metrics.ensemble import ensemble_errors, spread_skill
from htsr.metrics.events import event_counts
from htsr.metrics.frame import frame_errors, gradient, mae, mae_sum, moving_psnr, mse, mse_sum, psnr, rmse, ssim
from htsr.metrics.fvd import VideoFeatures, frechet_distance, fvd
from htsr.metrics.lpips import LPIPS, lpips
from htsr.metrics.statistics import bootstrap_interval

METRIC_SPEC = "htsr-1"

__all__ = [
    "LPIPS",
    "METRIC_SPEC",
    "MODES",
    "Curves",
    "DigitReader",
    "Mode",
    "VideoFeatures",
    "bootstrap_interval",
    "ensemble_errors",
    "event_counts",
    "frame_errors",
    "frechet_distance",
    "fvd",
    "gradient",
    "lpips",
    "mae",
    "mae_sum",
    "moving_psnr",
    "mse",
    "mse_sum",
    "psnr",
    "resolve_mode",
    "rmse",
    "spread_skill",
    "ssim",
]
