"""How long do an optimiser step and a rollout of the recurrent predictors take, how much memory, and where does it go?

    python -m benchmarks.recurrent_speed [--model cms_lstm] [--dtype mixed_bfloat16] [--repeats 3]

The jobs are those timed for the published code (PyTorch 2.13, two CPU cores; see benchmarks/README.md): 8 clips (of GMG
and MotionRNN 4) of 64x64 pixels, 10 frames to 10, at the published widths; one optimiser step, of which CMS-LSTM takes
two per batch, and one rollout. One model a process: the peak memory is that of all its jobs so far. The parts are
blocks of a single layer, forwards and backwards, times layers and steps; they miss what the loop itself costs.
"""

import argparse

from benchmarks.htsr_speed import timed
from htsr.runs import environment

OPENSTL = {"filters": [128] * 4, "kernel_size": 5, "layer_norm": False, "embed": False, "time_reversed": False}
MODELS = {
    "cms_lstm": {"cell": "cms_lstm"},
    "conv_lstm": {"cell": "conv_lstm", **OPENSTL},
    "st_lstm": {"cell": "st_lstm", **OPENSTL},
    "motionrnn": {"cell": "motionrnn", **OPENSTL},
    "gmg": {"cell": {"name": "gmg", "key_filters": 32}, **OPENSTL},
}
ORIGINAL = {  # seconds of a step and of a rollout, MiB of both; None where it was not measured
    "cms_lstm": (6.76, 2.43, 5832, 347),
    "conv_lstm": (5.45, 1.94, 1607, 478),
    "st_lstm": (11.65, 3.60, 2669, 541),
    "motionrnn": (7.51, 2.5, 2600, None),
    "gmg": (9.36, 3.1, 4430, None),
}
STEPS, BATCH = 19, {"motionrnn": 4, "gmg": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cms_lstm", choices=MODELS)
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    import keras
    import numpy as np
    import tensorflow as tf

    from htsr import build_model
    from htsr.evaluation.evaluate import peak_memory_mib
    from htsr.models.base import TrainingPass

    keras.utils.set_random_seed(0)
    batch = BATCH.get(args.model, 8)
    model = build_model("recurrent", dtype=args.dtype, sampling_steps=1000, **MODELS[args.model])
    model.compile(keras.optimizers.Adam(1e-3, weight_decay=0.01))
    clip = tf.constant(np.random.default_rng(0).random((batch, 20, 64, 64, 1), np.float32))
    half = tf.constant(500)
    step = tf.function(lambda c: model.training_step.take(TrainingPass(c), half))
    forwards = tf.function(lambda c: model.loss_terms(c, tf.constant(0), half))
    jobs = {
        "rollout": lambda: [None for _ in model.rollout_chunks(clip[:, :10], 10)],
        "forwards": lambda: forwards(clip),
        "step": lambda: step(clip),
        **_parts(model.cells[1], batch, model.grid[:2], tf),
    }
    seconds, memory = {}, {}
    for name, job in jobs.items():
        timed(job)  # the first call traces
        seconds[name] = np.median([timed(job) for _ in range(args.repeats)], 0)
        memory[name] = peak_memory_mib()
    step_original, rollout_original, step_mib, rollout_mib = ORIGINAL[args.model]
    machine = environment.describe()
    print(f"{args.model}, {model.count_params():,} parameters, {machine['processor']}, {args.dtype}")
    print(f"{'':24}{'wall s':>8}{'cpu s':>8}{'MiB so far':>12}   original: s, MiB")
    originals = {"rollout": f"{rollout_original}, {rollout_mib}", "step": f"{step_original}, {step_mib}"}
    for name, (wall, cpu) in seconds.items():
        if name in ("rollout", "forwards", "step"):
            print(f"{name:24}{wall:8.2f}{cpu:8.2f}{memory[name]:12,}   {originals.get(name, '')}")
        else:
            times = STEPS * len(model.cells)
            print(f"  {name:22}{wall * times:8.2f}{cpu * times:8.2f}")


def _parts(cell, batch, grid, tf):
    """Jobs for the blocks of one cell: forwards and backwards for one layer and step."""
    maps = tf.random.stateless_normal([batch, *grid, cell.filters], [0, 0], dtype=cell.compute_dtype)

    def both_ways(layer, *inputs):
        @tf.function
        def run():
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.add_n([tf.reduce_sum(out) for out in tf.nest.flatten(layer(*inputs))])
            return tape.gradient(loss, [*tf.nest.flatten(inputs), *(v.value for v in layer.trainable_variables)])

        return run

    parts = {}
    if hasattr(cell, "ce"):
        plane = tf.concat([maps, maps], 2)
        scales = len(cell.se.scales)
        parts |= {
            "CE": both_ways(cell.ce, maps, maps),
            "SE": both_ways(cell.se, maps, maps),
            "SE: q, k, v": both_ways(cell.se.attention, plane),
            "SE: joining scales": both_ways(cell.se.join_scales, tf.concat([plane] * scales, -1)),
            "SE: one 5x5 update": both_ways(cell.se.update_hidden, maps),
        }
        cell = cell.cell
    if hasattr(cell, "motion"):
        parts["motion (one layer has none)"] = both_ways(cell.motion, maps, cell.motion.initial_state(maps))
        if cell.focus is not None:
            parts |= {
                "focus": both_ways(cell.focus, maps, maps),
                "multi-scale": both_ways(cell.multi_scale, maps),
                "attention": both_ways(cell.attention, maps, maps),
            }
        cell = cell.lstm
    inner = {"inputs_conv": "inputs' convolution", "hidden_conv": "hidden's convolution"}
    return parts | {name: both_ways(getattr(cell, attribute), maps) for attribute, name in inner.items()}


if __name__ == "__main__":
    main()
