"""Models for TensorFlow Lite, where its built-in operations are enough: all recurrent models without motion.

Frame by frame, for one stream and a context of a fixed length. The converter of TensorFlow 2.21 refuses what the others
use: HTSR lists of tensors of any length (and bit operations for its noise), LMC-Memory such lists and 64-bit division,
MotionRNN and GMG padding of tensors of six dimensions.
"""

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from htsr.errors import InputError
from htsr.export.signatures import Signatures
from htsr.models.base import VideoModel

_SIGNATURES = ("init", "step", "observe")


def check_tflite(model: VideoModel, context: int) -> None:
    """Refuse what cannot be converted.

    Raises:
        InputError: the model needs operations that TensorFlow Lite has not, or there is no context.
    """
    if context < 1:
        raise InputError(f"TensorFlow Lite needs a context of at least 1 frame, received {context}")
    if "tflite" not in model.exports:
        raise InputError(
            f"TensorFlow Lite lacks operations of this {model.name} model; it can do recurrent models without motion "
            "(all but motionrnn and gmg), swin_lstm, phydnet, e3d_lstm, fc_lstm and pde_driven: export without --tflite"
        )


def write_tflite(model: VideoModel, path: Path, context: int) -> None:
    """Write a file with the signatures ``init``, ``step`` and ``observe`` of ``htsr.export.signatures``.

    Args:
        model: one that ``check_tflite`` does not refuse.
        path: of the file.
        context: frames that ``init`` reads; the batch is one.
    """
    signatures = Signatures(model, 1, context, _SIGNATURES)
    module: Any = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    for name in _SIGNATURES:
        setattr(module, name, signatures.functions[name])
    served = {name: signatures.concrete[name] for name in _SIGNATURES}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=served)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(served))
        path.write_bytes(converter.convert())
