"""The functions of an exported model: a model as a graph with tensors, named, for arguments and results.

    predict(context, horizon, seed, num_samples) -> frames (num_samples, batch, horizon, height, width, channel)
    init(context, seed) -> state_00, state_01, ...
    step(state_00, ..., seed) -> frame (batch, height, width, channel), state_00, ...
    observe(state_00, ..., frame, seed) -> state_00, ...

``context`` is ``(batch, time, height, width, channel)``; horizon, seed and num_samples are int32 scalars. Frames are
float32, those that are read in [0, 1], those that are predicted not clipped. ``predict_uint8``, ``init_uint8``,
``step_uint8`` and ``observe_uint8`` are the same with bytes: 0 and 255 stand for 0 and 1, and predictions are clipped
and rounded. The state is the nest of ``htsr.streaming.Stream``, flat; bfloat16 is float32 outside, without loss.
"""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from htsr.models.base import VideoModel
from htsr.streaming import Stream

Functions = dict[str, Callable]


class Signatures:
    """The functions of a model.

    Attributes:
        concrete: by name, with their specifications of arguments and results.
        functions: the same, to be called in Python.
        state: what the tensors of a state hold, by name.
    """

    def __init__(self, model: VideoModel):
        self._model, self._stream = model, Stream(model)
        spec = self._stream.state_spec
        flat = tf.nest.flatten(spec)
        self.state = {f"state_{i:02}": path for i, path in enumerate(_paths(spec))}
        state = {name: tf.TensorSpec(x.shape, _outside(x.dtype)) for name, x in zip(self.state, flat, strict=True)}
        self.functions, self.concrete = {}, {}
        for suffix, dtype in (("", tf.float32), ("_uint8", tf.uint8)):
            context, frame = (tf.TensorSpec([None] * free + [*model.frame_shape], dtype) for free in (2, 1))
            scalar = tf.TensorSpec([], tf.int32)
            arguments = {
                "predict": {"context": context, "horizon": scalar, "seed": scalar, "num_samples": scalar},
                "init": {"context": context, "seed": scalar},
                "step": {**state, "seed": scalar},
                "observe": {**state, "frame": frame, "seed": scalar},
            }
            for name, specs in arguments.items():
                named = {key: tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in specs.items()}
                function = tf.function(getattr(self, f"_{name}")(dtype), autograph=False)
                self.functions[f"{name}{suffix}"] = function
                self.concrete[f"{name}{suffix}"] = function.get_concrete_function(**named)

    def describe(self) -> dict[str, Any]:
        """Name, dtype and shape of all arguments and results; a size of any value is None."""

        def shapes(tensors: dict[str, Any]) -> dict[str, Any]:
            return {name: {"dtype": x.dtype.name, "shape": x.shape.as_list()} for name, x in sorted(tensors.items())}

        described = {}
        for name, function in self.concrete.items():
            positional, named = function.structured_input_signature
            inputs = {spec.name: spec for spec in positional} | named
            described[name] = {"inputs": shapes(inputs), "outputs": shapes(function.structured_outputs)}
        return described

    def _predict(self, dtype: tf.DType) -> Callable:
        def predict(context, horizon, seed, num_samples):
            self._check_context(context)
            _check_least("horizon", horizon, 1)
            _check_least("num_samples", num_samples, 1)
            return {"frames": _coded(self._model.rollout_graph(_decoded(context), horizon, num_samples, seed), dtype)}

        return predict

    def _init(self, dtype: tf.DType) -> Callable:
        del dtype

        def init(context, seed):
            self._check_context(context)
            return self._flat(self._stream.init_graph(_decoded(context), seed))

        return init

    def _step(self, dtype: tf.DType) -> Callable:
        def step(seed, **state):
            new, frame = self._stream.step_graph(self._nested(state), seed)
            return {"frame": _coded(frame, dtype), **self._flat(new)}

        return step

    def _observe(self, dtype: tf.DType) -> Callable:
        del dtype

        def observe(frame, seed, **state):
            tf.debugging.assert_equal(
                tf.shape(frame)[0], tf.shape(state["state_00"])[0], "one frame for every row of the state is needed"
            )
            return self._flat(self._stream.observe_graph(self._nested(state), _decoded(frame), seed))

        return observe

    def _check_context(self, context: tf.Tensor) -> None:
        _check_least("the number of clips in context", tf.shape(context)[0], 1)
        _check_least("the number of frames in context", tf.shape(context)[1], self._model.min_context)

    def _flat(self, state: Any) -> dict[str, tf.Tensor]:
        return {name: tf.cast(x, _outside(x.dtype)) for name, x in zip(self.state, tf.nest.flatten(state), strict=True)}

    def _nested(self, state: dict[str, tf.Tensor]) -> Any:
        spec = self._stream.state_spec
        flat = [tf.cast(state[name], x.dtype) for name, x in zip(self.state, tf.nest.flatten(spec), strict=True)]
        return tf.nest.pack_sequence_as(spec, flat)


def _check_least(name: str, value: tf.Tensor, least: int) -> None:
    tf.debugging.assert_greater_equal(value, least, message=f"{name} must be at least {least}")


def _decoded(frames: tf.Tensor) -> tf.Tensor:
    return frames if frames.dtype == tf.float32 else tf.cast(frames, tf.float32) / 255.0


def _coded(frames: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return frames if dtype == tf.float32 else tf.cast(tf.round(tf.clip_by_value(frames, 0.0, 1.0) * 255.0), dtype)


def _outside(dtype: tf.DType) -> tf.DType:
    """JSON and many clients know no bfloat16."""
    return tf.float32 if dtype == tf.bfloat16 else dtype


def _paths(nest: Any, path: str = "") -> Iterator[str]:
    """Where the tensors of a nest are in it, in the order in which it is flattened."""
    if not isinstance(nest, tuple):
        yield path
        return
    names = getattr(nest, "_fields", range(len(nest)))
    for name, part in zip(names, nest, strict=True):
        yield from _paths(part, f"{path}/{name}" if path else str(name))
