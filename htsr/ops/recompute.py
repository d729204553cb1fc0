"""Less memory for more time: what a training step keeps for its gradient is computed again, a few frames at a time.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): of a recurrence only the states between segments of
time are kept; when the gradient is taken, the segments are run once more, last one first. The gradients are the same.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from htsr.errors import InputError

nest = tf.nest
_SEGMENTS: ContextVar["Segments | None"] = ContextVar("segments", default=None)


class Segments:
    """How many frames are a segment, and whether anything has been cut into segments of them."""

    def __init__(self, frames: int):
        self.frames, self.used = frames, False


@contextlib.contextmanager
def recomputing(frames: int | None) -> Iterator[None]:
    """Compute what the body asks for ``in_segments`` of so many frames; None keeps everything, as without.

    Raises:
        InputError: nothing in the body could be cut into segments.
    """
    segments = None if frames is None else Segments(frames)
    token = _SEGMENTS.set(segments)
    try:
        yield
    finally:
        _SEGMENTS.reset(token)
    if segments is not None and not segments.used:
        raise InputError(
            f"train.recompute is {frames}, but there is nothing to recompute: the model has no recurrence over more "
            "frames than that; set it to a smaller number, or null"
        )


def segment(length: int | None) -> int | None:
    """Return the frames of a segment where a recurrence over ``length`` frames shall be cut; None where it shall not.

    Within a segment nothing is cut again.
    """
    segments = _SEGMENTS.get()
    return segments.frames if segments is not None and length is not None and length > segments.frames else None


def in_segments(function: Callable, xs: Any, state: Any, size: int) -> tuple[Any, Any]:
    """Run ``state, ys = function(state, xs)`` over consecutive segments of the leading axis of ``xs``.

    Args:
        function: pure function of a state and the ``xs`` of a segment; tensors and variables that it reads otherwise
            get their gradients, too.
        xs: nest of tensors ``(length, ...)`` of known length.
        state: nest of tensors of constant structure and shapes.
        size: the length of a segment; the first one is shorter where it does not divide that of ``xs``.

    Returns:
        The last state and the nest of all ``ys``, ``(length, ...)``.
    """
    _SEGMENTS.get().used = True
    token = _SEGMENTS.set(None)
    try:
        pieces = []
        for part in _cut(xs, size):
            state, ys = _recomputed(function, part, state)
            pieces.append(nest.map_structure(lambda y: tf.reshape(y, [-1, *_rest(y[0])]), ys))
    finally:
        _SEGMENTS.reset(token)
    return state, nest.map_structure(lambda *y: tf.concat(y, 0), *pieces)


def of_frames(function: Callable, frames: tf.Tensor) -> Any:
    """Apply a function of rows ``(rows, ...)``, which it treats alike, to every frame of ``(batch, time, ...)``.

    Returns:
        The nest of its results, ``(batch, time, ...)``.
    """
    batch, length = frames.shape[:2]
    rows = tf.reshape(frames, [-1, *_rest(frames[0])])
    if batch is not None and (size := segment(length)):
        _, ys = in_segments(lambda state, rows: (state, function(rows)), rows, (), batch * size)
    else:
        ys = function(rows)
    form = [tf.shape(frames)[0] if batch is None else batch, tf.shape(frames)[1] if length is None else length]
    return nest.map_structure(lambda y: tf.reshape(y, [*form, *_rest(y)]), ys)


def _cut(xs: Any, size: int) -> list:
    """Cut ``(length, ...)`` into segments, ``(count, size, ...)``; what is left over comes first, alone."""
    count, left = divmod(nest.flatten(xs)[0].shape[0], size)
    first = nest.map_structure(lambda x: x[None, :left], xs)
    rest = nest.map_structure(lambda x: tf.reshape(x[left:], [count, size, *_rest(x)]), xs)
    return [first, rest] if left else [rest]


def _rest(x: tf.Tensor) -> list:
    """The sizes of all axes but the first, known ones as numbers."""
    return [n if n is not None else tf.shape(x)[axis] for axis, n in enumerate(x.shape) if axis]


def _recomputed(function: Callable, xs: Any, state: Any) -> tuple[Any, Any]:
    """``in_segments`` of ``xs`` that are cut already, ``(count, size, ...)``; so are the ``ys``."""
    count = nest.flatten(xs)[0].shape[0]
    state = nest.map_structure(tf.convert_to_tensor, state)
    traced = tf.function(function, autograph=False).get_concrete_function(state, nest.map_structure(lambda x: x[0], xs))
    captured = _floats(traced.captured_inputs)
    num_states, arguments = len(nest.flatten(state)), (state, xs)
    _, form = traced.structured_outputs

    def run_segment(state: list, xs: list) -> tuple[list, list]:
        new = nest.flatten(traced(*nest.pack_sequence_as(arguments, [*state, *xs])))
        return new[:num_states], new[num_states:]

    @tf.custom_gradient
    def run(*inputs):
        first, xs = inputs[:num_states], inputs[num_states : len(nest.flatten(arguments))]

        def forward(i, state, starts, ys):
            starts = [array.write(i, x) for array, x in zip(starts, state, strict=True)]
            state, new = run_segment(state, [x[i] for x in xs])
            return i + 1, state, starts, [array.write(i, y) for array, y in zip(ys, new, strict=True)]

        loop = (list(first), _arrays(count, first), _arrays(count, nest.flatten(form)))
        last, starts, ys = _repeat(count, forward, *loop)
        starts, ys = [array.stack() for array in starts], [array.stack() for array in ys]

        def gradient(*upstream, variables=()):
            of_last, of_ys = _like_floats(upstream[:num_states], last), _like_floats(upstream[num_states:], ys)
            others = [*captured, *variables]

            def backward(done, of_state, of_xs, of_others):
                i = count - 1 - done
                before, part = [x[i] for x in starts], [x[i] for x in xs]
                sources = [_floats(before), _floats(part), others]
                with tf.GradientTape() as tape:
                    tape.watch([sources[:2], captured])
                    targets = [_floats(outputs) for outputs in run_segment(before, part)]
                of_state, of_part, more = tape.gradient(
                    targets, sources, [of_state, [y[i] for y in of_ys]], tf.UnconnectedGradients.ZERO
                )
                of_xs = [array.write(i, x) for array, x in zip(of_xs, of_part, strict=True)]
                return done + 1, of_state, of_xs, [a + b for a, b in zip(of_others, more, strict=True)]

            loop = (of_last, _arrays(count, [x[0] for x in _floats(xs)]), [tf.zeros_like(x) for x in others])
            of_first, of_xs, of_others = _repeat(count, backward, *loop)
            floats = iter([*of_first, *(array.stack() for array in of_xs)])
            of_inputs = [next(floats) if x.dtype.is_floating else None for x in (*first, *xs)]
            of_inputs += of_others[: len(captured)]
            return (of_inputs, of_others[len(captured) :]) if variables else of_inputs

        return [*last, *ys], gradient

    flat = run(*nest.flatten(arguments), *captured)
    return nest.pack_sequence_as(state, flat[:num_states]), nest.pack_sequence_as(form, flat[num_states:])


def _floats(tensors) -> list[tf.Tensor]:
    """Those of some tensors that have gradients."""
    return [x for x in tensors if x.dtype.is_floating]


def _like_floats(gradients, tensors) -> list[tf.Tensor]:
    """The gradients of those of ``tensors`` that have one."""
    return [gradient for gradient, x in zip(gradients, tensors, strict=True) if x.dtype.is_floating]


def _arrays(count: int, examples: list) -> list[tf.TensorArray]:
    return [tf.TensorArray(x.dtype, count, element_shape=x.shape) for x in examples]


def _repeat(count: int, body: Callable, *loop) -> list:
    """Run a loop, one step after the other: memory is what this is for."""
    options = {"maximum_iterations": count, "parallel_iterations": 1}
    _, *loop = tf.while_loop(lambda i, *_: i < count, body, (tf.constant(0), *loop), **options)
    return loop
