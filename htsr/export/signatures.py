"""The functions of an exported model: a model as a graph with tensors, named, for arguments and results.

    predict(context, horizon, seed, num_samples) -> frames (num_samples, batch, horizon, height, width, channel)
    init(context, seed) -> state_00, state_01, ...
    step(state_00, ..., seed) -> frame (batch, height, width, channel), state_00, ...
    observe(state_00, ..., frame, seed) -> state_00, ...

``context`` is ``(batch, time, height, width, channel)``; horizon, seed and num_samples are int32 scalars. Frames are
float32, those that are read in [0, 1] (a context is checked), those that are predicted not clipped. ``predict_uint8``,
``init_uint8``, ``step_uint8`` and ``observe_uint8`` are the same with bytes: 0 and 255 stand for 0 and 1, and
predictions are clipped and rounded. The state is the nest of ``htsr.export.stream.Stream``, flat; bfloat16 is float32
outside, without loss.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

import tensorflow as tf

from htsr.export.stream import Stream, frame_specs, traced
from htsr.models.base import VideoModel
from htsr.models.rollout import rollout_graph

_ROUNDING = 1e-3  # by which a value may lie outside [0, 1]


class Signatures:
    """The functions of a model.

    Args:
        model: whose.
        batch, context: sizes that are fixed, where they have to be; None for any.
        names: of the functions that are wanted.

    Attributes:
        concrete: by name, with their specifications of arguments and results.
        functions: the same, to be called in Python.
        state: what the tensors of a state hold, by name.
    """

    def __init__(
        self,
        model: VideoModel,
        batch: int | None = None,
        context: int | None = None,
        names: Collection[str] = ("predict", "init", "step", "observe"),
    ):
        self._model, self._stream = model, Stream(model, batch, context)
        spec = self._stream.state_spec
        flat = tf.nest.flatten(spec)
        self.state = {f"state_{i:02}": path for i, path in enumerate(_paths(spec))}
        state = {name: tf.TensorSpec(x.shape, _outside(x.dtype)) for name, x in zip(self.state, flat, strict=True)}
        self.functions, self.concrete = {}, {}
        for suffix, dtype in (("", tf.float32), ("_uint8", tf.uint8)):
            clip, frame, scalar = frame_specs(model, dtype, batch, context)
            if "predict" in names and dtype == tf.float32:
                self._rollout = traced(functools.partial(rollout_graph, model), clip, scalar, scalar, scalar)
            arguments = {
                "predict": {"context": clip, "horizon": scalar, "seed": scalar, "num_samples": scalar},
                "init": {"context": clip, "seed": scalar},
                "step": {**state, "seed": scalar},
                "observe": {**state, "frame": frame, "seed": scalar},
            }
            for name in names:
                body = functools.partial(getattr(self, f"_{name}"), dtype)
                function = _function(f"{name}{suffix}", body, arguments[name])
                self.functions[f"{name}{suffix}"] = function
                self.concrete[f"{name}{suffix}"] = function.get_concrete_function()

    def describe(self) -> dict[str, Any]:
        """Name, dtype and shape of all arguments and results; a size of any value is None."""

        def shapes(tensors: dict[str, Any]) -> dict[str, Any]:
            return {name: {"dtype": x.dtype.name, "shape": x.shape.as_list()} for name, x in sorted(tensors.items())}

        described = {}
        for name, function in self.concrete.items():
            inputs = {spec.name: spec for spec in function.structured_input_signature[0]}
            described[name] = {"inputs": shapes(inputs), "outputs": shapes(function.structured_outputs)}
        return described

    def _predict(self, dtype: tf.DType, context, horizon, seed, num_samples) -> dict[str, tf.Tensor]:
        context = self._checked(context)
        horizon, num_samples = _at_least(1, horizon, "horizon"), _at_least(1, num_samples, "num_samples")
        return {"frames": _coded(self._rollout(_decoded(context), horizon, num_samples, seed), dtype)}

    def _init(self, _: tf.DType, context, seed) -> dict[str, tf.Tensor]:
        return self._flat(self._stream.init_graph(_decoded(self._checked(context)), seed))

    def _step(self, dtype: tf.DType, seed, **state) -> dict[str, tf.Tensor]:
        new, frame = self._stream.step_graph(self._nested(state), seed)
        return {"frame": _coded(frame, dtype), **self._flat(new)}

    def _observe(self, _: tf.DType, frame, seed, **state) -> dict[str, tf.Tensor]:
        rows = (tf.shape(x)[0] for x in (frame, state["state_00"]))
        check = tf.debugging.assert_equal(*rows, "there must be one frame for every row of the state")
        with tf.control_dependencies([check]):
            frame = tf.identity(frame)
        return self._flat(self._stream.observe_graph(self._nested(state), _decoded(frame), seed))

    def _checked(self, context: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(context)
        num_clips = tf.debugging.assert_positive(shape[0], "context must have at least one clip")
        least = self._model.min_context
        message = f"context must be at least {least} frame{'s' * (least > 1)}"
        checks = [num_clips, tf.debugging.assert_greater_equal(shape[1], least, message)]
        if context.dtype == tf.float32:
            low, high = tf.reduce_min(context), tf.reduce_max(context)
            inside = (low > -_ROUNDING) & (high < 1.0 + _ROUNDING)  # neither is nan
            checks.append(tf.debugging.Assert(inside, ["context must lie in [0, 1], received", low, "to", high]))
        with tf.control_dependencies(checks):
            return tf.identity(context)

    def _flat(self, state: Any) -> dict[str, tf.Tensor]:
        return {name: tf.cast(x, _outside(x.dtype)) for name, x in zip(self.state, tf.nest.flatten(state), strict=True)}

    def _nested(self, state: dict[str, tf.Tensor]) -> Any:
        spec = self._stream.state_spec
        flat = [tf.cast(state[name], x.dtype) for name, x in zip(self.state, tf.nest.flatten(spec), strict=True)]
        return tf.nest.pack_sequence_as(spec, flat)


def _function(name: str, body: Callable, specs: dict[str, tf.TensorSpec]) -> Any:
    """A function of named tensors. With a signature it is traced once; without, a loaded one is, for every shape and
    every Python number."""

    def function(*arguments):
        return body(**dict(zip(specs, arguments, strict=True)))

    parameters = [inspect.Parameter(argument, inspect.Parameter.POSITIONAL_OR_KEYWORD) for argument in specs]
    function.__name__, function.__signature__ = name, inspect.Signature(parameters)
    signature = [tf.TensorSpec(spec.shape, spec.dtype, argument) for argument, spec in specs.items()]
    return tf.function(function, input_signature=signature, autograph=False)


def _at_least(least: int, value: tf.Tensor, name: str) -> tf.Tensor:
    check = tf.debugging.assert_greater_equal(value, least, f"{name} must be at least {least}")
    with tf.control_dependencies([check]):
        return tf.identity(value)


def _decoded(frames: tf.Tensor) -> tf.Tensor:
    return frames if frames.dtype == tf.float32 else tf.cast(frames, tf.float32) / 255.0


def _coded(frames: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return frames if dtype == tf.float32 else tf.cast(tf.round(tf.clip_by_value(frames, 0.0, 1.0) * 255.0), dtype)


def _outside(dtype: tf.DType) -> tf.DType:
    """JSON and many clients know no floats of two bytes."""
    return tf.float32 if dtype.is_floating else dtype


def _paths(nest: Any, path: str = "") -> Iterator[str]:
    """Where the tensors of a nest are in it, in the order in which it is flattened."""
    if not isinstance(nest, tuple):
        yield path
        return
    names = getattr(nest, "_fields", range(len(nest)))
    for name, part in zip(names, nest, strict=True):
        yield from _paths(part, f"{path}/{name}" if path else str(name))
