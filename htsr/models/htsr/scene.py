"""What HTSR registers of the frames it sees instead of remembering it: the still background, and the things that move.

A frame is composed of several pictures: the things, cut out of the observed frames and put where they are expected,
over the background; the last frame, carried on as the camera moves; what covers the background in it, moved on pixel
by pixel; what the whole frame showed a period earlier; the background alone; the mean of the observed frames; the last
one; and the frame decoder's own picture.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.models.htsr import camera, flow, motion, recurrence, tracking
from htsr.models.htsr.background import median, uncovered
from htsr.models.htsr.camera import Camera
from htsr.models.htsr.compose import Compositor
from htsr.models.htsr.flow import Flow
from htsr.models.htsr.looks import believed, period_of, shifted, unlikeness
from htsr.models.htsr.motion import Motion, Walls
from htsr.models.htsr.recurrence import Recurring, a_period_before, weights_of

_IN_VIEW = 0.3  # of a thing's most mass in a frame, from which on its look there counts
_NOWHERE = 1e4  # pixels
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
    """What observed frames leave behind.

    Attributes:
        background, mean, deviation: ``(batch, height, width, channel)``.
        age: frames since the last one, int32 ``(batch,)``.
        evidence: how well frames recurred, camera and flow were followed and things moved as expected,
            ``(batch, numbers)``.
        recurring: the frames themselves.
        camera: how it moves, or ().
        things: that move, or ().
        flow: how pixels move, or ().
    """

    background: tf.Tensor
    mean: tf.Tensor
    deviation: tf.Tensor
    age: tf.Tensor
    evidence: tf.Tensor
    recurring: Recurring
    camera: Camera | tuple[()]
    things: Things | tuple[()]
    flow: Flow | tuple[()]


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
    """What frames show of a scene.

    Attributes:
        age: how many frames after the last observed one they are, float32 ``(batch, time)``, 0 for observed ones.
        recurring: weights of the moments in the whole frame, ``(batch, time, n)``.
        weights: of the moments of things, ``(batch, time, K, n)``, or ().
        places: of things, ``(batch, time, K, 2)``, or ().
    """

    age: tf.Tensor
    recurring: tf.Tensor
    weights: tf.Tensor | tuple[()] = ()
    places: tf.Tensor | tuple[()] = ()


@keras.saving.register_keras_serializable("htsr")
class SceneLayer(keras.layers.Layer):
    """Registers a scene and draws it; what it learns holds for all clips of a dataset.

    That is: where things turn round and how; how far looks have to agree for two moments to be averaged; whether things
    move by whole pixels; whether, where they meet, one covers the other or the lighter of them is seen; and which of
    the pictures to believe (``Compositor``).

    Args:
        num_things: things that move, 0 for a background alone.
        has_walls: whether things turn round somewhere, or leave.
        follows_camera: whether the camera pans and zooms.
        has_flow: whether what covers the background goes on, pixel by pixel.
    """

    def __init__(
        self, num_things: int, has_walls: bool = True, follows_camera: bool = False, has_flow: bool = False, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_things, self.has_walls = num_things, has_walls
        self.follows_camera, self.has_flow = follows_camera, has_flow
        more = int(num_things > 0) + int(follows_camera)
        self.compositor = Compositor(5 + more + has_flow, 1 + 2 * more + has_flow, name="compositor", dtype="float32")

    def build(self, frame_shape):
        self.size = frame_shape[0]

        def variable(name, shape, value):
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.Constant(value))

        self.compositor.build()
        self.alike = variable("alike", (), 0.3)
        if not self.num_things:
            return
        self.likeness = variable("likeness", (), 0.3)
        self.whole_pixels = variable("whole_pixels", (), 0.0)
        if self.num_things > 1:
            self.lightest = variable("lightest", (), 0.0)
        if self.has_walls:
            # They begin close, so that things run into them, and give way.
            self.low, self.high = variable("low", (2,), 1 / 3), variable("high", (2,), 2 / 3)
            self.reflected = variable("reflected", (), 0.0)

    def walls(self) -> Walls:
        if not self.has_walls:
            return Walls(tf.constant([-_NOWHERE] * 2), tf.constant([_NOWHERE] * 2), tf.constant(0.0))
        return Walls(self.size * self.low, self.size * self.high, _share(self.reflected))

    def register(self, latest: Latest) -> Registered:
        """Find the background, what recurs, and the things and how they and the camera move."""
        frames, seen = tf.stop_gradient(latest.frames), latest.seen
        share = seen / tf.reduce_sum(seen)
        mean = tf.einsum("bnhwc,n->bhwc", frames, share)
        changes = frames - mean[:, None]
        deviation = tf.sqrt(tf.einsum("bnhwc,n->bhwc", tf.square(changes), share))
        background = median(frames, tf.ones_like(frames[..., :1]) * seen[:, None, None, None])
        recurring, error = recurrence.find(changes, frames, seen)
        none = tf.zeros_like(error)
        scene = Scene(background, mean, deviation, tf.cast(none, tf.int32), error[:, None], recurring, (), (), ())
        # Every moment is drawn from the other ones.
        weights = weights_of(recurring.unlike + _itself(frames), self.alike)[:, 0]
        registered = Registered(scene, Pose(tf.zeros_like(frames[:, :, 0, 0, 0]), weights), none)
        if self.follows_camera:
            registered = self._with_camera(registered, seen)
        if self.num_things:
            registered = self._with_things(registered, seen)
        return self._with_flow(registered, seen) if self.has_flow else registered

    def _with_camera(self, registered: Registered, seen) -> Registered:
        scene = registered.scene
        frames = scene.recurring.frames
        before = max(0, frames.shape[1] - 2)
        before = tf.where(seen[before] > 0, frames[:, before], frames[:, -1])
        moves, error = camera.find(before, frames[:, -1])
        far = tf.reduce_max(tf.abs(moves.pan), -1) / 10.0
        scene = scene._replace(camera=moves, evidence=_and(scene.evidence, tf.math.log(error + 1e-3) / 3.0, far))
        return registered._replace(scene=scene)

    def _with_flow(self, registered: Registered, seen) -> Registered:
        scene = registered.scene
        found, error = flow.find(scene.recurring.frames, seen, scene.background)
        evidence = _and(scene.evidence, tf.math.log(error + 1e-3) / 3.0)
        return registered._replace(scene=scene._replace(flow=found, evidence=evidence))

    def _with_things(self, registered: Registered, seen) -> Registered:
        scene = registered.scene
        frames = scene.recurring.frames
        far = tracking.difference(frames, scene.background) * seen[:, None, None]
        tracks = tracking.track(far, seen, self.num_things)
        weights = tf.clip_by_value(2.0 * tracks.quality - 0.6, 0.0, 1.0) * seen[:, None]
        walls = self.walls()
        last, steady = motion.retrace(*motion.fit(tracks.places, weights, _fixed(walls)), walls)
        error = tf.minimum(tf.square((steady - tracks.places) / _PLACE_ERROR), tf.abs(steady - tracks.places) * 8.0)
        place_nll = tf.reduce_sum(weights[..., None] * error, [1, 2, 3]) / (2.0 * tf.reduce_sum(seen))
        # Where a thing is hardly to be made out, it is where a steady motion takes it.
        steady = tf.stop_gradient(steady)
        wobble = tf.minimum(2.0 * weights, 1.0)[..., None] * (tracks.places - steady)
        tracks = tracks._replace(places=steady + wobble)
        away = tf.stop_gradient(self._by_whole_pixels(_by_thing(tracks.places - tracks.centre[:, None])))
        things = self._things(frames, far, scene.background, tracks, away, _by_thing(wobble), _fixed(last))
        background = tf.stop_gradient(uncovered(frames, seen, things.crops, away, scene.background))
        speed = tf.minimum(tf.reduce_max(tf.abs(things.motion.velocity), [1, 2]), 2.0)
        evidence = _and(scene.evidence, tf.stop_gradient(tf.math.log1p(place_nll)) / 3.0, speed)
        moments = _by_thing(self._weights(things, things.unlike + _itself(frames)))
        return Registered(
            scene._replace(things=things, evidence=evidence, background=background),
            registered.pose._replace(weights=moments, places=tracks.places),
            place_nll,
        )

    def _things(self, frames, far, background, tracks, away, wobble, last) -> Things:
        covered = tracking.coverage(far)[..., None]
        colour = tf.where(covered > 0, frames - (1.0 - covered) * background[:, None], 0.0)
        whole = tf.transpose(tf.concat([colour, covered], -1), [0, 1, 4, 2, 3])[:, None]
        shares = tf.transpose(tracking.shares(tracks.places, frames.shape[2:4]), [0, 2, 1, 3, 4])
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
        steady = shifted(cut, wobble - away)
        unlike = unlikeness(steady[:, :, :, :-2], steady[:, :, :, -1])
        period = period_of(unlike, usable)
        things = Things(crops, unlike, period, wobble, tracks.centre, last)
        return things._replace(crops=believed(crops, tf.stop_gradient(self._weights(things, unlike))))

    def _by_whole_pixels(self, away) -> tf.Tensor:
        """How far things have moved, rounded as far as things are known to move by whole pixels."""
        return away + _share(self.whole_pixels) * tf.stop_gradient(tf.round(away) - away)

    def _weights(self, things: Things, unlike):
        """Of the moments, for looks that differ from them by ``unlike`` ``(batch, K, looks, n)``."""
        hidden = 1e4 * (1.0 - tf.reduce_max(things.crops[:, :, :, -1], [3, 4]))[:, :, None]
        return weights_of(unlike, self.likeness, hidden)

    def go_on(self, scene: Scene, length) -> tuple[Scene, Pose]:
        """The scene after ``length`` frames that nobody sees, and how these are drawn: each thing as it looked whole
        periods before, at the place that a steady motion takes it to."""
        ahead = scene.age[:, None] + tf.range(length)
        recurring = scene.recurring
        recurring = weights_of(a_period_before(recurring.unlike, recurring.period, ahead), self.alike)[:, 0]
        pose = Pose(1.0 + tf.cast(ahead, tf.float32), recurring)
        scene = scene._replace(age=scene.age + length)
        if not self.num_things:
            return scene, pose
        things = scene.things
        last, places = motion.follow(things.motion, _fixed(self.walls()), length)
        weights = self._weights(things, a_period_before(things.unlike, things.period, ahead))
        wobble = _by_thing(tf.matmul(weights, things.wobble))
        scene = scene._replace(things=things._replace(motion=last))
        return scene, pose._replace(weights=_by_thing(weights), places=places + wobble)

    def draw(self, scene: Scene, pose: Pose, generated) -> tf.Tensor:
        """Frames ``(batch, time, height, width, channel)`` of a scene and of generated frames."""
        pictures = list(self.pictures(scene, pose, generated).values())
        return self.compositor(pictures, scene.deviation, pose.age, scene.evidence)

    def pictures(self, scene: Scene, pose: Pose, generated) -> dict[str, tf.Tensor]:
        """What a frame is composed of, by name."""
        frames, pictures = scene.recurring.frames, {}
        if self.num_things:
            pictures["things"] = self.picture(scene, pose)
        if self.follows_camera:
            carried, known = camera.carry(frames[:, -1], scene.camera, pose.age)
            pictures["carried"] = carried + (1.0 - known) * scene.background[:, None]
        if self.has_flow:
            pictures["flowing"] = flow.carry(scene.flow, scene.background, pose.age)
        recurring = tf.matmul(pose.recurring, tf.reshape(frames, tf.concat([tf.shape(frames)[:2], [-1]], 0)))
        pictures["recurring"] = tf.reshape(recurring, tf.shape(generated))
        still = {"background": scene.background[:, None], "mean": scene.mean[:, None], "last": frames[:, -1:]}
        return {**pictures, **still, "generated": generated}

    def picture(self, scene: Scene, pose: Pose) -> tf.Tensor:
        """The things over the background, ``(batch, time, height, width, channel)``."""
        things, channels = scene.things, scene.background.shape[-1]
        weights, places = _by_thing(pose.weights), _by_thing(pose.places)
        flat = tf.reshape(things.crops, tf.concat([tf.shape(things.crops)[:3], [-1]], 0))
        seen = tf.matmul(weights, flat)
        seen = tf.reshape(seen, tf.concat([tf.shape(weights)[:3], things.crops.shape[3:]], 0))
        colour, cover, visible = tf.split(seen, [channels, 1, 1], 3)
        share = 1.0 / (visible + 1e-3)
        share *= _smoothstep(cover * share / 0.1)
        away = self._by_whole_pixels(places - things.centre[:, :, None])
        looks = tf.transpose(shifted(tf.concat([colour, cover], 3) * share, away), [1, 0, 2, 4, 5, 3])
        frames, alone = scene.background[:, None], []
        for k in range(self.num_things):
            colour, cover = tf.split(looks[k], [channels, 1], -1)
            frames = colour + (1.0 - cover) * frames
            alone.append(colour + (1.0 - cover) * scene.background[:, None])
        if self.num_things == 1:
            return frames
        share = _share(self.lightest)
        return (1.0 - share) * frames + share * tf.reduce_max(alone, 0)

    def get_config(self):
        config = {"num_things": self.num_things, "has_walls": self.has_walls, "follows_camera": self.follows_camera}
        return {**super().get_config(), **config, "has_flow": self.has_flow}


def _itself(frames) -> tf.Tensor:
    """Added to how much moments differ, it keeps each from being drawn from itself."""
    return 1e3 * tf.eye(frames.shape[1])


def _and(evidence, *more) -> tf.Tensor:
    return tf.concat([evidence, tf.stack(more, -1)], -1)


def _by_thing(x) -> tf.Tensor:
    """Swap time and thing."""
    return tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)])


def _share(variable) -> tf.Tensor:
    """A share that is learnt, one half at first. Clipped, since a sigmoid would never reach 0 or 1; with a gradient
    beyond them, too, so that it can come back."""
    share = 0.5 + 10.0 * variable
    return share + tf.stop_gradient(tf.clip_by_value(share, 0.0, 1.0) - share)


def _fixed(x):
    """Without a gradient: walls are learnt from where things were seen alone."""
    return type(x)(*map(tf.stop_gradient, x))


def _smoothstep(x) -> tf.Tensor:
    x = tf.clip_by_value(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
