"""Where the things that move in a clip are: found in the frame where they lie apart, then followed by matching.

Nothing here is learnt. A thing is what differs from the background; several things are told apart by where they are
and by what they looked like in the frame that shows them best.
"""

from typing import NamedTuple

import tensorflow as tf

from htsr.ops.scan import scan

_NOISE = 0.04  # differences from the background that are not a thing
_OPAQUE = 0.2  # differences above the noise from which on a pixel is covered whole
_REACH = 6  # pixels beyond the expected step in which a thing is looked for
_SURPRISE = 0.3  # what a step far from the expected one costs, as a share of the thing's energy
_ROUNDS = 8  # of the clustering


class Tracks(NamedTuple):
    """Where ``K`` things are in the frames of a clip.

    Attributes:
        places: centres (y, x) in pixels, ``(batch, time, K, 2)``.
        quality: how well each is seen, 0 to 1, ``(batch, time, K)``.
        centre: of each thing in the frame that shows the things best, ``(batch, K, 2)``.
        template: its coverage there, ``(batch, K, height, width)``.
    """

    places: tf.Tensor
    quality: tf.Tensor
    centre: tf.Tensor
    template: tf.Tensor


def difference(frames, background) -> tf.Tensor:
    """How far pixels are from the background beyond its noise: ``(batch, time, height, width)``."""
    far = tf.reduce_max(tf.abs(frames - background[:, None]), -1)
    return tf.where(far > _NOISE, far, 0.0)


def coverage(far) -> tf.Tensor:
    """How much of a pixel a thing covers, 0 to 1."""
    return tf.clip_by_value((far - _NOISE) / _OPAQUE, 0.0, 1.0)


def track(far, seen, num_things: int) -> Tracks:
    """Follow the things that differ from the background.

    Args:
        far: of ``difference``, ``(batch, time, height, width)``.
        seen: the frames to learn from, 1 or 0, ``(time,)``; things are followed in the others, too.
        num_things: how many; where there are fewer, one is followed twice.
    """
    mass = tf.reduce_sum(far, [2, 3])
    flat = tf.reshape(far, [-1, *far.shape[2:]])
    centres = _clusters(flat, num_things)
    owned = shares(centres, flat.shape[1:])
    mixed = tf.reduce_sum(flat * (1.0 - tf.reduce_max(owned, 1)), [1, 2]) / (tf.reduce_sum(flat, [1, 2]) + 1e-3)
    # Little mixed, and with much of the things in view.
    mixed = tf.reshape(mixed, tf.shape(mass)) - 0.1 * mass / (tf.reduce_max(mass, 1, keepdims=True) + 1e-3)
    best = tf.argmin(mixed + tf.where(seen > 0, 0.0, 2.0), 1, tf.int32)

    def at_best(x):
        return tf.gather(tf.reshape(x, [-1, far.shape[1], *x.shape[1:]]), best, batch_dims=1)

    centre = at_best(centres)
    template = at_best(owned) * tf.gather(far, best, batch_dims=1)[:, None]
    steps, quality = _follow(far, best, template)
    return Tracks(centre[:, None] + steps, quality, centre, coverage(template))


def _grid(size: int) -> tf.Tensor:
    return tf.range(size, dtype=tf.float32)


def _centroid(weights) -> tf.Tensor:
    """Of ``(..., height, width)``: (y, x) in pixels; the middle where there is no weight."""
    height, width = weights.shape[-2:]
    weights += 1e-6
    total = tf.reduce_sum(weights, [-2, -1])
    y = tf.reduce_sum(tf.reduce_sum(weights, -1) * _grid(height), -1)
    x = tf.reduce_sum(tf.reduce_sum(weights, -2) * _grid(width), -1)
    return tf.stack([y / total, x / total], -1)


def _squared_distance(size, centres) -> tf.Tensor:
    """Of every pixel from every centre ``(batch, K, 2)``: ``(batch, K, height, width)``."""
    y = tf.square(_grid(size[0]) - centres[..., 0, None])
    x = tf.square(_grid(size[1]) - centres[..., 1, None])
    return y[..., :, None] + x[..., None, :]


def shares(centres, size) -> tf.Tensor:
    """How much of every pixel belongs to each centre ``(..., K, 2)``: ``(..., K, height, width)``, summing to 1."""
    width = size[0] / 13.0
    squares = _squared_distance(size, centres)
    near = tf.exp((tf.reduce_min(squares, -3, keepdims=True) - squares) / (2 * width**2))
    return near / tf.reduce_sum(near, -3, keepdims=True)


def _clusters(far, count: int) -> tf.Tensor:
    """Centres of ``count`` clusters in every picture ``(pictures, height, width)``, found at half the size."""
    far = tf.nn.avg_pool2d(far[..., None], 2, 2, "VALID")[..., 0]
    height, width = far.shape[1:]
    radius = height // 10
    left, centres = far, []
    for _ in range(count):
        dense = tf.nn.avg_pool2d(left[..., None], 2 * radius + 1, 1, "SAME")
        peak = tf.argmax(tf.reshape(dense, [-1, height * width]), 1, tf.int32)
        centres.append(tf.cast(tf.stack([peak // width, peak % width], -1), tf.float32))
        near = _squared_distance((height, width), centres[-1][:, None])[:, 0]
        left *= 1.0 - tf.exp(-near / (2 * (1.5 * radius) ** 2))
    centres = tf.stack(centres, 1)
    for _ in range(_ROUNDS):
        centres = _centroid(shares(centres, (height, width)) * far[:, None])
    return 2.0 * centres + 0.5


def _window(pictures, corner, size) -> tf.Tensor:
    """Cut windows out: ``(batch, height, width)``, whole corners ``(batch, 2)`` to ``(batch, *size)``."""
    rows = corner[:, :1] + tf.range(size[0])
    columns = corner[:, 1:] + tf.range(size[1])
    return tf.gather(tf.gather(pictures, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


class _Walk(NamedTuple):
    step: tf.Tensor  # (batch, K, 2), from where the template was cut
    velocity: tf.Tensor
    quality: tf.Tensor  # (batch, K)


class _Matcher:
    """Finds things in a frame by what they looked like in another one, ``template (batch, K, height, width)``."""

    def __init__(self, template):
        self.count, self.height, width = template.shape[1:]
        self.around = 2 * _REACH + 1
        self.margin = self.height  # a thing may have gone that far
        self.pad = self.margin + 2 * _REACH
        self.size = (self.height + 2 * _REACH, width + 2 * _REACH)
        around = [[0, 0], [0, 0], [2 * self.pad] * 2, [2 * self.pad] * 2]
        self.covers = tf.unstack(tf.pad(coverage(template), around), axis=1)
        self.energy = tf.reduce_sum(tf.square(template), [2, 3]) + 1e-3
        filters = tf.transpose(tf.stack([-2.0 * template, tf.square(template)], 2), [1, 3, 4, 0, 2])
        self.filters = tf.unstack(tf.reshape(filters, [self.count, self.height, width, -1, 1]))

    def find(self, k: int, frame, others, last, expected) -> tuple[tf.Tensor, tf.Tensor]:
        """Find thing ``k`` in a frame, where the other ones do not cover it.

        The squared difference from the template is computed for every whole step within reach: a correlation, in which
        the clips of a batch are channels.

        Args:
            k: which.
            frame: of ``difference``, padded.
            others: steps of all things so far, ``(batch, K, 2)``.
            last: step in the frame before, ``(batch, 2)``.
            expected: step in this one.

        Returns:
            The step, and how well the thing is seen, ``(batch,)``.
        """
        middle = tf.clip_by_value(tf.round(0.5 * (last + expected)), -float(self.margin), float(self.margin))
        mine = _window(frame, tf.cast(middle, tf.int32) + self.pad - _REACH, self.size)
        free = tf.ones_like(mine)
        for other in range(self.count):
            if other != k:
                corner = tf.cast(middle - tf.round(others[:, other]), tf.int32) - _REACH + 2 * self.pad
                corner = tf.clip_by_value(corner, 0, 4 * self.pad - 2 * _REACH)
                free *= 1.0 - _window(self.covers[other], corner, self.size)
        maps = tf.transpose(tf.stack([free * mine, free], -1), [1, 2, 0, 3])
        maps = tf.reshape(maps, [1, *self.size, -1])
        score = tf.nn.depthwise_conv2d(maps, self.filters[k], [1] * 4, "VALID")
        score = tf.reduce_sum(tf.reshape(score, [self.around, self.around, -1, 2]), -1)
        score = tf.transpose(score, [2, 0, 1]) / self.energy[:, k, None, None]
        reach = tf.range(-_REACH, _REACH + 1, dtype=tf.float32)
        gap = tf.square(middle[:, :, None] + reach - expected[:, :, None])
        surprise = tf.minimum(1.0, (gap[:, 0, :, None] + gap[:, 1, None, :]) / 16.0)
        best = tf.argmin(tf.reshape(score + _SURPRISE * surprise, [-1, self.around**2]), 1, tf.int32)
        row, column = best // self.around, best % self.around
        least = tf.gather(tf.reshape(score, [-1, self.around**2]), best, batch_dims=1)
        step = middle + tf.cast(tf.stack([row, column], -1), tf.float32) - _REACH + between(score, row, column)
        return step, tf.clip_by_value(-least, 0.0, 1.0)


def _follow(far, best, template) -> tuple[tf.Tensor, tf.Tensor]:
    """Match the templates in the other frames, from the best one to the end and then from it to the beginning.

    Returns:
        How far each thing is from its place in the best frame, ``(batch, time, K, 2)``, and how well it is seen.
    """
    length = far.shape[1]
    matcher = _Matcher(template)
    pad = [matcher.pad] * 2
    wide = tf.pad(far, [[0, 0], [0, 0], pad, pad])

    def move(walk, x):
        index, turn = x
        frame = tf.gather(wide, index, batch_dims=1)
        last = tf.where(turn[:, None, None], 0.0, walk.step)
        expected = last + tf.where(turn[:, None, None], 0.0, walk.velocity)
        steps, quality = tf.unstack(expected, axis=1), [matcher.energy[:, 0]] * matcher.count
        for k in (*range(matcher.count), *range(matcher.count - 1)):
            steps[k], quality[k] = matcher.find(k, frame, tf.stack(steps, 1), last[:, k], expected[:, k])
        steps = tf.stack(steps, 1)
        return _Walk(steps, steps - last, tf.stack(quality, 1))

    i = tf.range(1, length)
    after = length - best[:, None]  # steps to the end, the best frame included
    order = tf.where(i < after, best[:, None] + i, best[:, None] - (i - after + 1))
    still = tf.zeros_like(template[:, :, 0, :2])
    start = _Walk(still, still, tf.ones_like(matcher.energy))
    _, walk = scan(move, (tf.transpose(order), tf.transpose(i == after)), start, keep=lambda walk: walk)
    place = tf.argsort(tf.concat([best[:, None], order], 1), 1)
    kept = ((start.step, walk.step), (start.quality, walk.quality))
    kept = (tf.concat([first[None], rest], 0) for first, rest in kept)
    kept = (tf.transpose(x, [1, 0, *range(2, x.shape.rank)]) for x in kept)
    steps, quality = (tf.gather(x, place, batch_dims=1) for x in kept)
    return steps, quality


def between(score, row, column) -> tf.Tensor:
    """Where between pixels the least value lies, by a parabola through its neighbours: ``(batch, 2)``."""
    size = score.shape[1]

    def value(y, x):
        flat = tf.clip_by_value(y, 0, size - 1) * size + tf.clip_by_value(x, 0, size - 1)
        return tf.gather(tf.reshape(score, [-1, size**2]), flat, batch_dims=1)

    here, shifts = value(row, column), []
    for y, x in ((1, 0), (0, 1)):
        below, above = value(row - y, column - x), value(row + y, column + x)
        bend = below - 2.0 * here + above
        shifts.append(tf.where(bend > 1e-6, tf.clip_by_value((below - above) / (2.0 * bend), -0.5, 0.5), 0.0))
    return tf.stack(shifts, -1)
