"""How long do a training step and a rollout of HTSR take, and what bounds them?

    python -m benchmarks.htsr_speed [--dtype mixed_bfloat16] [--repeats 5]

The jobs are those timed for the original code (TensorFlow 2.4, two CPU cores; see benchmarks/README.md): the published
Moving MNIST model, a training step on 8 clips of 100 frames, and a rollout of 300 frames after 36 for 8 clips. Beside
wall seconds it prints processor seconds, which other programs on the machine disturb less, and the share of the parts.
"""

import argparse
import time

from htsr.runs import environment

ORIGINAL = {"train step, 8 x 100 frames": (9.5, 12.1), "rollout, 8 x (36 -> 300)": (18.2, 20.5)}


def timed(job) -> tuple[float, float]:
    """Wall and processor seconds of a call, until all its tensors are there."""
    import tensorflow as tf

    wall, cpu = time.perf_counter(), time.process_time()
    tf.nest.map_structure(lambda t: t.numpy() if hasattr(t, "numpy") else t, job())
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    import keras
    import numpy as np
    import tensorflow as tf

    from htsr import build_model
    from htsr.evaluation.evaluate import peak_memory_mib

    keras.utils.set_random_seed(0)
    model = build_model("htsr", dtype=args.dtype)
    model.compile(keras.optimizers.Adam(1e-4, epsilon=1e-4), clip_norm=10000.0)
    clip = tf.constant(np.random.default_rng(0).random((8, 100, 64, 64, 1), np.float32))
    step = tf.function(model.train_step)
    seeds = tf.range(8)

    @tf.function
    def frames_only(clip):
        """Encoder and decoder with their gradients: the step without its recurrence."""
        with tf.GradientTape() as tape:
            embed = model.encode(clip)
            outputs = tf.add_n([tf.repeat(e, -(-100 // e.shape[1]), axis=1)[:, :100, :220] for e in embed])
            loss = tf.reduce_sum(model.decode(outputs) ** 2)
        return tape.gradient(loss, [v.value for v in model.encoder.trainable_variables])

    start = tf.function(lambda c: model.start(c, 1, seeds, tf.constant(True)))
    state = start(clip[:, :36])
    imagine = tf.function(lambda s: model.imagine(s, tf.constant(300))[1])
    decode = tf.function(model.decode)
    outputs = imagine(state)
    jobs = {
        "train step, 8 x 100 frames": lambda: step(clip),
        "  of which frame encoder and decoder": lambda: frames_only(clip),
        "rollout, 8 x (36 -> 300)": lambda: [None for _ in model.rollout_chunks(clip[:, :36], 300)],
        "  of which context": lambda: start(clip[:, :36]),
        "  of which latents": lambda: imagine(state),
        "  of which decoding": lambda: [decode(outputs[:, i : i + 50]) for i in range(0, 300, 50)],
    }
    times = {name: [] for name in jobs}
    for repeat in range(args.repeats + 1):
        for name, job in jobs.items():
            seconds = timed(job)
            if repeat:  # the first call traces
                times[name].append(seconds)
    print(f"{environment.describe()['processor']}, {environment.describe()['threads']} threads, {args.dtype}")
    print(f"{'':40}{'wall s':>8}{'cpu s':>8}   original wall, cpu; times faster")
    for name, pairs in times.items():
        wall, cpu = np.median(pairs, 0)
        theirs = ORIGINAL.get(name)
        against = f"   {theirs[0]}, {theirs[1]}; {theirs[0] / wall:.1f}x, {theirs[1] / cpu:.1f}x" if theirs else ""
        print(f"{name:40}{wall:8.2f}{cpu:8.2f}{against}")
    print(f"peak memory {peak_memory_mib() / 1024:.2f} GiB")


if __name__ == "__main__":
    main()
