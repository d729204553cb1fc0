"""Compile, compare and time the programs of ``benchmarks/xla_programs.py``; needs JAX and NumPy alone.

    python -m benchmarks.run_xla_programs programs/gmg programs/cms_lstm

Takes the first device that JAX sees. Prints a row a program: the difference from TensorFlow's results relative to their
norm, seconds to compile and of a run (median, lowest and highest), and operations a second, also as a share of those of
a matrix product. ``--out`` writes the same as JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np
from jax._src.lib import _jax
from jaxlib import xla_client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = jax.devices()[0]
    limits = {dtype: product_speed(dtype) for dtype in ("float32", "bfloat16")}
    print(f"{device.device_kind}, JAX {jax.__version__}")
    print("; ".join(f"matrix product {dtype} {speed / 1e9:,.0f} GFLOP/s" for dtype, speed in limits.items()))
    print("| program | clips | difference | compiled in | run | lowest, highest | GFLOP/s | of a matrix product |")
    print("|---|---|---|---|---|---|---|---|")
    found = {"device": device.device_kind, "jax": jax.__version__, "limits": limits, "programs": []}
    for folder in args.folders:
        about = json.loads((folder / "programs.json").read_text())
        limit = limits["float32" if about["dtype"] == "float32" else "bfloat16"]
        for name, program in about["programs"].items():
            result = {"config": about["config"], "set": about["set"], "name": name, **program}
            result |= run(folder / name, device, args.repeats)
            found["programs"].append(result)
            print(row(result, limit), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def product_speed(dtype: str) -> float:
    """Return the operations a second of the fastest of some matrix products."""
    size = 8192 if jax.devices()[0].platform == "gpu" else 2048
    square = jax.numpy.ones((size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / min(timed(lambda: product(square).block_until_ready(), 6)[1:])


def run(path: Path, device, repeats: int) -> dict:
    """Compile a program, compare its results and time it."""
    with np.load(path.with_suffix(".npz")) as file:
        inputs, outputs = (
            [file[name] for name in sorted(file.files) if name.startswith(kind)] for kind in ("in", "out")
        )
    computation = xla_client.XlaComputation(path.with_suffix(".hlo").read_bytes())
    module = _jax.mlir.xla_computation_to_mlir_module(computation)
    began = time.perf_counter()
    executable = device.client.compile_and_load(module, [device], xla_client.CompileOptions())
    compiled = time.perf_counter() - began
    on_device = [jax.device_put(array, device) for array in inputs]

    def call():
        results = executable.execute_sharded(on_device).disassemble_into_single_device_arrays()
        return [part.block_until_ready() for (part,) in results]

    results = [np.asarray(part) for part in call()]
    if [part.shape for part in results] != [part.shape for part in outputs]:
        raise SystemExit(f"{path}: other results than TensorFlow's: {[part.shape for part in results]}")
    pairs = [(a.astype(np.float64) - b, b) for a, b in zip(results, outputs, strict=True)]
    error, norm = (np.sqrt(sum(np.sum(np.square(pair[i], dtype=np.float64)) for pair in pairs)) for i in (0, 1))
    seconds = timed(call, repeats)
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {"difference": error / norm, "compiled": compiled, "seconds": seconds, "peak_bytes": memory}


def timed(call, repeats: int) -> list[float]:
    """Return the seconds of every call."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def row(result: dict, limit: float) -> str:
    """Return the line of the table."""
    seconds = result["seconds"]
    median = statistics.median(seconds)
    speed = sum(result["operations"].values()) / median
    cells = [f"{result['config']}, {result['name']}", str(result["clips"]), f"{result['difference']:.1e}"]
    cells += [f"{result['compiled']:.1f} s", f"{median:.4f} s", f"{min(seconds):.4f}, {max(seconds):.4f}"]
    return "| " + " | ".join([*cells, f"{speed / 1e9:,.1f}", f"{speed / limit:.1%}"]) + " |"


if __name__ == "__main__":
    main()
