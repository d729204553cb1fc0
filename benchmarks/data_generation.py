"""How fast are Moving MNIST clips drawn? One table: clips per second of one core, and out of the training pipeline.

Compare the last column with the clips per second of the training step (batch size × steps per second): drawing is the
bottleneck only where the step is faster.

    python -m benchmarks.data_generation [--seconds 2]
"""

import argparse
import os
import platform
import time

CASES = [(1, 20), (1, 72), (2, 36), (2, 100), (2, 300), (2, 1000)]  # digits, frames


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast Moving MNIST clips are drawn.")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure (default: 2)")
    seconds = parser.parse_args().seconds
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| digits | frames | clips/s of one core | frames/s of one core | clips/s as float32 batches |")
    print("|---|---|---|---|---|")
    for num_digits, seq_len in CASES:
        drawn, batched = clips_per_second(num_digits, seq_len, seconds)
        print(f"| {num_digits} | {seq_len} | {drawn:,.0f} | {drawn * seq_len:,.0f} | {batched:,.0f} |", flush=True)


def clips_per_second(num_digits: int, seq_len: int, seconds: float) -> tuple[float, float]:
    """(drawn per second of processor time, float32 clips out of ``Clips.dataset`` per second of the clock)."""
    from htsr.data import load_clips

    clips = load_clips("moving_mnist", "train", batch_size=16, seq_len=seq_len, num_digits=num_digits)
    clips.window(0)
    count, start = 0, time.process_time()
    while time.process_time() < start + seconds:
        clips.window(count % clips.num_clips)
        count += 1
    drawn = count / (time.process_time() - start)

    batches = iter(clips.dataset(0, 1_000_000))
    next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        count += next(batches).shape[0]
    return drawn, count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
