"""The SavedModel that is served; TensorFlow alone runs it."""

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from htsr.data.video.files import FrameFormat, frame_format
from htsr.errors import InputError
from htsr.files import require_utf8
from htsr.runs import environment

SIGNATURES = ("predict", "predict_uint8", "init_uint8", "step_uint8", "observe_uint8")
DEFAULT_CONTEXT, DEFAULT_HORIZON = 10, 30


class ServedModel:
    """An export, checked and warm.

    Args:
        folder: what ``htsr export`` wrote.

    Attributes:
        name, stochastic, min_context, parameters, versions: as the export says.
        form: what frames become: size and channels of the model, ``data.fit`` of its config.
        stride: every how manieth frame of a video the model was trained on (``data.stride``).
        context: frames of context where nobody says otherwise (``eval.context``).

    Raises:
        InputError: no such export, one of another kind, or one that predicts nan.
    """

    def __init__(self, folder: str | Path):
        about = _description(Path(folder))
        config = about.get("config") or {}
        data, evaluation = config.get("data") or {}, config.get("eval") or {}
        self.name, self.stochastic = str(about["model"]), bool(about.get("stochastic", True))
        self.min_context = int(about["min_context"])
        self.parameters, self.versions = about.get("parameters"), about.get("versions", {})
        height, width, channels = about["frame_shape"]
        if channels not in (1, 3):
            raise InputError(f"the model predicts frames of {channels} channels, which no video has; serve another one")
        self.form: FrameFormat = frame_format((height, width), channels, data.get("fit") or "stretch")
        self.stride = int(data.get("stride") or 1)
        self.context = max(self.min_context, int(evaluation.get("context") or DEFAULT_CONTEXT))
        self._load(Path(folder))
        self._warm_up()

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.form.height, self.form.width, self.form.channels)

    def describe(self) -> dict[str, Any]:
        """What a client may know of it."""
        return {
            "model": self.name,
            "frame_shape": self.frame_shape,
            "fit": self.form.fit,
            "stride": self.stride,
            "min_context": self.min_context,
            "context": self.context,
            "stochastic": self.stochastic,
            "parameters": self.parameters,
            "versions": self.versions,
        }

    def predict(self, contexts: np.ndarray, horizon: int, seed: int | None, num_samples: int) -> np.ndarray:
        """Predict; several clips at once.

        Args:
            contexts: uint8 (clip, time, height, width, channel).
            horizon, num_samples: frames, futures.
            seed: of the futures; None draws one.

        Returns:
            uint8 (num_samples, clip, horizon, height, width, channel).
        """
        seed = secrets.randbelow(2**31) if seed is None else seed
        scalars = {"horizon": horizon, "seed": seed, "num_samples": num_samples}
        return self._call("predict_uint8", context=contexts, **scalars)["frames"].numpy()

    def init(self, context: np.ndarray, seed: int) -> dict[str, Any]:
        """The state after uint8 (time, height, width, channel)."""
        return self._call("init_uint8", context=context[np.newaxis], seed=seed)

    def observe(self, state: dict[str, Any], frame: np.ndarray, seed: int) -> dict[str, Any]:
        """The state after one more frame, uint8 (height, width, channel)."""
        return self._call("observe_uint8", **state, frame=frame[np.newaxis], seed=seed)

    def follow(self, state: dict[str, Any], horizon: int, seed: int) -> np.ndarray:
        """What comes after a state, which stays as it is: uint8 (horizon, height, width, channel)."""
        frames = []
        for _ in range(horizon):
            state = self._call("step_uint8", **state, seed=seed)
            frames.append(state.pop("frame"))
        return np.stack([frame.numpy()[0] for frame in frames])

    def _load(self, folder: Path) -> None:
        environment.import_tensorflow_quietly()
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(require_utf8(folder))  # owns the weights
        except Exception as error:  # of many kinds, for a damaged file
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise InputError(f"{folder} cannot be loaded ({reason}); export the model again") from None
        missing = [name for name in SIGNATURES if name not in self._loaded.signatures]
        if missing:
            raise InputError(f"{folder} has no signature {', '.join(missing)}; export the model again with htsr export")

    def _call(self, signature: str, **arguments) -> dict[str, Any]:
        import tensorflow as tf

        numbers = ("horizon", "seed", "num_samples")
        tensors = {name: tf.constant(x, tf.int32) if name in numbers else x for name, x in arguments.items()}
        tensors = {name: tf.convert_to_tensor(x) for name, x in tensors.items()}
        return self._loaded.signatures[signature](**tensors)

    def _warm_up(self) -> None:
        """Run everything once, so that no client waits for it, and refuse a model that has diverged."""
        context = np.zeros((1, self.min_context, *self.frame_shape), np.uint8)
        scalars = {"horizon": 2, "seed": 0, "num_samples": 1}
        frames = self._call("predict", context=context.astype(np.float32), **scalars)["frames"].numpy()
        if not np.isfinite(frames).all():
            raise InputError("the model predicts nan or inf: its training has diverged; export another --checkpoint")
        self.predict(context, 2, 0, 1)
        state = self.init(context[0], 0)
        self.follow(self.observe(state, context[0, 0], 0), 2, 0)


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "assets" / "model.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is no export: it has no assets/model.json; write one with htsr export --out {folder}"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        height, width, channels = about["frame_shape"]
        numbers = (height, width, channels, about["min_context"])
        good = isinstance(about["model"], str) and all(type(number) is int and number > 0 for number in numbers)
    except (ValueError, KeyError, TypeError):
        good, about = False, {}
    if not good:
        raise InputError(
            f"{path} does not say what the model is (model, frame_shape, min_context); export it again with htsr export"
        )
    return about
