"""What the machine can do: matrix products, convolutions and copies, timed alone in a process (``python -m``)."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

REPEATS = 7


def main() -> None:
    """Print a line of JSON; the argument is ``measure``'s."""
    from htsr.runs import environment

    began = time.perf_counter()
    environment.import_tensorflow_quietly()
    import keras  # noqa: F401

    imported = time.perf_counter() - began
    about = {name: value for name, value in environment.describe().items() if name != "command"}
    print(json.dumps({"machine": about, "import": imported, **measure(float(sys.argv[1]))}, default=str))


def measure(scale: float = 1.0) -> dict[str, Any]:
    """Time the best that there is of each kind.

    Args:
        scale: of the sizes, which is below 1 in tests.

    Returns:
        Operations a second, by dtype, of ``products`` (matrices of 3072, on a GPU 8192) and ``convolutions`` (5x5, 192
        to 64 maps of 16x16, forwards); ``copy``, bytes a second that NumPy copies; ``memory``, bytes of the machine.
    """
    import numpy as np
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    size = int((8192 if on_gpu else 3072) * scale) + 1
    clips = int((1024 if on_gpu else 128) * scale) + 1
    found: dict[str, Any] = {"products": {}, "convolutions": {}}
    for dtype in ("float32", "bfloat16"):
        one, other = (tf.cast(tf.random.stateless_normal([size, size], [0, seed]), dtype) for seed in (0, 1))
        seconds = best(tf.function(lambda one=one, other=other: one @ other))
        found["products"][dtype] = 2 * size**3 / seconds
        maps = tf.cast(tf.random.stateless_normal([clips, 16, 16, 192], [0, 2]), dtype)
        filters = tf.cast(tf.random.stateless_normal([5, 5, 192, 64], [0, 3]), dtype)
        seconds = best(tf.function(lambda maps=maps, filters=filters: tf.nn.conv2d(maps, filters, 1, "SAME")))
        found["convolutions"][dtype] = 2 * clips * 16 * 16 * 5 * 5 * 192 * 64 / seconds
    source = np.ones(int(2**28 * scale) + 1, np.uint8)
    target = np.empty_like(source)
    found["copy"] = source.nbytes / best(lambda: np.copyto(target, source))
    found["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found


def best(call: Callable[[], Any]) -> float:
    """Return the seconds of the fastest call, which other programs disturbed least: a limit is no median."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        made = call()
        if made is not None:
            made[(0,) * len(made.shape)].numpy()  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
