"""Predictions of a video that goes on, frame by frame: a state the caller keeps, and pure functions of it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.models.rollout import checked_context
from htsr.ops import noise


class Stream:
    """A model as three pure functions: ``init`` reads a context, ``step`` predicts a frame, ``observe`` reads one.

    A state is a nest of tensors of constant size, however long it goes on. None of the functions changes the state that
    it is given, so that one keeps the state of what was observed, tries futures from it with ``step`` as often as one
    likes, and then hands the frame that has arrived to ``observe``, with the state that was kept. ``init`` followed by
    ``step`` gives the frames of ``rollout`` with one sample; ``init`` with a part of a context followed by ``observe``
    with the rest gives the state of ``init`` with all of it.

    ``observe`` may follow ``step``. The predicted frames then count as observed ones. In HTSR they count as frames that
    nobody has seen: levels keep to their priors in windows with such a frame; with that, ``step`` passes over a frame
    that was lost.

    Noise is a function of seed, row and time. The seed is an argument of every call: the same one for one line of
    events, others for other futures from a state. ``observe`` resamples, using its seed, HTSR's latents of all frames
    seen since its slowest level last ticked, and the looks of DDPAE's objects. Deterministic models ignore it.

    Args:
        model: with weights; they are those at the time of a call.
        batch, context: sizes that are fixed, where they have to be; None for any.

    Example:
        >>> from htsr.models import build_model
        >>> model = build_model("recurrent", cell="conv_lstm", filters=[4], embed=False, patch_size=16)
        >>> stream, video = Stream(model), np.zeros([1, 12, 64, 64, 1], "float32")
        >>> state = stream.init(video[:, :10])
        >>> for t in (10, 11):
        ...     future, frame = stream.step(state)  # what comes at time t; from future, what comes after it
        ...     state = stream.observe(state, video[:, t])
        >>> frame.shape
        TensorShape([1, 64, 64, 1])
    """

    def __init__(self, model: VideoModel, batch: int | None = None, context: int | None = None):
        self._model = model
        clip, self._frame, self._seed = frame_specs(model, tf.float32, batch, context)
        self.init_graph = traced(self._init, clip, self._seed)
        state = self.init_graph.structured_outputs
        self.state_spec = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), state)

    @functools.cached_property
    def step_graph(self) -> Callable:
        """``step`` of tensors, as a graph."""
        return traced(self._step, self.state_spec, self._seed)

    @functools.cached_property
    def observe_graph(self) -> Callable:
        """``observe`` of tensors, as a graph."""
        return traced(self._observe, self.state_spec, self._frame, self._seed)

    def init(self, context, seed: int = 0) -> Any:
        """Read a context ``(batch, time, height, width, channel)`` in [0, 1]: the state after it.

        Raises:
            InputError: it is not such an array, or shorter than the model's ``min_context``.
        """
        return self.init_graph(checked_context(self._model, context), tf.constant(seed, tf.int32))

    def step(self, state: Any, seed: int = 0) -> tuple[Any, tf.Tensor]:
        """Predict the next frame: the new state, float32 ``(batch, height, width, channel)``, not clipped."""
        return self.step_graph(state, tf.constant(seed, tf.int32))

    def observe(self, state: Any, frame, seed: int = 0) -> Any:
        """Read the next frame ``(batch, height, width, channel)`` in [0, 1]: the new state.

        Raises:
            InputError: it is not such an array, or of another batch than the state.
        """
        expected = (tf.nest.flatten(state)[0].shape[0], *self._model.frame_shape)
        if np.shape(frame) != expected or not np.issubdtype(np.asarray(frame).dtype, np.floating):
            raise InputError(
                f"frame must be floats in [0, 1] of shape {expected}, received {np.asarray(frame).dtype} "
                f"{np.shape(frame)}; divide bytes by 255, and give one frame for every clip of the state"
            )
        return self.observe_graph(state, tf.cast(frame, tf.float32), tf.constant(seed, tf.int32))

    def _init(self, context, seed):
        return self._model.start_stream(context, _row_seeds(seed, tf.shape(context)[0]))

    def _step(self, state, seed):
        return self._model.step_stream(state, _row_seeds(seed, tf.shape(tf.nest.flatten(state)[0])[0]))

    def _observe(self, state, frame, seed):
        return self._model.observe_stream(state, frame, _row_seeds(seed, tf.shape(frame)[0]))


def traced(function: Callable, *specs: Any) -> Any:
    """Trace a function for arguments like ``specs``, once: neither who calls it nor who saves it traces it again."""
    return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()


def frame_specs(model: VideoModel, dtype: tf.DType, batch: int | None, context: int | None) -> list[tf.TensorSpec]:
    """What a context, a frame and a seed are."""
    frames = (tf.TensorSpec([*sizes, *model.frame_shape], dtype) for sizes in ([batch, context], [batch]))
    return [*frames, tf.TensorSpec([], tf.int32)]


def _row_seeds(seed, rows) -> tf.Tensor:
    """Those of a rollout's first sample."""
    return noise.fold(noise.fold(seed, tf.range(rows)), 0)
