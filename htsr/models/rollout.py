"""Open-loop prediction: rows of futures, computed together or in groups, in chunks of frames; and as one graph."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.ops import noise as noise_lib

if TYPE_CHECKING:
    from htsr.models.base import VideoModel

CHUNK = 50  # frames predicted at once: no horizon is then too long for memory


class Rollout:
    """The graphs with which a model predicts.

    They are traced for any number of rows: graphs of one size are fused differently from others, and then a
    prediction's last bits would depend on how many there are.
    """

    def __init__(self, model: "VideoModel"):
        self._model = model
        context = tf.TensorSpec([None, None, *model.frame_shape])
        scalars = [tf.TensorSpec([], dtype) for dtype in (tf.int32, tf.bool)]
        signature = [context, scalars[0], tf.TensorSpec([None], tf.int32), scalars[1]]
        self._start = tf.function(model.start, input_signature=signature, autograph=False)
        self._advance = tf.function(model.advance, reduce_retracing=True, autograph=False)

    def chunks(self, context, horizon: int, num_samples, seed, noise: str, rows, chunk) -> Iterator[np.ndarray]:
        """Yield the predicted frames in consecutive pieces; ``VideoModel.rollout`` explains the arguments."""
        context = checked_context(self._model, context)
        for name, value in {"horizon": horizon, "num_samples": num_samples, "chunk": chunk}.items():
            require_int(name, value, 1)
        if noise not in ("sample", "mean"):
            raise InputError(f"noise must be 'sample' or 'mean', received {noise!r}")
        seeds = future_seeds(tf.convert_to_tensor(np.asarray(seed, np.int32)), context, num_samples)
        states = self._states(context, num_samples, seeds, tf.constant(noise == "sample"), rows)
        any_rows = tf.nest.map_structure(_any_rows, states[0])
        self._advance.get_concrete_function(any_rows, tf.TensorSpec([], tf.int32))
        for begin in range(0, horizon, chunk):
            length, pieces = tf.constant(min(chunk, horizon - begin)), []
            for i, state in enumerate(states):
                states[i], frames = self._advance(state, length)
                pieces.append(frames.numpy())
            frames = np.concatenate(pieces)[: len(seeds)]
            yield frames.reshape(num_samples, -1, *frames.shape[1:])

    def _states(self, context, num_samples: int, seeds, stochastic, rows: int | None) -> list[Any]:
        """The states after the context: of all futures together, or of groups of ``rows``, the last one filled up."""
        if rows is None:
            return [self._start(context, tf.constant(num_samples), seeds, stochastic)]
        require_int("rows", rows, 1)
        groups = (np.arange(begin, begin + rows) % len(seeds) for begin in range(0, len(seeds), rows))
        return [
            self._start(tf.gather(context, of % len(context)), tf.constant(1), tf.gather(seeds, of), stochastic)
            for of in groups
        ]


def rollout_graph(model: "VideoModel", context, horizon, num_samples, seed) -> tf.Tensor:
    """Return the samples of ``VideoModel.rollout`` where all arguments are tensors of a graph, for export."""
    seeds = future_seeds(seed, context, num_samples)
    state = model.start(context, num_samples, seeds, tf.constant(True))
    pieces = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None, None, *model.frame_shape])

    def predict(index, state, pieces):
        state, frames = model.advance(state, tf.minimum(CHUNK, horizon - index * CHUNK))
        return index + 1, state, pieces.write(index, tf.transpose(frames, [1, 0, 2, 3, 4]))

    loop = (tf.constant(0), state, pieces)
    *_, pieces = tf.while_loop(lambda index, *_: index * CHUNK < horizon, predict, loop, parallel_iterations=1)
    frames = tf.transpose(pieces.concat(), [1, 0, 2, 3, 4])
    shape = tf.concat([[num_samples, tf.shape(context)[0], horizon], model.frame_shape], 0)
    return tf.reshape(frames, shape)


def checked_context(model: "VideoModel", context) -> tf.Tensor:
    """Return a context as float32.

    Raises:
        InputError: it is no array of clips of the model's frames, too short, or not of floats.
    """
    shape = np.shape(context)
    if len(shape) != 5 or shape[2:] != model.frame_shape or 0 in shape:
        raise InputError(
            f"context must be (batch, time, {', '.join(map(str, model.frame_shape))}) with at least one clip and "
            f"one frame, received {tuple(shape)}"
        )
    context = tf.convert_to_tensor(context)
    if context.shape[1] < model.min_context:
        raise InputError(
            f"{model.name} reads at least {model.min_context} frames of context, received {context.shape[1]}; give "
            "it more, or choose another model"
        )
    if not context.dtype.is_floating:
        raise InputError(f"context must be floats in [0, 1], received {context.dtype.name}; divide bytes by 255")
    return tf.cast(context, tf.float32)


def future_seeds(seed: tf.Tensor, context: tf.Tensor, num_samples) -> tf.Tensor:
    """Return one seed a future, sample by sample, of the clips' seeds: those given, or made of a single one."""
    clips = noise_lib.fold(seed, tf.range(tf.shape(context)[0])) if seed.shape.rank == 0 else seed
    return tf.reshape(noise_lib.fold(clips[None, :], tf.range(num_samples)[:, None]), [-1])


def _any_rows(x: tf.Tensor) -> tf.TensorSpec:
    """The form of a tensor of a state, whatever the number of rows."""
    return tf.TensorSpec([None, *x.shape[1:]] if x.shape.rank else [], x.dtype)
