"""Export the model of a run as a SavedModel, which needs TensorFlow and nothing of this package.

    htsr export --logdir logs/mmnist --out exported/mmnist

The folder has the signatures predict, init, step and observe, the same for bytes (predict_uint8, ...), and README.md,
which says how they are used. TensorFlow Serving wants folders that are called by a version number: --out
exported/mmnist/1.
"""

import argparse

from htsr.runs.folder import find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--logdir", required=True, help="run folder, or a model or step_<n> folder in it")
    parser.add_argument("--out", required=True, help="folder to write; it must not exist")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in --out")
    parser.add_argument(
        "--tflite", type=int, metavar="FRAMES", help="also model.tflite, for a context of FRAMES frames"
    )
    parser.add_argument("--onnx", action="store_true", help="also init.onnx, step.onnx and observe.onnx")


def run(args: argparse.Namespace) -> None:
    """Export the model of a run."""
    find_run(args.logdir)

    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.export.savedmodel import export_run

    out = export_run(args.logdir, args.out, args.checkpoint, args.overwrite, args.tflite, args.onnx)
    print(f"exported to {out}")
