"""What HTSR registers of the frames it sees instead of remembering it: the still background, and the things that move.

A frame is composed of several pictures: the things, cut out of the observed frames and put where they are expected,
over the background; the last frame, carried on as the camera moves; what covers the background in it, moved on pixel
by pixel; what the whole frame showed a period earlier; the background alone; the mean of the observed frames; the last
one; and the frame decoder's own picture.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.models.htsr import camera, flow, recurrence, things
from htsr.models.htsr.background import median
from htsr.models.htsr.camera import Camera
from htsr.models.htsr.compose import Compositor
from htsr.models.htsr.flow import Flow
from htsr.models.htsr.motion import Walls
from htsr.models.htsr.recurrence import Recurring, a_period_before, itself, weights_of
from htsr.models.htsr.things import Habits, Shown, Things

_NOWHERE = 1e4  # pixels


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
        things: how they are shown, or ().
    """

    age: tf.Tensor
    recurring: tf.Tensor
    things: Shown | tuple[()] = ()


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

    def habits(self) -> Habits:
        walls = Walls(tf.constant([-_NOWHERE] * 2), tf.constant([_NOWHERE] * 2), tf.constant(0.0))
        if self.has_walls:
            walls = Walls(self.size * self.low, self.size * self.high, _share(self.reflected))
        lightest = _share(self.lightest) if self.num_things > 1 else 0.0
        return Habits(self.likeness, _share(self.whole_pixels), lightest, walls)

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
        weights = weights_of(recurring.unlike + itself(frames), self.alike)[:, 0]
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
        found = things.find(scene.recurring.frames, seen, scene.background, self.num_things, self.habits())
        speed = tf.minimum(tf.reduce_max(tf.abs(found.things.motion.velocity), [1, 2]), 2.0)
        evidence = _and(scene.evidence, tf.stop_gradient(tf.math.log1p(found.place_nll)) / 3.0, speed)
        scene = scene._replace(things=found.things, evidence=evidence, background=found.background)
        return Registered(scene, registered.pose._replace(things=found.shown), found.place_nll)

    def go_on(self, scene: Scene, length) -> tuple[Scene, Pose]:
        """The scene after ``length`` frames that nobody sees, and how these are drawn: each thing as it looked whole
        periods before, at the place that a steady motion takes it to."""
        ahead = scene.age[:, None] + tf.range(length)
        recurring = scene.recurring
        recurring = weights_of(a_period_before(recurring.unlike, recurring.period, ahead), self.alike)[:, 0]
        pose = Pose(1.0 + tf.cast(ahead, tf.float32), recurring)
        later = scene._replace(age=scene.age + length)
        if not self.num_things:
            return later, pose
        moved, shown = things.go_on(scene.things, scene.age, length, self.habits())
        return later._replace(things=moved), pose._replace(things=shown)

    def draw(self, scene: Scene, pose: Pose, generated) -> tf.Tensor:
        """Frames ``(batch, time, height, width, channel)`` of a scene and of generated frames."""
        pictures = list(self.pictures(scene, pose, generated).values())
        return self.compositor(pictures, scene.deviation, pose.age, scene.evidence)

    def pictures(self, scene: Scene, pose: Pose, generated) -> dict[str, tf.Tensor]:
        """What a frame is composed of, by name."""
        frames, pictures = scene.recurring.frames, {}
        if self.num_things:
            pictures["things"] = things.draw(scene.things, pose.things, scene.background, self.habits())
        if self.follows_camera:
            carried, known = camera.carry(frames[:, -1], scene.camera, pose.age)
            pictures["carried"] = carried + (1.0 - known) * scene.background[:, None]
        if self.has_flow:
            pictures["flowing"] = flow.carry(scene.flow, scene.background, pose.age)
        recurring = tf.matmul(pose.recurring, tf.reshape(frames, tf.concat([tf.shape(frames)[:2], [-1]], 0)))
        pictures["recurring"] = tf.reshape(recurring, tf.shape(generated))
        still = {"background": scene.background[:, None], "mean": scene.mean[:, None], "last": frames[:, -1:]}
        return {**pictures, **still, "generated": generated}

    def get_config(self):
        config = {"num_things": self.num_things, "has_walls": self.has_walls, "follows_camera": self.follows_camera}
        return {**super().get_config(), **config, "has_flow": self.has_flow}


def _and(evidence, *more) -> tf.Tensor:
    return tf.concat([evidence, tf.stack(more, -1)], -1)


def _share(variable) -> tf.Tensor:
    """A share that is learnt, one half at first. Clipped, since a sigmoid would never reach 0 or 1; with a gradient
    beyond them, too, so that it can come back."""
    share = 0.5 + 10.0 * variable
    return share + tf.stop_gradient(tf.clip_by_value(share, 0.0, 1.0) - share)
