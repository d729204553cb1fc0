"""Export a model as a SavedModel that TensorFlow alone can load and serve, without this package.

The SavedModel is a plain graph: no Keras objects, no XLA, no Python. ``htsr.export.signatures`` has its functions.
"""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from htsr import __version__
from htsr.errors import InputError
from htsr.export.onnx import check_onnx, write_onnx
from htsr.export.signatures import Signatures
from htsr.export.tflite import check_tflite, write_tflite
from htsr.files import new_folder, require_utf8
from htsr.models.base import VideoModel
from htsr.runs.folder import find_run, load_run, read_run_config, results_of

SCHEMA = 1
_DESCRIPTION = Path("assets", "model.json")


def export_model(
    model: VideoModel,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    tflite_context: int | None = None,
    onnx: bool = False,
) -> Path:
    """Write a SavedModel with the signatures of ``htsr.export.signatures``; ``serving_default`` is ``predict``.

    Args:
        model: a built model, with the weights to export.
        out: folder to create; it appears only when it is complete. ``assets/model.json`` in it describes the model and
            its signatures, ``README.md`` says how it is used.
        config: the run's config, to be kept beside the graph.
        provenance: where the weights are from, to be kept too.
        overwrite: replace an export that is there.
        tflite_context: given, ``model.tflite`` is written too, whose ``init`` reads as many frames.
        onnx: write ``init.onnx``, ``step.onnx`` and ``observe.onnx``, too (``htsr.export.onnx``).

    Returns:
        The folder.

    Raises:
        InputError: ``out`` exists, and is no export or is not to be replaced; or another format cannot hold the model.

    Example:
        ``loaded = tf.saved_model.load(out)`` (keep the reference: it owns the weights), then
        ``loaded.predict(context, horizon=300, seed=0, num_samples=1)["frames"]``; over TensorFlow Serving the signature
        has the same name.
    """
    out = Path(out)
    _check_out(out, overwrite)
    if tflite_context is not None:
        check_tflite(model, tflite_context)
    if onnx:
        check_onnx(model)
    signatures = Signatures(model)
    description = _description(model, signatures, config, provenance)
    old = out.with_name(f".old-{out.name}-{os.getpid()}")
    try:
        with new_folder(out) as folder:
            _save(model, signatures, folder)
            (folder / _DESCRIPTION).parent.mkdir(exist_ok=True)
            (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
            (folder / "README.md").write_text(_readme(model, out), encoding="utf-8", errors="backslashreplace")
            if tflite_context is not None:
                write_tflite(model, folder / "model.tflite", tflite_context)
            if onnx:
                write_onnx(model, folder)
            if out.exists():
                os.rename(out, old)
    finally:
        if old.exists() and not out.exists():
            os.rename(old, out)
        shutil.rmtree(old, ignore_errors=True)
    return out


def export_run(
    logdir: str | Path,
    out: str | Path,
    checkpoint: str | int = "latest",
    overwrite: bool = False,
    tflite_context: int | None = None,
    onnx: bool = False,
) -> Path:
    """Export the model of a run; what is known of it is kept in ``assets/model.json``.

    Args:
        logdir: run folder, or a ``model`` or ``step_<n>`` folder in it.
        out, overwrite, tflite_context, onnx: as in ``export_model``.
        checkpoint: ``"latest"``, ``"best"`` or a step.

    Raises:
        InputError: no run, no checkpoint, or what ``export_model`` refuses.
    """
    _check_out(Path(out), overwrite)
    run = find_run(logdir)
    model, manifest = load_run(logdir, checkpoint)
    provenance = {
        "run": str(run),
        "checkpoint": {name: manifest[name] for name in ("step", "score", "files")},
        "evaluation": _latest_evaluation(run),
    }
    return export_model(model, out, read_run_config(run), provenance, overwrite, tflite_context, onnx)


def _check_out(out: Path, overwrite: bool) -> None:
    require_utf8(out)
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out} exists; choose another folder to export to, or remove it, or replace it: --overwrite")
    if not (out / _DESCRIPTION).is_file():
        raise InputError(f"{out} exists and is no export of this package, so it is not replaced; choose another folder")


def _save(model: VideoModel, signatures: Signatures, folder: Path) -> None:
    module: Any = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    for name, function in signatures.functions.items():
        setattr(module, name, function)
    served = {**signatures.concrete, "serving_default": signatures.concrete["predict"]}
    tf.saved_model.save(module, str(folder), signatures=served)


def _description(model: VideoModel, signatures: Signatures, config, provenance) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": model.name,
        "frame_shape": list(model.frame_shape),
        "layout": "batch, time, height, width, channel",
        "data_range": [0.0, 1.0],
        "min_context": model.min_context,
        "stochastic": model.stochastic,
        "parameters": model.count_params(),
        "signatures": signatures.describe(),
        "state": signatures.state,
        "config": config,
        "provenance": provenance,
        "versions": {"htsr": __version__}
        | {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
    }


def _latest_evaluation(run: Path) -> dict[str, Any] | None:
    """The newest evaluation of a run: how it was made, and the model's metrics, means over clips and lead times."""
    for folder, content in results_of(run):
        try:
            about, columns = content["provenance"], content["curves"]["model"]
            metrics = {name: curve["horizon_mean"]["mean"] for name, curve in columns.items()}
            names = ("metric_spec", "context", "horizon", "num_examples", "num_samples", "noise", "clips_sha256")
            return {
                "folder": str(folder),
                "checkpoint_step": about.get("checkpoint", {}).get("step"),
                **{name: about[name] for name in names},
                "metrics": metrics,
            }
        except (KeyError, TypeError):
            continue  # of another version
    return None


def _readme(model: VideoModel, out: Path) -> str:
    shape = ", ".join(map(str, model.frame_shape))
    served = out.parent.name if out.name.isdecimal() else out.name
    return f"""# {model.name}, exported

Predicts how a video of {shape} (height, width, channels) goes on after at least {model.min_context} frame(s) of
context. It needs TensorFlow and nothing else; `assets/model.json` has its signatures, config and provenance.

```python
import tensorflow as tf

model = tf.saved_model.load("this folder")  # keep the reference: it owns the weights
frames = model.predict(context, horizon=30, seed=0, num_samples=1)["frames"]
```

`context` is float32 (batch, time, {shape}) in [0, 1], `frames` (num_samples, batch, horizon, {shape}), not clipped.
Frame by frame, with a state that is yours:

```python
state = model.init(context, seed=0)
future = model.step(**state, seed=0)  # future.pop("frame") comes next; go on from future, or
state = model.observe(**state, frame=arrived, seed=0)  # from the frame that really came
```

`predict_uint8`, `init_uint8`, `step_uint8` and `observe_uint8` do the same with bytes. For TensorFlow Serving the
folder's name has to be a version number, as in `{served}/1`; then, with `context` a list of clips of frames of rows:

```bash
curl http://localhost:8501/v1/models/{served}:predict -d '{{"signature_name": "predict_uint8",
  "inputs": {{"context": [[[[[0, ...]]]]], "horizon": 30, "seed": 0, "num_samples": 1}}}}'
```
"""
