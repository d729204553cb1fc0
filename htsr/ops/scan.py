"""Recurrence over time: one ``scan`` for every model."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

nest = tf.nest


def scan(step: Callable, xs: Any, state: Any, length=None) -> tuple[Any, Any]:
    """Run ``state, y = step(state, x)`` over the leading (time) axis of ``xs``.

    One ``tf.while_loop`` over TensorArrays: quick to trace, any number of steps, differentiable under XLA when the
    length is static (``keras.layers.RNN`` mangles nested outputs and ``keras.ops.scan`` drops outputs that are not
    shaped like the carry).

    Args:
        step: pure function of ``(state, x)``, called once while tracing.
        xs: nest of time-major tensors ``(time, ...)``.
        state: nest of tensors; its structure and shapes do not change from step to step.
        length: steps, an int or an int32 scalar; default: the time axis of ``xs``.

    Returns:
        The last state and ``ys``, a nest of ``(time, ...)`` tensors.
    """
    if length is None:
        first = nest.flatten(xs)[0]
        length = first.shape[0] if first.shape[0] is not None else tf.shape(first)[0]
    state = nest.map_structure(tf.convert_to_tensor, state)
    x_spec = nest.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), xs)
    y_spec = _output_spec(step, state, x_spec)
    inputs = nest.map_structure(lambda x, spec: _array(spec, length).unstack(x), xs, x_spec)
    outputs = nest.map_structure(lambda spec: _array(spec, length), y_spec)

    def body(t, state, outputs):
        state, y = step(state, nest.map_structure(lambda array: array.read(t), inputs))
        return t + 1, state, nest.map_structure(lambda array, value: array.write(t, value), outputs, y)

    loop = (tf.constant(0), state, outputs)
    _, state, outputs = tf.while_loop(lambda t, *_: t < length, body, loop, maximum_iterations=length)
    return state, nest.map_structure(lambda array: array.stack(), outputs)


def scan_states(step: Callable, xs: Any, state: Any, length) -> Any:
    """Like ``scan`` for a ``step`` from ``(state, x)`` to the next state: all states, the first one included.

    Args:
        step: pure function of ``(state, x)``.
        xs: nest of time-major tensors with at least ``length`` steps, or empty where ``length`` is 0.
        state: nest of tensors.
        length: int32 scalar, 0 allowed.

    Returns:
        The nest of states stacked in time: ``(length + 1, ...)``; index 0 is ``state``.
    """
    x_spec = nest.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), xs)
    inputs = nest.map_structure(lambda x, spec: _array(spec, tf.shape(x)[0]).unstack(x), xs, x_spec)
    arrays = nest.map_structure(lambda s: _array(tf.TensorSpec(s.shape, s.dtype), length + 1).write(0, s), state)

    def body(t, state, arrays):
        state = step(state, nest.map_structure(lambda array: array.read(t), inputs))
        return t + 1, state, nest.map_structure(lambda array, value: array.write(t + 1, value), arrays, state)

    loop = (tf.constant(0), state, arrays)
    _, _, arrays = tf.while_loop(lambda t, *_: t < length, body, loop, maximum_iterations=length)
    return nest.map_structure(lambda array: array.stack(), arrays)


def _array(spec: tf.TensorSpec, size) -> tf.TensorArray:
    return tf.TensorArray(spec.dtype, size=size, element_shape=spec.shape)


def _output_spec(step: Callable, state: Any, x_spec: Any) -> Any:
    """Structure, shapes and dtypes of a step's output, traced aside so that no operation is left behind."""
    state_spec = nest.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), state)
    return tf.function(step, autograph=False).get_concrete_function(state_spec, x_spec).structured_outputs[1]
