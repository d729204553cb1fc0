"""How much memory do the values of a large evaluation take?

    python -m benchmarks.evaluation_memory [--clips 10000] [--horizon 1000]

Gathers made-up values of eight metrics of a model and three baselines, reduces and saves them as an evaluation does,
and prints the peak memory of the process after each step.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from htsr.evaluation.result import save_json
from htsr.metrics import Curves
from htsr.runs.environment import peak_memory_mib

METRICS = ("mse", "mae", "rmse", "mse_sum", "mae_sum", "psnr", "ssim", "lpips")
SERIES = ("model", "copy_last", "mean_frame", "black")
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--horizon", type=int, default=1000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{args.clips} clips of {args.horizon} frames; start: {peak_memory_mib()} MiB")
    with tempfile.TemporaryDirectory() as folder:
        curves = Curves(folder)
        for _ in range(0, args.clips, BATCH):
            for series in SERIES:
                curves.add(series, {metric: rng.random((1, BATCH, args.horizon), np.float32) for metric in METRICS})
        report("gathered")
        reduced = curves.reduce("model")
        report("reduced")
        save_json(Path(folder) / "curves.json", reduced)
        curves.save(Path(folder) / "curves.npz")
        report("saved")


def report(step: str) -> None:
    """Print the peak memory so far and the processor time."""
    print(f"{step}: {peak_memory_mib()} MiB, {time.process_time():.0f} s of processor time")


if __name__ == "__main__":
    main()
