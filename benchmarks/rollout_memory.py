"""Does the memory of a rollout grow with its length?

    python -m benchmarks.rollout_memory --config mmnist_laptop [--frames 10000]

Predicts so many frames after 36, piece by piece, with fresh weights, and prints the peak memory of the process after
the first piece and after the last one.
"""

import argparse
import time

import numpy as np

from htsr.config import find_config, read_config
from htsr.runs import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--frames", type=int, default=10_000)
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    from htsr import build_model

    model = build_model(**{"frame_shape": [64, 64, 1], **read_config(find_config(args.config))["model"]})
    context = np.random.default_rng(0).random((1, 36, *model.frame_shape), np.float32)
    peaks = []
    for _ in model.rollout_chunks(context, args.frames):
        peaks.append(environment.peak_memory_mib())
    print(
        f"{args.config}, {args.frames} frames: {peaks[0]} MiB after the first piece, {peaks[-1]} MiB after the last; "
        f"{time.process_time():.0f} s of processor time"
    )


if __name__ == "__main__":
    main()
