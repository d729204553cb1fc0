"""Things that move over a background: registered in observed frames, moved on, and drawn."""

from typing import NamedTuple

import tensorflow as tf

from htsr.models.htsr import motion, tracking
from htsr.models.htsr.background import uncovered
from htsr.models.htsr.looks import believed, period_of, shifted, unlikeness
from htsr.models.htsr.motion import Motion, Walls
from htsr.models.htsr.recurrence import a_period_before, itself, weights_of
from htsr.models.htsr.tracking import Tracks

_IN_VIEW = 0.3  # of a thing's most mass in a frame, from which on its look there counts
_PLACE_ERROR = 0.5  # pixels, of the likelihood of where things were seen
_FAINT = 0.1  # of a pixel that is covered, below which it fades out


class Habits(NamedTuple):
    """What is learnt of things, for all clips of a dataset.

    Attributes:
        likeness: how far looks have to agree for two moments to be averaged.
        whole_pixels: share to which they move by whole pixels.
        lightest: where they meet, the share of the lightest of them in what is seen; the rest is that one covers the
            other.
        walls: where they turn round and how.
    """

    likeness: tf.Tensor
    whole_pixels: tf.Tensor
    lightest: tf.Tensor
    walls: Walls

    def rounded(self, away) -> tf.Tensor:
        """How far things have moved, rounded as far as they move by whole pixels."""
        return away + self.whole_pixels * tf.stop_gradient(tf.round(away) - away)


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


class Shown(NamedTuple):
    """How frames show things: weights of the moments, ``(batch, time, K, n)``, and places, ``(batch, time, K, 2)``."""

    weights: tf.Tensor
    places: tf.Tensor


class Found(NamedTuple):
    """Of frames: the things; how these look and where they are there, the looks as in the other frames; the background
    where it can be seen between them; and minus the log-likelihood of where they were seen, ``(batch,)`` in nats a
    frame."""

    things: Things
    shown: Shown
    background: tf.Tensor
    place_nll: tf.Tensor


def find(frames, seen, background, num_things: int, habits: Habits) -> Found:
    """Find things and how they move.

    Args:
        frames: ``(batch, n, height, width, channel)``.
        seen: 1 for each frame that there was, else 0: ``(n,)``.
        background: ``(batch, height, width, channel)``.
        num_things: how many.
        habits: of things.
    """
    far = tracking.difference(frames, background) * seen[:, None, None]
    tracks = tracking.track(far, seen, num_things)
    weights = tf.clip_by_value(2.0 * tracks.quality - 0.6, 0.0, 1.0) * seen[:, None]
    last, steady = motion.retrace(*motion.fit(tracks.places, weights, _fixed(habits.walls)), habits.walls)
    error = tf.minimum(tf.square((steady - tracks.places) / _PLACE_ERROR), tf.abs(steady - tracks.places) * 8.0)
    place_nll = tf.reduce_sum(weights[..., None] * error, [1, 2, 3]) / (2.0 * tf.reduce_sum(seen))
    # Where a thing is hardly to be made out, it is where a steady motion takes it.
    steady = tf.stop_gradient(steady)
    wobble = tf.minimum(2.0 * weights, 1.0)[..., None] * (tracks.places - steady)
    tracks = tracks._replace(places=steady + wobble)
    away = tf.stop_gradient(habits.rounded(_by_thing(tracks.places - tracks.centre[:, None])))
    cut, usable = _cut_out(frames, far, background, tracks, away)
    crops, wobble = shifted(cut, -away), _by_thing(wobble)
    steady = shifted(cut, wobble - away)
    unlike = unlikeness(steady[:, :, :, :-2], steady[:, :, :, -1])
    crops = believed(crops, tf.stop_gradient(_weights(crops, unlike, habits)))
    things = Things(crops, unlike, period_of(unlike, usable), wobble, tracks.centre, _fixed(last))
    background = tf.stop_gradient(uncovered(frames, seen, crops, away, background))
    moments = _by_thing(_weights(crops, unlike + itself(frames), habits))
    return Found(things, Shown(moments, tracks.places), background, place_nll)


def _cut_out(frames, far, background, tracks: Tracks, away) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each thing in each frame: colour times coverage, coverage and visibility, all times visibility; and whether
    enough of it is in view there for its look to count."""
    covered = tracking.coverage(far)[..., None]
    colour = tf.where(covered > 0, frames - (1.0 - covered) * background[:, None], 0.0)
    whole = tf.transpose(tf.concat([colour, covered], -1), [0, 1, 4, 2, 3])[:, None]
    shares = tf.transpose(tracking.shares(tracks.places, frames.shape[2:4]), [0, 2, 1, 3, 4])
    templates = tf.repeat(tracks.template[:, :, None], frames.shape[1], 2)[:, :, :, None]
    free = tf.unstack(1.0 - shifted(templates, away), axis=1)
    mass = tf.reduce_sum(shares * far[:, None], [3, 4])
    usable = tf.cast(mass > _IN_VIEW * tf.reduce_max(mass, 2, keepdims=True), tf.float32)
    visible = []
    for k in range(len(free)):
        visible.append(tf.ones_like(free[k]) * usable[:, k, :, None, None, None])
        for other in range(len(free)):
            if other != k:
                visible[k] *= free[other]
    visible = tf.stack(visible, 1)
    return tf.concat([whole * shares[:, :, :, None] * visible, visible], 3), usable


def go_on(things: Things, age, length, habits: Habits) -> tuple[Things, Shown]:
    """The things after ``length`` frames that nobody sees, and how they are shown in these: each as it looked whole
    periods before, at the place that a steady motion takes it to.

    Args:
        things: at frame ``age``.
        age: frames since the last observed one, int32 ``(batch,)``.
        length: int32.
        habits: of things.
    """
    last, places = motion.follow(things.motion, _fixed(habits.walls), length)
    unlike = a_period_before(things.unlike, things.period, age[:, None] + tf.range(length))
    weights = _weights(things.crops, unlike, habits)
    wobble = _by_thing(tf.matmul(weights, things.wobble))
    return things._replace(motion=last), Shown(_by_thing(weights), places + wobble)


def draw(things: Things, shown: Shown, background, habits: Habits) -> tf.Tensor:
    """The things over the background, ``(batch, time, height, width, channel)``."""
    channels = background.shape[-1]
    weights, places = _by_thing(shown.weights), _by_thing(shown.places)
    flat = tf.reshape(things.crops, tf.concat([tf.shape(things.crops)[:3], [-1]], 0))
    seen = tf.matmul(weights, flat)
    seen = tf.reshape(seen, tf.concat([tf.shape(weights)[:3], things.crops.shape[3:]], 0))
    colour, cover, visible = tf.split(seen, [channels, 1, 1], 3)
    share = 1.0 / (visible + 1e-3)
    share *= _smoothstep(cover * share / _FAINT)
    away = habits.rounded(places - things.centre[:, :, None])
    looks = tf.transpose(shifted(tf.concat([colour, cover], 3) * share, away), [1, 0, 2, 4, 5, 3])
    frames, alone = background[:, None], []
    for look in tf.unstack(looks):
        colour, cover = tf.split(look, [channels, 1], -1)
        frames = colour + (1.0 - cover) * frames
        alone.append(colour + (1.0 - cover) * background[:, None])
    if len(alone) == 1:
        return frames
    return (1.0 - habits.lightest) * frames + habits.lightest * tf.reduce_max(alone, 0)


def _weights(crops, unlike, habits: Habits) -> tf.Tensor:
    """Of the moments, for looks that differ from them by ``unlike`` ``(batch, K, looks, n)``."""
    hidden = 1e4 * (1.0 - tf.reduce_max(crops[:, :, :, -1], [3, 4]))[:, :, None]
    return weights_of(unlike, habits.likeness, hidden)


def _by_thing(x) -> tf.Tensor:
    """Swap time and thing."""
    return tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)])


def _fixed(x):
    """Without a gradient: walls are learnt from where things were seen alone."""
    return type(x)(*map(tf.stop_gradient, x))


def _smoothstep(x) -> tf.Tensor:
    x = tf.clip_by_value(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
