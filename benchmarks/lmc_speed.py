"""How long does a training step of LMC-Memory take, how much memory, and where does it go?

    python -m benchmarks.lmc_speed [--dtype mixed_bfloat16] [--repeats 3]

The job is the one timed for the published code (PyTorch 2.13, two CPU cores; see benchmarks/README.md): the published
Moving MNIST model, 8 clips of 64x64 pixels, 10 frames to 30, a long window of 30: one optimiser step in each of the two
phases, which are one training step. The peak memory is that of all jobs so far. The parts are blocks forwards and
backwards, times layers and steps; they miss what the loop itself costs.
"""

import argparse

from benchmarks.htsr_speed import timed
from htsr.runs import environment

ORIGINAL = {"store": 8.85, "recall": 6.90}  # seconds; 7.1 GB in all
BATCH, CONTEXT, HORIZON = 8, 10, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    import keras
    import numpy as np
    import tensorflow as tf

    from htsr import build_model
    from htsr.evaluation.evaluate import peak_memory_mib
    from htsr.training.adam import Adam

    keras.utils.set_random_seed(0)
    model = build_model("lmc_memory", dtype=args.dtype, warmup_steps=0)
    model.compile(Adam(2e-4, model.frozen_in_passes, epsilon=1e-8))
    clip = tf.constant(np.random.default_rng(0).random((BATCH, CONTEXT + HORIZON, 64, 64, 1), np.float32))
    parts = {part.arguments["phase"]: part for part in model.training_passes(clip)}
    step = tf.function(lambda phase: model.training_step.take(parts[phase], tf.constant(0)))
    jobs = {
        "rollout": (1, lambda: [None for _ in model.rollout_chunks(clip[:, :CONTEXT], HORIZON)]),
        "recall": (1, lambda: step("recall")),
        "store": (1, lambda: step("store")),
        **_parts(model, clip, tf),
    }
    machine = environment.describe()
    print(f"{model.count_params():,} parameters, {machine['processor']}, {args.dtype}")
    print(f"{'':28}{'wall s':>8}{'cpu s':>8}{'MiB so far':>12}   original: s")
    for name, (times, job) in jobs.items():
        timed(job)  # the first call traces
        wall, cpu = np.median([timed(job) for _ in range(args.repeats)], 0) * times
        print(f"{name:28}{wall:8.2f}{cpu:8.2f}{peak_memory_mib():12,}   {ORIGINAL.get(name, '')}", flush=True)


def _parts(model, clip, tf):
    """Jobs for the blocks, forwards and backwards, with how often each is done in ``store``."""
    frames, filters = CONTEXT + HORIZON - 1, model.encoder.filters
    maps = tf.random.stateless_normal([BATCH, 16, 16, filters], [0, 0], dtype=model.compute_dtype)
    state = model.cells[1].initial_state(maps)

    def both_ways(call, layer):
        @tf.function
        def run():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(call())
            return tape.gradient(loss, [variable.value for variable in layer])

        return run

    memory = model.memory
    read = [memory.slots, *memory.context_encoder.weights, *(v for layer in memory.embedder for v in layer.weights)]
    window, cell = clip[:, : model.long_frames], model.cells[1]
    both = tf.concat([maps, maps], -1)
    return {
        "  memory": (1, both_ways(lambda: memory(window, long=True), read)),
        "  ConvLSTMs": (len(model.cells) * frames, both_ways(lambda: cell(maps, state)[0], cell.weights)),
        "  encoder": (frames, both_ways(lambda: model.encoder(clip[:, 0]), model.encoder.weights)),
        "  decoder": (HORIZON, both_ways(lambda: model.decoder(both), model.decoder.weights)),
    }


if __name__ == "__main__":
    main()
