"""Export a model as a SavedModel that TensorFlow alone can load and serve, without this package.

The SavedModel is a plain graph: no Keras objects, no XLA, no Python. Its one signature is

    predict(context, horizon, seed, num_samples) -> frames

context: float32 ``(batch, time, height, width, channel)`` in [0, 1], any batch and at least one frame; horizon, seed,
num_samples: int32 scalars; frames: float32 ``(num_samples, batch, horizon, height, width, channel)``, not clipped.
"""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from htsr.errors import InputError
from htsr.models.base import VideoModel


def export_model(model: VideoModel, out: str | Path, config: Mapping[str, Any] | None = None) -> Path:
    """Write a SavedModel.

    Args:
        model: a built model, with the weights to export.
        out: folder to create; it appears only when it is complete. ``assets/model.json`` in it holds the model's name,
            frame shape and number of parameters, the config and the versions it was made with.
        config: the run's config, to be kept beside the graph.

    Returns:
        The folder.

    Raises:
        InputError: ``out`` exists.

    Example:
        ``loaded = tf.saved_model.load(out)`` (keep the reference: it owns the weights), then
        ``loaded.predict(context, horizon=300, seed=0, num_samples=1)["frames"]``; over TensorFlow Serving the signature
        has the same name.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out} exists; choose another folder to export to, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{out.name}-{os.getpid()}")
    description = json.dumps(_description(model, config), indent=1)
    module = _served(model)
    try:
        tf.saved_model.save(module, str(temporary), signatures={"predict": module.predict})
        (temporary / "assets").mkdir(exist_ok=True)
        (temporary / "assets" / "model.json").write_text(description, encoding="utf-8")
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _served(model: VideoModel) -> tf.Module:
    """Return a module with the model's variables and its rollout, and nothing else of the model."""
    scalar = tf.TensorSpec([], tf.int32)
    context_spec = tf.TensorSpec([None, None, *model.frame_shape], tf.float32)

    def predict(context, horizon, seed, num_samples):
        least = {"horizon": (horizon, 1), "num_samples": (num_samples, 1)}
        least["context"] = (tf.shape(context)[1], model.min_context)
        for name, (value, bound) in least.items():
            tf.debugging.assert_greater_equal(value, bound, message=f"{name} must be at least {bound}")
        return {"frames": model.rollout_graph(context, horizon, num_samples, seed)}

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.predict = tf.function(predict, autograph=False, input_signature=[context_spec, scalar, scalar, scalar])
    return module


def _description(model: VideoModel, config: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "model": model.name,
        "frame_shape": list(model.frame_shape),
        "parameters": model.count_params(),
        "config": config,
        "versions": {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
    }
