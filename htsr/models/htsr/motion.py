"""How things move: at a speed of their own, between walls whose place and kind are learnt."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from htsr.ops.scan import scan

_FASTEST = 6.0  # pixels a frame that a speed is looked for up to
_DRAWN, _KEPT, _ROUNDS = 16, 16, 6
_ERROR = 0.3  # pixels: of a place, and of a thing's walls from the usual ones
_STILL = 3.0  # square pixels that a speed of a pixel a frame has to explain
_OUTLIER = 1.5  # pixels, beyond which an error counts linearly
_SEEN = 0.5  # of the best weight, from which on a thing is well seen


class Motion(NamedTuple):
    """Where things are at some frame and how they go on, each ``(batch, K, 2)`` along (y, x), in pixels."""

    place: tf.Tensor
    velocity: tf.Tensor
    shift: tf.Tensor  # of the thing's walls from the usual ones


class Walls(NamedTuple):
    """Where centres turn round, ``(2,)`` along (y, x) in pixels, and the share of the way beyond that is reflected: 0
    stops at the wall, 1 is a mirror."""

    low: tf.Tensor
    high: tf.Tensor
    reflected: tf.Tensor


def move(motion: Motion, walls: Walls) -> Motion:
    """One frame further."""
    place = motion.place + motion.velocity
    beyond = tf.nn.relu(place - walls.high - motion.shift) - tf.nn.relu(walls.low + motion.shift - place)
    velocity = tf.where(tf.equal(beyond, 0.0), motion.velocity, -motion.velocity)
    return Motion(place - (1.0 + walls.reflected) * beyond, velocity, motion.shift)


def follow(motion: Motion, walls: Walls, length) -> tuple[Motion, tf.Tensor]:
    """The motion after ``length`` frames, and the places in them, ``(batch, length, K, 2)``."""
    last, places = scan(lambda m, _: move(m, walls), tf.zeros([length]), motion, keep=lambda m: m.place)
    return last, tf.transpose(places, [1, 0, 2, 3])


def fit(places, weights, walls: Walls) -> tuple[Motion, tf.Tensor]:
    """Find the motion that explains where things were seen: many are tried, the best ones varied.

    Args:
        places: ``(batch, time, K, 2)``.
        weights: of each, ``(batch, time, K)``.
        walls: as they are thought to be.

    Returns:
        The motion at the first frame in which a thing is well seen, and 1 from the frame after it on, else 0,
        ``(batch, time - 1, K, 1)``.
    """
    begin, velocity, shift = (np.float32(a).reshape(1, -1, 1, 1) for a in _first_guesses())
    seen = tf.cast(weights >= _SEEN * tf.reduce_max(weights, 1, keepdims=True), tf.int32)
    place = tf.gather(tf.transpose(places, [0, 2, 1, 3]), tf.argmax(seen, 1), batch_dims=2)[:, None]
    guess = Motion(place + begin, tf.zeros_like(place) + velocity, tf.zeros_like(place) + shift)
    noise = np.random.default_rng(0).standard_normal((_ROUNDS, 3, _KEPT, _DRAWN, 1, 1)).astype(np.float32)
    noise[:, :, :, 0] = 0.0
    started = tf.cast(tf.cumsum(seen, 1) > 0, tf.float32)[..., None]
    moves = tf.pad(started[:, :-1], [[0, 0], [1, 0], [0, 0], [0, 0]])
    times = tuple(tf.transpose(x, [1, 0, 2, 3])[:, :, None] for x in (places, weights[..., None] * started, moves))
    for number in range(_ROUNDS):
        cost = _cost(guess, times, walls)
        _, best = tf.nn.top_k(-tf.transpose(cost, [0, 2, 3, 1]), _KEPT if number + 1 < _ROUNDS else 1)
        best = tf.transpose(best, [0, 3, 1, 2])
        guess = Motion(*(_take(x, best) for x in guess))
        if number + 1 < _ROUNDS:
            scales = np.array([0.2, 0.05 if number == 0 else 0.02, 0.2], np.float32) * 0.6**number
            varied = (x[:, :, None] + s * noise[number, i] for i, (x, s) in enumerate(zip(guess, scales, strict=True)))
            guess = Motion(*(tf.reshape(x, [-1, _KEPT * _DRAWN, *x.shape[3:]]) for x in varied))
    return Motion(*(x[:, 0] for x in guess)), started[:, :-1]


def retrace(first: Motion, started, walls: Walls) -> tuple[Motion, tf.Tensor]:
    """Of what ``fit`` found: the motion at the last frame, and the places, ``(batch, time, K, 2)``."""
    moves = tf.transpose(started, [1, 0, 2, 3])
    last, places = scan(lambda m, moved: _move_if(moved, m, walls), moves, first, keep=lambda m: m.place)
    return last, tf.concat([first.place[:, None], tf.transpose(places, [1, 0, 2, 3])], 1)


def _move_if(moved, motion: Motion, walls: Walls) -> Motion:
    return Motion(*(tf.where(moved > 0, new, old) for new, old in zip(move(motion, walls), motion, strict=True)))


def _first_guesses():
    return np.meshgrid([-0.4, 0.0, 0.4], np.linspace(-_FASTEST, _FASTEST, 121), [-0.4, 0.0, 0.4], indexing="ij")


def _cost(guess: Motion, times, walls: Walls) -> tf.Tensor:
    """Of every guess, ``(batch, guesses, K, 2)``: squared errors of its places, linear for outliers."""

    def step(state, x):
        motion, cost = state
        place, weight, moved = x
        motion = _move_if(moved, motion, walls)
        error = tf.abs(motion.place - place)
        near = tf.minimum(error, _OUTLIER)
        return motion, cost + weight * near * (2.0 * error - near)

    (_, cost), _ = scan(step, times, (guess, tf.zeros_like(guess.place)))
    return cost + tf.square(guess.shift) + _STILL * tf.abs(guess.velocity)


def _take(x, index):
    """Along axis 1, by an index for each of the other axes."""
    x, index = tf.transpose(x, [0, 2, 3, 1]), tf.transpose(index, [0, 2, 3, 1])
    return tf.transpose(tf.gather(x, index, batch_dims=3), [0, 3, 1, 2])
