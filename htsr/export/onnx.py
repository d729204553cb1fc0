"""Models for ONNX: the recurrent family, frame by frame, by way of tf2onnx (``pip install tf2onnx``).

The converter (1.17) has no operations for what the others use: HTSR's noise adds unsigned integers, LMC-Memory has
branches of different shapes. ``predict`` is not converted, of no model: it is a loop in pieces.
"""

import logging
from pathlib import Path

import tensorflow as tf

from htsr.errors import InputError
from htsr.export.signatures import Signatures
from htsr.models.base import VideoModel

OPSET = 18
_SIGNATURES = ("init", "step", "observe")


def check_onnx(model: VideoModel) -> None:
    """Refuse what cannot be converted.

    Raises:
        InputError: the model needs operations that the converter has not, or there is no converter.
    """
    if "onnx" not in model.exports:
        raise InputError(f"tf2onnx cannot convert {model.name}, only the recurrent models; export without --onnx")
    try:
        import tf2onnx  # noqa: F401
    except ImportError:
        raise InputError("ONNX needs a converter: pip install tf2onnx, or export without --onnx") from None


def write_onnx(model: VideoModel, folder: Path) -> None:
    """Write ``init.onnx``, ``step.onnx`` and ``observe.onnx``, the functions of ``htsr.export.signatures``.

    Any batch, and any context of at least ``min_context`` frames, which is not checked. Results are called
    ``next_state_00`` ..., since a graph of ONNX has no result by the name of an argument.
    """
    import tf2onnx

    signatures = Signatures(model, names=_SIGNATURES)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    for name in _SIGNATURES:
        specs = signatures.concrete[name].structured_input_signature[0]
        renamed = tf.function(_renamed(signatures.functions[name]), input_signature=specs, autograph=False)
        tf2onnx.convert.from_function(renamed, specs, opset=OPSET, output_path=str(folder / f"{name}.onnx"))


def _renamed(function):
    def renamed(*arguments):
        found = function(*arguments)
        return {f"next_{name}" if name.startswith("state") else name: value for name, value in found.items()}

    return renamed
