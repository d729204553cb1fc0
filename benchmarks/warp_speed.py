"""What does sampling a map between its pixels cost, against the naive formulation?

    python -m benchmarks.warp_speed [--batch 16] [--repeats 20] [--xla]
    python -m benchmarks.warp_speed --memory ours

``sample`` of ``htsr.models.recurrent.blocks.warp``, forwards and with gradients of maps and coordinates, against the
formulation of the same function that the published models have: pad, round down, gather four times, weigh. The two
alternate; their results are compared first. ``--xla`` compiles both. ``--memory ours`` or ``--memory naive`` prints
what a training step of the published Moving MNIST setting keeps of its 57 samplings: one a process.
"""

import argparse
import time

from htsr.runs import environment

SIZES = {  # rows, columns, channels of the map that moves
    "Moving MNIST, TaxiBJ": (8, 8, 32),
    "WeatherBench": (8, 16, 32),
    "128x128, patches of 4": (16, 16, 32),
}


def timed(job) -> tuple[float, float]:
    """Wall and processor seconds of a call, until all its tensors are there."""
    import tensorflow as tf

    wall, cpu = time.perf_counter(), time.process_time()
    tf.nest.map_structure(lambda tensor: tensor.numpy(), job())
    return time.perf_counter() - wall, time.process_time() - cpu


def gathered(x, rows, columns):
    """``htsr.models.recurrent.blocks.warp.sample`` by gathering."""
    import tensorflow as tf

    _, height, width, channels = x.shape
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    padded = tf.reshape(padded, [-1, (height + 2) * (width + 2), channels])

    def clamp(value, limit):
        return tf.clip_by_value(value, 0.0, limit)

    top, left = tf.stop_gradient(tf.floor(rows)), tf.stop_gradient(tf.floor(columns))
    top, bottom = clamp(top, height + 1.0), clamp(top + 1.0, height + 1.0)
    left, right = clamp(left, width + 1.0), clamp(left + 1.0, width + 1.0)
    rows, columns = clamp(rows, height + 1.0), clamp(columns, width + 1.0)
    down = {"top": (top, 1.0 + (top - rows)), "bottom": (bottom, 1.0 - (bottom - rows))}
    across = {"left": (left, 1.0 + (left - columns)), "right": (right, 1.0 - (right - columns))}
    total = 0.0
    for row, row_weight in down.values():
        for column, column_weight in across.values():
            index = tf.cast(row * (width + 2.0) + column, tf.int32)
            flat = tf.reshape(index, [tf.shape(x)[0], -1])
            neighbours = tf.reshape(tf.gather(padded, flat, batch_dims=1), [*x.shape[:3], rows.shape[-1], channels])
            total += (row_weight * column_weight)[..., None] * neighbours
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--memory", choices=["ours", "naive"])
    args = parser.parse_args()
    environment.import_tensorflow_quietly()
    import numpy as np
    import tensorflow as tf

    from htsr.models.recurrent.blocks.warp import sample, tap_coordinates

    rng = np.random.default_rng(0)
    if args.memory:
        print(f"{args.memory}: {_kept_mib(sample if args.memory == 'ours' else gathered, args.batch)} MiB")
        return
    print(f"{environment.describe()['processor']}, batch of {args.batch}{', XLA' if args.xla else ''}")
    print(f"{'':24}{'':>10}{'wall ms':>9}{'cpu ms':>8}{'naive: wall ms':>16}{'cpu ms':>8}{'wall ratio':>12}")
    for name, (height, width, channels) in SIZES.items():
        x = tf.constant(rng.normal(size=(args.batch, height, width, channels)), tf.float32)
        offset = tf.constant(rng.normal(size=(args.batch, height, width, 18)), tf.float32)
        rows, columns = tap_coordinates(offset)

        def both_ways(function, x=x, rows=rows, columns=columns):
            @tf.function(jit_compile=args.xla)
            def run():
                with tf.GradientTape() as tape:
                    tape.watch([x, rows, columns])
                    loss = tf.reduce_sum(tf.sin(function(x, rows, columns)))
                return tape.gradient(loss, [x, rows, columns])

            return run

        def forwards(function, x=x, rows=rows, columns=columns):
            return tf.function(lambda: function(x, rows, columns), jit_compile=args.xla)

        for part, make in (("forwards", forwards), ("both ways", both_ways)):
            ours, theirs = make(sample), make(gathered)
            for a, b in zip(tf.nest.flatten(ours()), tf.nest.flatten(theirs()), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
            times = np.array([[timed(ours), timed(theirs)] for _ in range(args.repeats)])  # run, which, wall or cpu
            (wall, cpu), (their_wall, their_cpu) = 1000 * np.median(times, 0)
            ratio = np.median(times[:, 1, 0] / times[:, 0, 0])
            print(
                f"{name:24}{part:>10}{wall:9.2f}{cpu:8.2f}{their_wall:16.2f}{their_cpu:8.2f}{ratio:12.2f}", flush=True
            )


def _kept_mib(function, batch: int) -> int:
    """What the peak memory of this process grows by in a loop of 57 samplings, one of the other's result, and back."""
    import tensorflow as tf

    from htsr.models.recurrent.blocks.warp import tap_coordinates
    from htsr.ops.scan import scan
    from htsr.runs.environment import peak_memory_mib

    height, width, channels = SIZES["Moving MNIST, TaxiBJ"]
    x, offset = tf.random.normal([batch, height, width, channels]), tf.random.normal([batch, height, width, 18])

    @tf.function
    def run():
        def step(x, _):
            rows, columns = tap_coordinates(offset + tf.reduce_mean(x, -1, keepdims=True))
            return tf.reduce_mean(function(x, rows, columns), -2)

        with tf.GradientTape() as tape:
            tape.watch([x, offset])
            loss = tf.reduce_sum(scan(step, tf.range(57), x)[0])
        return tape.gradient(loss, [x, offset])

    before = peak_memory_mib()
    for _ in range(3):
        run()
    return peak_memory_mib() - before


if __name__ == "__main__":
    main()
