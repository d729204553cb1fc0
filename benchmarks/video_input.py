"""How many clips a second does each way of reading videos give, beside what training takes?

    python -m benchmarks.video_input [--configs configs/mazes_laptop.yml configs/kth_laptop.yml] [--datadir DIR]

For every config: the first run (the training split is decoded into the cache), and all runs after it (memory-mapped),
as float32 batches of the config's size through ``Clips.dataset``, in training order. Then training steps of the
config, alternating with reading: clips a second, and how many times faster the input is. Decoding is timed in a cache
of its own, which is deleted.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time

from htsr.config import read_config
from htsr.runs import environment

WARM_BATCHES, ROUNDS = 30, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["configs/mazes_laptop.yml", "configs/kth_laptop.yml"])
    parser.add_argument("--datadir")
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    about = environment.describe()
    print(f"{about['processor']}, {about['threads']} threads; clips a second")
    print("| config | clip | first run | later runs | training | later runs / training |")
    print("|---|---|---|---|---|---|")
    for config in args.configs:
        measure(config, args.datadir)


def measure(path: str, datadir: str | None) -> None:
    from htsr import build_model, load_clips

    config = read_config(path)
    data = {**config["data"], **({"datadir": datadir} if datadir else {})}
    load_clips(split="train", **data)  # generates a stand-in where there is none
    with own_cache():
        began = time.perf_counter()
        clips = load_clips(split="train", **data)
        stored = (
            sum(video.frames for video in clips.source.store.videos) / (time.perf_counter() - began) / clips.shape[0]
        )
    clips = load_clips(split="train", **data)
    step = training_step(build_model(**{**config["model"], "frame_shape": list(clips.shape[1:])}), config, clips)
    warm, trained = [], []
    for _ in range(ROUNDS):
        warm.append(rate(clips, WARM_BATCHES))
        began = time.perf_counter()
        step()
        trained.append(clips.batch_size / (time.perf_counter() - began))
    warm, trained = statistics.median(warm), statistics.median(trained)
    shape = "x".join(map(str, clips.shape))
    print(f"| {path} | {shape} | {stored:.0f} | {warm:.0f} | {trained:.1f} | {warm / trained:.0f} |")


def rate(clips, batches: int) -> float:
    """Clips a second of the training pipeline, its start-up not counted."""
    stream = iter(clips.dataset(0, batches + 1))
    next(stream)
    began = time.perf_counter()
    for _ in stream:
        pass
    return batches * clips.batch_size / (time.perf_counter() - began)


def training_step(model, config, clips):
    import keras
    import tensorflow as tf

    model.compile(keras.optimizers.Adam(1e-3), accumulate=config["train"].get("accumulate", 1))
    batch = next(iter(clips.dataset(0, 1)))
    step = tf.function(model.train_step)
    step(batch)  # traces
    return lambda: float(step(batch)["loss"])


@contextlib.contextmanager
def own_cache():
    """An empty cache, but for the stand-ins that are there already."""
    from htsr.data.video.cache import cache_folder

    shared, before = cache_folder(), os.environ.get("HTSR_CACHE")
    with tempfile.TemporaryDirectory(prefix="htsr-") as folder:
        for stand_in in shared.glob("synthetic-*"):
            os.symlink(stand_in, os.path.join(folder, stand_in.name))
        os.environ["HTSR_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["HTSR_CACHE"]
            if before is not None:
                os.environ["HTSR_CACHE"] = before


if __name__ == "__main__":
    main()
