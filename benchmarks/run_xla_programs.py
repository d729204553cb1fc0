"""Compile, compare and time the programs of ``benchmarks/xla_programs.py``; needs JAX and NumPy alone.

    python -m benchmarks.run_xla_programs programs/gmg programs/cms_lstm

Takes the first device that JAX sees. Prints a row a program: the difference from TensorFlow's results relative to their
norm, seconds to compile, memory, seconds of a run (median, lowest and highest), and operations a
second, also as a share of those of a matrix product. ``--out`` has the same as JSON, after each program anew.
"""

import argparse
import gzip
import json
import re
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
    print("| program | clips | difference | compiled in | MiB | run | lowest, highest | GFLOP/s | of a product |")
    print("|---|---|---|---|---|---|---|---|---|")
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
    """Compile a program, compare its results where there are some, and time it."""
    computation = xla_client.XlaComputation(gzip.decompress(path.with_suffix(".hlo.gz").read_bytes()))
    module = _jax.mlir.xla_computation_to_mlir_module(computation)
    # TensorFlow copies what goes around a loop; GPUs are given StableHLO, which has no word for that.
    module = re.sub(r"= mhlo\.copy (%\S+) : (\S+)", r"= stablehlo.convert \1 : (\2) -> \2", module)
    began = time.perf_counter()
    executable = device.client.compile_and_load(module, [device], xla_client.CompileOptions())
    seconds = time.perf_counter() - began
    rng = np.random.default_rng(0)
    on_device, outputs = [], []
    with np.load(path.with_suffix(".npz")) as file:
        for name in sorted(file.files, key=lambda name: name[-4:]):
            array = file[name]
            if name.startswith("output"):
                outputs.append(array)
                continue
            if name.startswith("noise"):
                mean, deviation, *shape = array
                array = rng.normal(mean, deviation, [int(size) for size in shape]).astype(np.float32)
            array = array.astype(np.float32) if array.dtype == np.float16 else array
            on_device.append(jax.device_put(array, device))

    def call():
        results = executable.execute_sharded(on_device).disassemble_into_single_device_arrays()
        return [part.block_until_ready() for (part,) in results]

    results = [sampled(np.asarray(part)) for part in call()]
    difference = None
    if outputs:
        if [part.shape for part in results] != [part.shape for part in outputs]:
            raise SystemExit(f"{path}: other results than TensorFlow's: {[part.shape for part in results]}")
        pairs = [(a.astype(np.float64) - b, b) for a, b in zip(results, outputs, strict=True)]
        error, norm = (np.sqrt(sum(np.sum(np.square(pair[i], dtype=np.float64)) for pair in pairs)) for i in (0, 1))
        difference = error / norm
    memory = executable.get_compiled_memory_stats()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return {"difference": difference, "compiled": seconds, "bytes": size, "seconds": timed(call, repeats)}


def sampled(array: np.ndarray) -> np.ndarray:
    """Return of a large array the elements that ``benchmarks/xla_programs.py`` kept."""
    return array.reshape(-1)[:: max(1, array.size // 2**14)]


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
    difference = "" if result["difference"] is None else f"{result['difference']:.1e}"
    cells = [f"{result['config']}, {result['name']}", str(result["clips"]), difference]
    cells += [f"{result['compiled']:.1f} s", f"{result['bytes'] / 2**20:,.0f}"]
    cells += [f"{median:.4f} s", f"{min(seconds):.4f}, {max(seconds):.4f}"]
    return "| " + " | ".join([*cells, f"{speed / 1e9:,.1f}", f"{speed / limit:.1%}"]) + " |"


if __name__ == "__main__":
    main()
