"""How far predicted frames are from the true ones: per frame, never reduced before the end.

The set ``htsr-1``: predictions clipped to [0, 1], predicted frames only, data range 1, one value for every
(sample, clip, lead time).
"""

from htsr.metrics.curves import Curves, bootstrap_interval
from htsr.metrics.frame import frame_errors, mae, mae_sum, mse, mse_sum, psnr, ssim
from htsr.metrics.perceptual import LPIPS, lpips

METRIC_SPEC = "htsr-1"

__all__ = [
    "LPIPS",
    "METRIC_SPEC",
    "Curves",
    "bootstrap_interval",
    "frame_errors",
    "lpips",
    "mae",
    "mae_sum",
    "mse",
    "mse_sum",
    "psnr",
    "ssim",
]
