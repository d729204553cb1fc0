"""What HTSR registers of the frames it sees instead of remembering it: the still background, and the things that move.

A frame is drawn from the registered parts: the things, cut out of the observed frames and put where they are expected,
over the median of these frames. The median alone, the mean, the last frame and the frame decoder's own picture are
mixed in, pixel by pixel, by gates that it decodes.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from htsr.models.htsr import motion, tracking
from htsr.models.htsr.looks import period_of, shifted, unlikeness
from htsr.models.htsr.motion import Motion, Walls

GATES = 4  # decoded beside a frame: of the picture with the things, the median, the mean and the last frame

_IN_VIEW = 0.3  # of a thing's most mass in a frame, from which on its look there counts
_TRUST = 4.0  # in the picture with the things, before training
_PLACE_ERROR = 0.5  # pixels, of the likelihood of where things were seen


class Things(NamedTuple):
    """``K`` things that move, registered in ``n`` observed frames, the moments.

    Attributes:
        crops: the frames, shifted to where the thing lies in the best of them: colour times coverage, coverage and
            visibility, all times visibility, ``(batch, K, n, channel + 2, height, width)``.
        unlike: how much the thing differs between two moments, a share of its energy, ``(batch, K, n, n)``.
        period: after how many frames its look recurs, int32 ``(batch, K)``.
        wobble: its place minus that of a steady motion, ``(batch, K, n, 2)`` in pixels.
        centre: where it lies in the crops, ``(batch, K, 2)``.
        motion: at the last moment.
    """

    crops: tf.Tensor
    unlike: tf.Tensor
    period: tf.Tensor
    wobble: tf.Tensor
    centre: tf.Tensor
    motion: Motion


class Registered(NamedTuple):
    """Of frames: the scene after the last one; how they are drawn, things as in the other frames; and minus the
    log-likelihood of where things were seen, ``(batch,)`` in nats a frame."""

    scene: "Scene"
    pose: "Pose"
    place_nll: tf.Tensor


class Scene(NamedTuple):
    """Of the observed frames the median, the mean and the last one, ``(batch, height, width, channel)``; the frames
    since then, int32 ``(batch,)``; and the things, or ()."""

    median: tf.Tensor
    mean: tf.Tensor
    last: tf.Tensor
    age: tf.Tensor
    things: Things | tuple[()]


class Latest(NamedTuple):
    """The latest frames, ``(batch, n, height, width, channel)``, and 1 for each that there was, 0 before: ``(n,)``."""

    frames: tf.Tensor
    seen: tf.Tensor

    @classmethod
    def of(cls, frames, count: int) -> "Latest":
        frames = frames[:, -count:]
        missing = count - tf.shape(frames)[1]
        padded = tf.pad(frames, [[0, 0], [missing, 0], [0, 0], [0, 0], [0, 0]])
        return cls(
            tf.ensure_shape(padded, [None, count, *frames.shape[2:]]), tf.cast(tf.range(count) >= missing, tf.float32)
        )

    def add(self, frame) -> "Latest":
        return Latest(
            tf.concat([self.frames[:, 1:], frame[:, None]], 1),
            tf.concat([self.seen[1:], tf.ones_like(self.seen[:1])], 0),
        )


class Pose(NamedTuple):
    """What frames show of a scene: how many frames after the last observed one they are, float32 ``(batch, time)``, 0
    for observed ones; and of the things the weights of their moments ``(batch, time, K, n)`` and their places
    ``(batch, time, K, 2)``, or ()."""

    age: tf.Tensor
    weights: tf.Tensor | tuple[()] = ()
    places: tf.Tensor | tuple[()] = ()


@keras.saving.register_keras_serializable("htsr")
class SceneLayer(keras.layers.Layer):
    """Registers a scene and draws it; what it learns is a handful of numbers that hold for all clips of a dataset.

    These are: how far each picture is to be trusted, and how that changes with time; where things turn round and how;
    how far a thing's look has to agree for two moments to be averaged; and whether things move by whole pixels.

    Args:
        num_things: things that move, 0 for a background alone.
    """

    def __init__(self, num_things: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_things = num_things

    def build(self, frame_shape):
        self.size = frame_shape[0]

        def variable(name, shape, value):
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.Constant(value))

        self.trust, self.trust_in_time = variable("trust", (GATES,), 0.0), variable("trust_in_time", (GATES,), 0.0)
        if not self.num_things:
            return
        # Walls begin close, so that things run into them, and give way.
        self.low, self.high = variable("low", (2,), 1 / 3), variable("high", (2,), 2 / 3)
        self.reflected = variable("reflected", (), 0.0)
        self.likeness = variable("likeness", (), 0.3)
        self.whole_pixels = variable("whole_pixels", (), 0.0)

    def walls(self) -> Walls:
        # Clipped, since a sigmoid would never stop a thing at the wall.
        reflected = tf.clip_by_value(0.5 + 10.0 * self.reflected, 0.0, 1.0)
        return Walls(self.size * self.low, self.size * self.high, reflected)

    def register(self, latest: Latest) -> Registered:
        """Find the background, and the things and how they move."""
        frames, seen = tf.stop_gradient(latest.frames), latest.seen
        number = tf.reduce_sum(seen)
        mean = tf.einsum("bnhwc,n->bhwc", frames, seen / number)
        median = _median(frames, seen)
        none = tf.zeros_like(frames[:, 0, 0, 0, 0])
        scene = Scene(median, mean, frames[:, -1], tf.cast(none, tf.int32), ())
        pose = Pose(tf.zeros_like(frames[:, :, 0, 0, 0]))
        if not self.num_things:
            return Registered(scene, pose, none)
        far = tracking.difference(frames, median) * seen[:, None, None]
        tracks = tracking.track(far, seen, self.num_things)
        weights = tf.clip_by_value(2.0 * tracks.quality - 0.6, 0.0, 1.0) * seen[:, None]
        walls = self.walls()
        first, last = motion.fit(tracks.places, weights, _fixed(walls))
        _, later = motion.follow(first, walls, frames.shape[1] - 1)
        steady = tf.concat([first.place[:, None], later], 1)
        error = tf.minimum(tf.square((steady - tracks.places) / _PLACE_ERROR), tf.abs(steady - tracks.places) * 8.0)
        place_nll = tf.reduce_sum(weights[..., None] * error, [1, 2, 3]) / (2.0 * number)
        things = self._things(frames, far, median, tracks, weights, tf.stop_gradient(steady), last)
        # Every moment is drawn from the other ones.
        moments = self._weights(things, things.unlike + 1e3 * tf.eye(frames.shape[1]))
        pose = pose._replace(weights=_by_thing(moments), places=tracks.places)
        return Registered(scene._replace(things=things), pose, place_nll)

    def _things(self, frames, far, median, tracks, weights, steady, last) -> Things:
        covered = tracking.coverage(far)[..., None]
        colour = tf.where(covered > 0, frames - (1.0 - covered) * median[:, None], 0.0)
        whole = tf.transpose(tf.concat([colour, covered], -1), [0, 1, 4, 2, 3])[:, None]
        shares = tf.transpose(tracking.shares(tracks.places, frames.shape[2:4]), [0, 2, 1, 3, 4])
        away = _by_thing(tracks.places - tracks.centre[:, None])
        templates = tf.repeat(tracks.template[:, :, None], frames.shape[1], 2)[:, :, :, None]
        free = tf.unstack(1.0 - shifted(templates, away), axis=1)
        mass = tf.reduce_sum(shares * far[:, None], [3, 4])
        usable = tf.cast(mass > _IN_VIEW * tf.reduce_max(mass, 2, keepdims=True), tf.float32)
        visible = []
        for k in range(self.num_things):
            visible.append(tf.ones_like(free[k]) * usable[:, k, :, None, None, None])
            for other in range(self.num_things):
                if other != k:
                    visible[k] *= free[other]
        visible = tf.stack(visible, 1)
        cut = tf.concat([whole * shares[:, :, :, None] * visible, visible], 3)
        crops = shifted(cut, -away)
        wobble = _by_thing(tracks.places - steady)
        unlike = unlikeness(shifted(cut, wobble - away))
        period = period_of(unlike, usable)
        return Things(crops, unlike, period, wobble, tracks.centre, last)

    def _weights(self, things: Things, unlike):
        """Of the moments, for looks that differ from them by ``unlike`` ``(batch, K, looks, n)``."""
        hidden = 1e4 * (1.0 - tf.reduce_max(things.crops[:, :, :, -1], [3, 4]))[:, :, None]
        return tf.nn.softmax(-tf.exp(10.0 * self.likeness) * unlike - hidden, -1)

    def go_on(self, scene: Scene, length) -> tuple[Scene, Pose]:
        """The scene after ``length`` frames that nobody sees, and how these are drawn: each thing as it looked whole
        periods before, at the place that a steady motion takes it to."""
        ahead = scene.age[:, None] + tf.range(length)
        pose = Pose(1.0 + tf.cast(ahead, tf.float32))
        scene = scene._replace(age=scene.age + length)
        if not self.num_things:
            return scene, pose
        things, count = scene.things, scene.things.unlike.shape[-1]
        last, places = motion.follow(things.motion, _fixed(self.walls()), length)
        moment = count - things.period[:, :, None] + ahead[:, None] % things.period[:, :, None]  # (batch, K, length)
        weights = self._weights(things, tf.gather(things.unlike, moment, batch_dims=2))
        wobble = _by_thing(tf.matmul(weights, things.wobble))
        scene = scene._replace(things=things._replace(motion=last))
        return scene, pose._replace(weights=_by_thing(weights), places=places + wobble)

    def draw(self, scene: Scene, pose: Pose, generated, gates) -> tf.Tensor:
        """Frames ``(batch, time, height, width, channel)`` of a scene, of generated frames and of their gates
        ``(batch, time, height, width, GATES)``."""
        frames = tf.zeros_like(generated) + scene.median[:, None]
        channels = generated.shape[-1]
        if self.num_things:
            things = scene.things
            weights, places = _by_thing(pose.weights), _by_thing(pose.places)
            flat = tf.reshape(things.crops, tf.concat([tf.shape(things.crops)[:3], [-1]], 0))
            seen = tf.matmul(weights, flat)
            seen = tf.reshape(seen, tf.concat([tf.shape(weights)[:3], things.crops.shape[3:]], 0))
            colour, cover, visible = tf.split(seen, [channels, 1, 1], 3)
            share = 1.0 / (visible + 1e-3)
            share *= _smoothstep((cover * share - 0.05) / 0.2)
            away = places - things.centre[:, :, None]
            away += tf.sigmoid(10.0 * self.whole_pixels) * tf.stop_gradient(tf.round(away) - away)
            looks = tf.transpose(shifted(tf.concat([colour, cover], 3) * share, away), [1, 0, 2, 4, 5, 3])
            for k in range(self.num_things):
                colour, cover = tf.split(looks[k], [channels, 1], -1)
                frames = colour + (1.0 - cover) * frames
        trust = np.eye(GATES, dtype=np.float32)[0] * _TRUST + 10.0 * self.trust
        trust += 10.0 * self.trust_in_time * tf.math.log1p(pose.age)[..., None]
        logits = tf.pad(gates + trust[:, :, None, None], [[0, 0]] * 4 + [[0, 1]])
        shares = tf.split(tf.nn.softmax(logits), GATES + 1, -1)
        still = (picture[:, None] for picture in (scene.median, scene.mean, scene.last))
        pictures = (frames, *still, generated)
        return tf.add_n([share * picture for share, picture in zip(shares, pictures, strict=True)])

    def get_config(self):
        return {**super().get_config(), "num_things": self.num_things}


def _by_thing(x) -> tf.Tensor:
    """Swap time and thing."""
    return tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)])


def _fixed(walls: Walls) -> Walls:
    """Without a gradient: walls are learnt from where things were seen alone."""
    return Walls(*map(tf.stop_gradient, walls))


def _median(frames, seen) -> tf.Tensor:
    """Of the frames that were seen."""
    ordered = tf.sort(tf.where(seen[:, None, None, None] > 0, frames, 2.0), 1)
    number = tf.cast(tf.reduce_sum(seen), tf.int32)
    return 0.5 * (tf.gather(ordered, (number - 1) // 2, axis=1) + tf.gather(ordered, number // 2, axis=1))


def _smoothstep(x) -> tf.Tensor:
    x = tf.clip_by_value(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
