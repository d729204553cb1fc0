"""Write what a config computes as XLA programs, for a machine with a GPU and JAX but without TensorFlow.

    python -m benchmarks.xla_programs --config gmg/mmnist_laptop --out programs/gmg

The programs are loss and gradients of every pass of a training step (the optimiser, which takes next to nothing, is
left out), and the rollout of a batch as long as an evaluation's. Each is a file of HLO, ``<name>.hlo.gz``, beside
``<name>.npz``, its inputs in order and what TensorFlow computes of them here without XLA; of a large result some
elements. ``programs.json`` says what they are, and how many operations they take. Weights are fresh, and rounded to
half precision, in which they travel. With ``--timing`` nothing is computed here, and instead of weights and frames
noise like them is made there: for sizes that this machine cannot do. ``benchmarks/run_xla_programs.py`` runs them.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

from htsr.config import find_config, read_config
from htsr.runs import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--only", choices=("step", "rollout"))
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = read_config(find_config(args.config), args.set)
    environment.import_tensorflow_quietly()
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"config": args.config, "set": args.set, "dtype": config["model"].get("dtype", "float32"), "programs": {}}
    for name, function, tensors, batch in jobs(config):
        if args.only and not name.startswith(args.only):
            continue
        operations = write(args.out / name, function, tensors, args.timing)
        about["programs"][name] = {"clips": batch, "operations": operations}
        print(f"{args.config}, {name}: {(args.out / f'{name}.hlo.gz').stat().st_size / 1e6:.1f} MB", flush=True)
    (args.out / "programs.json").write_text(json.dumps(about, indent=1) + "\n")


def jobs(config):
    """Yield name, function, its tensors and the clips of a batch."""
    import keras
    import tensorflow as tf

    from htsr.data import load_clips
    from htsr.data.clips import as_floats
    from htsr.models import build_model
    from htsr.models.training_step import gradients

    keras.utils.set_random_seed(0)
    clips = load_clips(split="train", **config["data"])
    batch = tf.constant(rounded(as_floats(clips.batch(0))))
    model = build_model(**{**config["model"], "frame_shape": list(clips.shape[1:])})
    for variable in model.variables:
        variable.assign(rounded(variable.numpy()))

    def step_of(part):
        frozen = {variable.path for variable in part.frozen}
        trained = [variable for variable in model.trainable_variables if variable.path not in frozen]
        return lambda clip, seed, step: gradients(model, clip, trained, seed, step, **part.arguments)

    for number, part in enumerate(model.training_passes(batch)):
        yield f"step_{number}", step_of(part), (part.clip, tf.constant(0), tf.constant(0)), len(batch)
    context, horizon = config["eval"].get("context", 36), config["eval"].get("horizon", 300)
    test = load_clips(split="test", **{**config["data"], "seq_len": context})
    context = tf.constant(rounded(next(test.examples(len(batch), 0, len(batch)))))

    def predict(context, seeds):
        return model.advance(model.start(context, 1, seeds, tf.constant(True)), horizon)[1]

    yield "rollout", predict, (context, tf.range(len(batch))), len(batch)


def write(path: Path, function, tensors, timing: bool) -> dict[str, int]:
    """Write the program of a function with inputs and outputs; return how many operations it takes."""
    import tensorflow as tf

    from htsr.bench.operations import counted

    compiled = tf.function(function, autograph=False, jit_compile=True)
    graph = compiled.get_concrete_function(*tensors).graph
    program = compiled.experimental_get_compiler_ir(*tensors)(stage="hlo_serialized")
    path.with_suffix(".hlo.gz").write_bytes(gzip.compress(program))
    variables = {id(variable.handle): variable for variable in graph.variables}
    captured = [variables.get(id(given), given) for given, _ in graph.captures]
    arrays = {}
    for i, tensor in enumerate([*tensors, *captured]):
        array = tensor.numpy()
        if array.dtype != np.float32 or array.size == 1:
            arrays[f"input_{i:04}"] = array
        elif timing:
            arrays[f"noise_{i:04}"] = np.array([array.mean(), array.std(), *array.shape])
        else:
            arrays[f"input_{i:04}"] = array.astype(np.float16)
    if not timing:
        outputs = tf.nest.flatten(tf.function(function, autograph=False)(*tensors))
        arrays |= {f"output_{i:04}": sampled(tensor.numpy()) for i, tensor in enumerate(outputs)}
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return counted(function, *tensors)


def rounded(array: np.ndarray) -> np.ndarray:
    """Return an array as it is after travelling in half precision."""
    return array.astype(np.float16).astype(np.float32) if array.dtype == np.float32 else array


def sampled(array: np.ndarray) -> np.ndarray:
    """Return an array, or of a large one some elements; ``benchmarks/run_xla_programs.py`` takes the same ones."""
    return array.reshape(-1)[:: max(1, array.size // 2**14)]


if __name__ == "__main__":
    main()
