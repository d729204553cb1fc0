"""LMC-Memory: a recurrent predictor that recalls long-term motion from a memory."""

from typing import Literal, NamedTuple, get_args

import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.conv_lstm import ConvLSTMCell, ConvLSTMState
from htsr.models.base import VideoModel
from htsr.models.lmc_memory import stream as motion_stream
from htsr.models.lmc_memory.frames import FrameMapDecoder, FrameMapEncoder
from htsr.models.lmc_memory.memory import MIN_FRAMES, ChannelAttention, MotionMemory
from htsr.models.lmc_memory.stream import Motion
from htsr.models.training_step import TrainingPass
from htsr.ops import noise as noise_lib
from htsr.ops.scan import scan

Output = Literal["linear", "sigmoid"]
Phase = Literal["store", "recall"]


class RolloutState(NamedTuple):
    """What ``advance`` needs: the states of the layers, the next input frame, and what was recalled from the memory."""

    layers: tuple[ConvLSTMState, ...]
    frame: tf.Tensor
    recalled: tf.Tensor


class StreamState(NamedTuple):
    """What a prediction frame by frame needs: the state of a rollout, the motion so far, and how many frames there were
    (int64)."""

    rollout: RolloutState
    motion: Motion
    num_frames: tf.Tensor


class LMCMemory(VideoModel):
    """LMC-Memory (Lee et al., "Video prediction recalling long-term motion context via memory alignment learning",
    CVPR 2021, arXiv 2104.00924).

    A frame is encoded to a map of a quarter of its size and taken through a stack of ConvLSTMs; the next frame is
    decoded from the last hidden state beside what the ``MotionMemory`` holds about the context's motion, whose channels
    are weighted by attention to the last cell state. Further frames come from predictions. The memory is read once.

    A training step takes two optimiser steps on its clips with the same loss. In the first one, ``store``, the memory
    is read with a long window of the clip, future frames included, and learnt; in the second one, ``recall``, with the
    context alone, and held fixed. Outside of training it is ``recall`` that counts. A window's place is drawn for every
    batch (with ``accumulate``, for each of its parts).

    Args:
        frame_shape: height, width, channels; 16 divides height and width.
        filters: of the maps, even; other widths are multiples of it.
        layers: ConvLSTMs.
        slots: of the memory.
        context: true frames at the beginning of a training clip; the later ones are predicted.
        long_frames: frames of the long window.
        warmup_steps: training steps at the beginning on the first ``context + warmup_horizon`` frames alone, all of
            which are the long window.
        warmup_horizon: frames predicted in them, where clips have as many.
        output: ``linear``, as published for Moving MNIST, or ``sigmoid``, as published for KTH.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.

    Deviation: what a phase does not train stays as it is. In the original, with the PyTorch of its time, gradients set
    to zero still moved the memory in the second phase, by the momentum left from the first.
    Deviation: biases start at 0, not uniformly random.
    """

    stochastic = False
    min_context = MIN_FRAMES

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        filters: int = 128,
        layers: int = 4,
        slots: int = 100,
        context: int = 10,
        long_frames: int = 30,
        warmup_steps: int = 5000,
        warmup_horizon: int = 10,
        output: Output = "linear",
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype=dtype, name="lmc_memory")
        height, width, channels = frame_shape
        if height % 16 or width % 16:
            raise InputError(
                f"frames must have height and width divisible by 16, received {height}x{width}; resize or crop them"
            )
        if layers < 1 or slots < 1 or warmup_horizon < 1:
            raise InputError(
                f"layers, slots and warmup_horizon must be at least 1, received {layers}, {slots} and {warmup_horizon}"
            )
        if min(context, long_frames) < MIN_FRAMES:
            raise InputError(
                f"context and long_frames must be at least {MIN_FRAMES}, fewer hold no motion for the memory, received "
                f"{context} and {long_frames}"
            )
        if warmup_steps < 0:
            raise InputError(f"warmup_steps must be at least 0, received {warmup_steps}")
        if output not in get_args(Output):
            raise InputError(f"output must be one of {', '.join(get_args(Output))}, received {output!r}")
        self.context, self.long_frames = context, long_frames
        self.warmup_steps, self.warmup_horizon = warmup_steps, warmup_horizon
        policy = self.dtype_policy
        self.encoder = FrameMapEncoder(filters, name="encoder", dtype=policy)
        self.cells = [
            ConvLSTMCell(filters, 3, use_bias=True, hidden_bias=True, name=f"cell{i}", dtype=policy)
            for i in range(layers)
        ]
        self.memory = MotionMemory(filters, slots, name="memory", dtype=policy)
        self.attention = ChannelAttention(filters, name="attention", dtype=policy)
        self.decoder = FrameMapDecoder(filters, channels, output, name="decoder", dtype=policy)

    def build(self, input_shape=None):
        height, width, channels = self.frame_shape
        maps = (None, height // 4, width // 4, self.encoder.filters)
        self.encoder.build((None, *self.frame_shape))
        for cell in self.cells:
            cell.build(maps)
        self.memory.build((None, None, height, width, channels))
        for layer in (self.attention, self.decoder):
            layer.build((*maps[:-1], 2 * maps[-1]))
        self.built = True

    # ---- training

    def training_passes(self, clip):
        memory = self.memory
        fixed = (memory.slots, *memory.context_encoder.weights)
        return (
            TrainingPass(clip, frozen=tuple(memory.matching_encoder.weights), arguments={"phase": "store"}),
            TrainingPass(clip, frozen=fixed, arguments={"phase": "recall"}),
        )

    def loss_terms(self, clip, seed, step=None, phase: Phase = "recall"):
        """Terms per clip, means over pixels and predicted frames: ``l1``, the absolute, and ``l2``, the squared
        error."""
        num_frames = clip.shape[1]
        if num_frames < max(self.context + 1, self.long_frames):
            raise InputError(
                f"context is {self.context} and long_frames {self.long_frames}, but clips have {num_frames} frames; "
                "set data.seq_len above the one and to the other at least"
            )

        horizon = num_frames - self.context
        warm = self.warmup_steps > 0 and step is not None and step < self.warmup_steps
        recalled = self.memory(clip[:, : self.context]) if phase == "recall" else self._stored(clip, seed, warm)
        future = tf.transpose(clip[:, self.context :], [1, 0, 2, 3, 4])
        _, predictions = self._imagine(self._read(clip[:, : self.context], recalled), tf.range(horizon))
        # Predictions do not depend on later ones: those that do not count cost time, but no second graph.
        counted = tf.where(warm, min(self.warmup_horizon, horizon), horizon)
        weights = tf.cast(tf.range(horizon) < counted, tf.float32)[:, None] / tf.cast(counted, tf.float32)
        error = predictions - future
        return {
            "l1": tf.reduce_sum(weights * tf.reduce_mean(tf.abs(error), [2, 3, 4]), 0),
            "l2": tf.reduce_sum(weights * tf.reduce_mean(tf.square(error), [2, 3, 4]), 0),
        }

    def _stored(self, clip, seed, warm):
        """What the memory has about a long window of the clip."""

        def window():
            start = tf.cast(noise_lib.uniform(seed) * (clip.shape[1] - self.long_frames + 1), tf.int32)
            return self.memory(tf.gather(clip, start + tf.range(self.long_frames), axis=1), long=True)

        if warm is False:
            return window()
        return tf.cond(warm, lambda: self.memory(clip[:, : self.context + self.warmup_horizon], long=True), window)

    # ---- the model

    def _read(self, context, recalled) -> RolloutState:
        """Take all frames of a context but the last through the layers."""
        frames = tf.transpose(context, [1, 0, 2, 3, 4])
        codes = self.encoder(tf.reshape(frames[:-1], [-1, *self.frame_shape]))
        codes = tf.reshape(codes, [-1, tf.shape(context)[0], *codes.shape[1:]])
        states = tuple(cell.initial_state(codes[0]) for cell in self.cells)
        states, _ = scan(lambda states, code: self._step(states, code)[0], codes, states)
        return RolloutState(states, frames[-1], recalled)

    def _step(self, states: tuple, x) -> tuple[tuple, tf.Tensor]:
        """New states of all layers, and the last hidden one, from an encoded frame."""
        new = []
        for cell, old in zip(self.cells, states, strict=True):
            x, state = cell(x, old)
            new.append(state)
        return tuple(new), x

    def _imagine(self, state: RolloutState, steps) -> tuple[RolloutState, tf.Tensor]:
        """Predict a frame for every one of ``steps``: the new state, ``(time, batch, height, width, channel)``."""

        recalled = state.recalled

        def predict(state, _):
            layers, hidden = self._step(state[0], self.encoder(state[1]))
            # It is the cell state, not the hidden one, that the attention sees.
            weights = self.attention(tf.concat([layers[-1].cell, recalled], -1))
            frame = self.decoder(tf.concat([hidden, recalled * weights], -1))
            return layers, frame

        (layers, frame), frames = scan(predict, steps, (state.layers, state.frame), keep=lambda state: state[1])
        return RolloutState(layers, frame, recalled), frames

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        state = self._read(context, self.memory(context))
        return tf.nest.map_structure(lambda x: tf.tile(x, [num_samples, 1, 1, 1]), state)

    def advance(self, state, length):
        state, frames = self._imagine(state, tf.range(length))
        return state, tf.transpose(frames, [1, 0, 2, 3, 4])

    # ---- frame by frame

    def start_stream(self, context, seeds):
        rollout = super().start_stream(context, seeds)
        motion = motion_stream.begin(self.memory.matching_encoder, context)
        return StreamState(rollout, motion, tf.shape(context, tf.int64)[1])

    def step_stream(self, state, seeds):
        rollout, frame = super().step_stream(state.rollout, seeds)
        motion = motion_stream.add(self.memory.matching_encoder, state.motion, frame, state.num_frames)
        return StreamState(rollout, motion, state.num_frames + 1), frame

    def observe_stream(self, state, frame, seeds):
        encoder, num_frames = self.memory.matching_encoder, state.num_frames + 1
        layers, _ = self._step(state.rollout.layers, self.encoder(state.rollout.frame))
        motion = motion_stream.add(encoder, state.motion, frame, state.num_frames)
        recalled = self.memory.recall(motion_stream.mean(encoder, motion, num_frames))
        return StreamState(RolloutState(layers, frame, recalled), motion, num_frames)
