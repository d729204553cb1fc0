"""Recurrence over time: one ``scan`` for every model."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from htsr.ops import recompute

nest = tf.nest


def scan(step: Callable, xs: Any, state: Any, keep: Callable = lambda state: ()) -> tuple[Any, Any]:
    """Run ``state = step(state, x)`` over the leading (time) axis of ``xs``.

    One ``tf.while_loop`` over TensorArrays: quick to trace, any number of steps, differentiable under XLA when the
    length is static (``keras.layers.RNN`` mangles nested outputs and ``keras.ops.scan`` drops outputs that are not
    shaped like the carry). What is kept of every step is a part of the state, so its form is known before the loop and
    the step is traced once.

    Args:
        step: pure function of ``(state, x)``.
        xs: nest of time-major tensors ``(time, ...)``; no step at all is allowed.
        state: nest of tensors; its structure and shapes do not change from step to step.
        keep: picks the part of a state that is wanted of every step; nothing by default.

    Returns:
        The last state, and the nest of what was kept, ``(time, ...)``.

    Example:
        >>> sums = lambda total, x: total + x
        >>> last, totals = scan(sums, tf.constant([1, 2, 3]), tf.constant(0), keep=lambda total: total)
        >>> totals.numpy().tolist()
        [1, 3, 6]
    """
    first = nest.flatten(xs)[0]
    length = first.shape[0]
    state = nest.map_structure(tf.convert_to_tensor, state)
    if length == 0:
        return state, nest.map_structure(lambda x: x[None][:0], keep(state))
    if size := recompute.segment(length):
        return recompute.in_segments(lambda state, xs: scan(step, xs, state, keep), xs, state, size)
    if length is None:
        length = tf.shape(first)[0]
        # XLA cannot read from an array of no elements, even in no step.
        more = tf.cast(length == 0, tf.int32)
        xs = nest.map_structure(lambda x: tf.pad(x, [[0, more]] + [[0, 0]] * (len(x.shape) - 1)), xs)
    inputs = nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, x.shape[0] or tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x), xs
    )
    # The first state is kept, too: an array of no elements could not be stacked where the batch is not known.
    kept = nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, length + 1, element_shape=x.shape).write(0, x), keep(state)
    )

    def body(t, state, kept):
        state = step(state, nest.map_structure(lambda array: array.read(t), inputs))
        return t + 1, state, nest.map_structure(lambda array, x: array.write(t + 1, x), kept, keep(state))

    loop = (tf.constant(0), state, kept)
    _, state, kept = tf.while_loop(lambda t, *_: t < length, body, loop, maximum_iterations=length)
    return state, nest.map_structure(lambda array: array.stack()[1:], kept)
