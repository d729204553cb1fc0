"""DDPAE: decomposes a video into objects, and each object into what it looks like and where it is."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.models.ddpae.frames import NARROW, ObjectDecoder, ObjectEncoder, cut_out, place
from htsr.models.fc_lstm import PeepholeCell
from htsr.ops import noise as noise_lib
from htsr.ops.likelihoods import gaussian_nll
from htsr.ops.scan import scan

_FRAME_STDDEV = 0.3
_MOVE_STDDEV = 0.1
_POSE_STDDEV = (0.2, 1.0, 1.0)


class Reading(NamedTuple):
    """What is known of the frames that were read: of every component the states ``(hidden, cell)`` of the LSTMs that
    read frames and looks, and its pose before it is bounded, ``(batch, component, 3)``."""

    encoder: tuple
    content: tuple
    pose: tf.Tensor


class DDPAEState(NamedTuple):
    """What was read, and how it goes on: of every component the state of the LSTM that predicts, its pose, and its look
    ``(batch, component, side, side, channel)``. How many frames there were, the seed of every future, and what noise
    is multiplied by: 1, or 0 for means."""

    reading: Reading
    predictor: tuple
    pose: tf.Tensor
    objects: tf.Tensor
    time: tf.Tensor
    seeds: tf.Tensor
    spread: tf.Tensor


class Draw(NamedTuple):
    """A draw of normal distributions, ``(time, batch, component, size)``."""

    value: tf.Tensor
    mean: tf.Tensor
    stddev: tf.Tensor


class DDPAE(VideoModel):
    """DDPAE (Hsieh et al., "Learning to decompose and disentangle representations for video prediction", NeurIPS 2018;
    arXiv 1806.04166).

    A frame is a sum of components. Each has one look for the whole clip and a pose for every frame: scale, x and y. An
    LSTM reads the frames for one component after the other, each of which knows what the one before it read. What it
    gives says by how much the pose moves; what the components' first states give to another LSTM, where they begin.
    The look is read off the frames where the component is. A third LSTM goes on and moves the poses further.

    Its loss is the negative evidence lower bound of one sample, in nats per clip: ``nll`` of all frames, those of the
    context, too, with a standard deviation of 0.3, and ``content``, ``initial_pose`` and ``moves``, the logarithms by
    which posteriors exceed priors.

    Deviation: scales of batch normalisation begin at 1, not at random, and Adam's first decay rate is 0.9, not 0.5.

    Args:
        frame_shape: height, width, channels; squares whose side is a power of 2 and at least 16.
        components: how many there are.
        filters: channels after the first convolution of the encoders.
        frame_units, content_units: numbers that a frame and a look are encoded to.
        units: of the LSTMs.
        scale: of the components, to begin with; objects have half the sides of a frame.
        context: frames that are read at the beginning of a training clip.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``, of the convolutions.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        components: int = 2,
        filters: int = 8,
        frame_units: int = 256,
        content_units: int = 128,
        units: int = 64,
        scale: float = 2.0,
        context: int = 10,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, name="ddpae")
        sizes = {"components": components, "filters": filters, "frame_units": frame_units}
        for name, size in {**sizes, "content_units": content_units, "units": units, "context": context}.items():
            require_int(name, size, 1)
        side = frame_shape[0]
        if frame_shape[1] != side or side < 16 or side & (side - 1):
            raise InputError(
                f"height and width must be the same power of 2, at least 16, received {tuple(frame_shape[:2])}; resize "
                "or crop the frames"
            )
        if not scale > 1:
            raise InputError(f"scale must be above 1, received {scale}")
        self.components, self.units, self.content_units = components, units, content_units
        self.side, self.scale, self.context, policy = side, scale, context, self.dtype_policy
        self.frame_encoder = ObjectEncoder(filters, frame_units, name="frame_encoder", dtype=policy)
        self.object_encoder = ObjectEncoder(filters, content_units, name="object_encoder", dtype=policy)
        self.object_decoder = ObjectDecoder(side // 2, frame_shape[-1], filters, name="object_decoder", dtype=policy)
        self.encoder, self.predictor, self.initial, self.content = (
            PeepholeCell(units, peepholes=False, name=name, dtype="float32")
            for name in ("encoder", "predictor", "initial", "content")
        )
        self.to_move, self.to_pose, self.to_code = (  # means and standard deviations
            keras.layers.Dense(2 * size, kernel_initializer=NARROW(), name=name, dtype="float32")
            for name, size in {"to_move": 3, "to_pose": 3, "to_code": content_units}.items()
        )

    def build(self, input_shape=None):
        channels, side, units = self.frame_shape[-1], self.side // 2, self.units
        self.frame_encoder.build((None, *self.frame_shape))
        self.object_encoder.build((None, side, side, channels))
        self.object_decoder.build((None, self.content_units))
        self.encoder.build((None, self.frame_encoder.units + units))
        self.predictor.build((None, 2 * units))
        self.initial.build((None, units))
        self.content.build((None, self.content_units))
        for head in (self.to_move, self.to_pose, self.to_code):
            head.build((None, units))
        self.built = True

    # ---- training

    def loss_terms(self, clip, seed, step=None):
        """Return ``nll``, ``content``, ``initial_pose`` and ``moves``, in nats per clip; outside of training batch
        normalisation is by its averages."""
        horizon = clip.shape[1] - self.context
        if horizon < 1:
            raise InputError(
                f"context is {self.context}, but clips have {clip.shape[1]} frames; set data.seq_len above it"
            )
        seeds = noise_lib.fold(seed, noise_lib.rows(tf.shape(clip)[0]))
        first = self._first_state(clip, seeds, tf.constant(1.0))
        state, poses, drawn = self._read(clip[:, : self.context], first, True, step is not None)
        _, later, moves = self._predict(state, horizon)
        frames = self._frames(state.objects, tf.concat([poses, later], 0))
        return {
            "nll": tf.reduce_sum(gaussian_nll(clip, frames, _FRAME_STDDEV), 1),
            "content": _excess(drawn["content"], 0.0, 1.0),
            "initial_pose": _excess(drawn["initial_pose"], np.array([self.scale, 0, 0], np.float32), _POSE_STDDEV),
            "moves": _excess(drawn["moves"], 0.0, _MOVE_STDDEV) + _excess(moves, 0.0, _MOVE_STDDEV),
        }

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        frames = tf.tile(context, [num_samples, 1, 1, 1, 1])
        return self._read(frames, self._first_state(frames, seeds, tf.cast(stochastic, tf.float32)), True)[0]

    def advance(self, state, length):
        state, poses, _ = self._predict(state, length)
        return state, self._frames(state.objects, poses)

    def step_stream(self, state, seeds):
        """As ``VideoModel.step_stream``; what is predicted is read, too, should true frames follow."""
        state = state._replace(seeds=seeds)
        new, frames = self.advance(state, 1)
        return new._replace(reading=self._read(frames, state)[0].reading), frames[:, 0]

    def observe_stream(self, state, frame, seeds):
        return self._read(frame[:, None], state._replace(seeds=seeds))[0]

    # ---- its parts

    def _first_state(self, frames, seeds, spread) -> DDPAEState:
        """The state before any frame."""
        rows, side = tf.shape(frames)[0], self.side // 2
        zeros = tuple(self.encoder.initial_state(frames) for _ in range(self.components))
        pose = tf.zeros([rows, self.components, 3])
        objects = tf.zeros([rows, self.components, side, side, self.frame_shape[-1]])
        return DDPAEState(Reading(zeros, zeros, pose), zeros, pose, objects, tf.constant(0), seeds, spread)

    def _read(self, frames, state: DDPAEState, first: bool = False, training: bool = False):
        """Read frames ``(batch, time, ...)``: the new state, poses ``(time, batch, component, 3)``, draws by name."""
        rows, time = tf.shape(frames)[0], frames.shape[1] or tf.shape(frames)[1]
        pose, drawn = state.reading.pose, {}
        codes = self.frame_encoder(tf.reshape(frames, [-1, *self.frame_shape]), training=training)
        codes = tf.transpose(tf.reshape(codes, [rows, time, codes.shape[-1]]), [1, 0, 2])

        def encode(states, code):
            return _in_turn(self.encoder, states, [code] * self.components)

        encoder, hidden = scan(encode, codes, state.reading.encoder, keep=_hidden)
        hidden = tf.stack(hidden, 2)
        if first:
            own, begin = self.initial.initial_state(frames), []
            for given in tf.unstack(hidden[0], axis=1):
                x, own = self.initial(given, own)
                begin.append(x)
            drawn["initial_pose"] = self._draw(self.to_pose, tf.stack(begin, 1)[None], state, 0, tf.range(1))
            pose = drawn["initial_pose"].value[0]
        poses, drawn["moves"] = self._moved(hidden, pose, state)
        looks = cut_out(tf.transpose(frames, [1, 0, 2, 3, 4]), self._bounded(poses), self.side // 2)
        codes = self.object_encoder(tf.reshape(looks, [-1, *looks.shape[3:]]), training=training)
        codes = tf.reshape(codes, [time, rows, self.components, self.content_units])

        def look(states, code):
            return tuple(self.content(x, own)[1] for x, own in zip(tf.unstack(code, axis=1), states, strict=True))

        content, _ = scan(look, codes, state.reading.content)
        given = tf.stack(_hidden(content), 1)[None]
        drawn["content"] = self._draw(self.to_code, given, state, 1, tf.range(1))
        code = tf.reshape(drawn["content"].value, [-1, self.content_units])
        objects = tf.reshape(self.object_decoder(code, training=training), [rows, *state.objects.shape[1:]])
        reading = Reading(encoder, content, poses[-1])
        return DDPAEState(reading, encoder, poses[-1], objects, state.time + time, *state[-2:]), poses, drawn

    def _predict(self, state: DDPAEState, length):
        """Go on: the new state, poses ``(length, batch, component, 3)`` and the draw of moves."""

        def predict(states, _):
            return _in_turn(self.predictor, states, _hidden(states))

        predictor, hidden = scan(predict, tf.range(length), state.predictor, keep=_hidden)
        poses, moves = self._moved(tf.stack(hidden, 2), state.pose, state)
        return state._replace(predictor=predictor, pose=poses[-1], time=state.time + length), poses, moves

    def _moved(self, hidden, pose, state: DDPAEState):
        """Poses that follow a pose, before they are bounded, and the draw of moves."""
        moves = self._draw(self.to_move, hidden, state, 2, state.time + tf.range(tf.shape(hidden)[0]))
        return pose + tf.cumsum(moves.value, 0), moves

    def _draw(self, head, x, state: DDPAEState, stream: int, steps) -> Draw:
        """Draw from what a layer makes of ``(time, batch, component, units)``."""
        mean, stddev = tf.split(head(x), 2, -1)
        stddev = _filled(tf.nn.softplus, stddev)
        noise = self._noise(state.seeds, stream, steps, mean.shape[-1])
        return Draw(mean + state.spread * stddev * noise, mean, stddev)

    def _noise(self, seeds, stream: int, steps, size: int):
        """Normal noise ``(time, batch, component, size)``, a function of seed, stream and step."""
        own, wanted = tf.zeros_like(seeds), self.components * size  # rows differ in their seeds
        # A multiple of 32, for the reason that _filled has.
        noise = noise_lib.normal(noise_lib.fold(seeds, stream), own, steps, wanted + -wanted % 32)[..., :wanted]
        return tf.transpose(tf.reshape(noise, [tf.shape(seeds)[0], -1, self.components, size]), [1, 0, 2, 3])

    def _bounded(self, poses):
        scale = tf.clip_by_value(poses[..., :1], self.scale - 1.0, self.scale + 1.0)
        return tf.concat([scale, _filled(tf.tanh, poses[..., 1:]) * (scale - 0.5)], -1)

    def _frames(self, objects, poses):
        """Frames ``(batch, time, height, width, channel)`` of looks and poses."""
        frames = tf.minimum(place(objects, self._bounded(poses), self.side), 1.0)
        return tf.transpose(frames, [1, 0, 2, 3, 4])


def _in_turn(cell, states, inputs) -> tuple:
    """One step for each component, which is also given the new hidden state of the one before it: new states."""
    before, new = tf.zeros_like(states[0][0]), []
    for x, own in zip(inputs, states, strict=True):
        before, state = cell(tf.concat([x, before], -1), own)
        new.append(state)
    return tuple(new)


def _hidden(states) -> tuple:
    return tuple(hidden for hidden, _ in states)


def _filled(function, x):
    """A function of every element, the last axis filled up to a multiple of sixteen meanwhile. What does not fill a
    vector of a processor is computed by other means, and a row's last bits would depend on its place in a batch."""
    size = x.shape[-1]
    return function(tf.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, -size % 16]]))[..., :size]


def _excess(draw: Draw, mean, stddev) -> tf.Tensor:
    """How much more likely draws are under the distributions they are from than under a prior: nats per clip."""
    nats = tf.square((draw.value - mean) / stddev) - tf.square((draw.value - draw.mean) / draw.stddev)
    return tf.reduce_sum(0.5 * nats + tf.math.log(stddev / draw.stddev), [0, 2, 3])
