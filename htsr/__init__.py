"""Long-horizon video prediction in TensorFlow 2 / Keras 3.

The public names are loaded when first used, so ``import htsr`` itself does not import TensorFlow.
"""

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow itself uses oneDNN only where there is AVX-512; without it a training step of HTSR takes 2.6 times as long,
# and grouped convolutions have no gradient. It is read when TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_PUBLIC = {
    "InputError": "htsr.errors",
    "Stream": "htsr.export.stream",
    "VideoModel": "htsr.models.base",
    "build_model": "htsr.models",
    "evaluate": "htsr.evaluation.evaluate",
    "export_model": "htsr.export.savedmodel",
    "fit": "htsr.training.fit",
    "import_weights": "htsr.published.import_weights",
    "load_clips": "htsr.data",
    "load_model": "htsr.runs.folder",
}

__all__ = [
    "InputError",
    "Stream",
    "VideoModel",
    "__version__",
    "build_model",
    "evaluate",
    "export_model",
    "fit",
    "import_weights",
    "load_clips",
    "load_model",
    "metrics",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("htsr.metrics")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'htsr' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
