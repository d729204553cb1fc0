"""The levels of HTSR at work: what they make of frames, of the level above, and of no frames at all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from htsr.models.base import VideoModel
from htsr.models.htsr import open_window
from htsr.models.htsr.rssm import Normal, RSSMCell, State
from htsr.models.htsr.scene import Latest, Scene, SceneLayer
from htsr.ops import noise as noise_lib
from htsr.ops.recompute import of_frames
from htsr.ops.scan import scan


class Level(NamedTuple):
    """What one level did over its ticks, batch-major ``(batch, ticks, ...)``."""

    prior: Normal
    posterior: Normal
    states: State


class RolloutState(NamedTuple):
    """What ``advance`` needs: the levels' states after the last frame, its index, and how noise is drawn.

    ``seeds`` are ``(rows,)``, or ``(levels, rows)`` for noise that can be redrawn level by level.
    """

    levels: tuple[State, ...]
    frame: tf.Tensor
    seeds: tf.Tensor
    stochastic: tf.Tensor
    scene: Scene | tuple[()] = ()


class StreamState(NamedTuple):
    """What a prediction frame by frame needs: the levels' states after the last frame, the index of the next one
    (int64), the window of the slowest level that it is in, and of a model with a scene the latest frames, of which it
    is registered anew when one more is seen."""

    levels: tuple[State, ...]
    frame: tf.Tensor
    window: open_window.OpenWindow
    scene: Scene | tuple[()] = ()
    latest: Latest | tuple[()] = ()


class Hierarchy(VideoModel):
    """Observes, imagines, predicts and follows a stream, with the layers that ``HTSR`` makes.

    Attributes:
        encoder, decoder: of frames.
        stacks: dense layers between a level's features and the next one's, for all levels but the fastest.
        cells: of the levels, fastest first.
        periods: frames of a tick of every level.
        scene: registers the background and what moves over it; None in the published models.
        registered: how many of the latest frames it registers.
    """

    encoder: keras.layers.Layer
    decoder: keras.layers.Layer
    stacks: list[list[keras.layers.Dense]]
    cells: list[RSSMCell]
    periods: tuple[int, ...]
    temporal_factor: int
    features: int
    dense_residual: bool
    scene: SceneLayer | None
    registered: int | None

    has_latents = True

    def encode(self, clip) -> list[tf.Tensor]:
        """The features of every level, ``(batch, ceil(time / temporal_factor ** level), features)``."""
        embeds = of_frames(self._features, clip)
        return [embeds[0], *(_window_sums(*level) for level in zip(embeds[1:], self.periods[1:], strict=True))]

    def _features(self, frames) -> list[tf.Tensor]:
        """The features of single frames ``(rows, height, width, channel)`` for every level."""
        x = self.encoder(frames)
        features, skip = [x], x
        for stack in self.stacks:
            for layer in stack:
                x = layer(x)
            skip = x + 0.1 * skip if self.dense_residual else x
            features.append(skip)
        return [tf.cast(x, tf.float32) for x in features]

    def observe(self, embeds: Sequence[tf.Tensor], seeds, stochastic, seen=None, before=None, frame=0) -> list[Level]:
        """Filter all levels over a clip's features, slowest level first.

        Args:
            embeds: from ``encode``.
            seeds: int32 ``(batch,)``.
            stochastic: bool scalar.
            seen: given, a level uses its prior in a window of which a frame was not seen: float32 ``(time,)``, 1 for
                one that was.
            before: the levels' states before the clip, fastest first; None at the beginning of a video.
            frame: index of the clip's first frame, where a window of the slowest level begins.

        Returns:
            One ``Level`` for every level, fastest first.
        """
        steps: list[Any] = [None] * len(self.cells)
        outputs = None
        for level in reversed(range(len(self.cells))):
            embed = embeds[level]
            ticks = _length(embed)
            if outputs is None:
                top_down = tf.zeros([tf.shape(embed)[0], ticks, self.cells[level].stoch + self.cells[level].deter])
            else:
                top_down = tf.repeat(outputs, self.temporal_factor, axis=1)[:, :ticks]
            period = self.periods[level]
            complete = None if seen is None else _window_sums(seen[None, :, None], period)[0, :ticks, 0] == period
            first = tf.convert_to_tensor(frame // period)
            noise = self._noise(level, first + tf.cast(tf.range(ticks), first.dtype), seeds, stochastic)
            state = self.cells[level].initial_state(tf.shape(embed)[0]) if before is None else before[level]
            steps[level] = self._observe_level(level, embed, top_down, noise, state, complete)
            outputs = steps[level].states.output
        return steps

    def decode(self, outputs, scene=(), pose=()) -> tf.Tensor:
        """Frames of the fastest level's outputs ``(batch, time, ...)``: ``(batch, time, height, width, channel)``; of a
        model with a scene those that it draws."""
        frames = self.generate(outputs)
        return frames if self.scene is None else self.scene.draw(scene, pose, frames)

    def generate(self, outputs) -> tf.Tensor:
        """What the levels alone say of a frame."""
        return of_frames(lambda outputs: tf.cast(self.decoder(outputs), tf.float32), outputs)

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        num_frames = tf.shape(context)[1]
        embeds = [tf.tile(embed, [num_samples, 1, 1]) for embed in self.encode(context)]
        steps = self.observe(embeds, seeds, stochastic, tf.ones([num_frames]))
        scene: Scene | tuple[()] = ()
        if self.scene is not None:
            scene = self.scene.register(Latest.of(context, self.registered)).scene
            scene = tf.nest.map_structure(lambda x: tf.repeat(x[None], num_samples, 0), scene)
            scene = tf.nest.map_structure(lambda x: tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0)), scene)
        return RolloutState(last_states(steps), num_frames, seeds, stochastic, scene)

    def advance(self, state, length):
        state, outputs = self.imagine(state, length)
        scene, frames = self.draw_on(state.scene, outputs)
        return state._replace(scene=scene), frames

    def draw_on(self, scene, outputs) -> tuple[Scene | tuple[()], tf.Tensor]:
        """The frames after a scene, of the fastest level's outputs in them, and the scene after these."""
        if self.scene is None:
            return scene, self.decode(outputs)
        scene, pose = self.scene.go_on(scene, _length(outputs))
        return scene, self.decode(outputs, scene, pose)

    def imagine(self, state: RolloutState, length) -> tuple[RolloutState, tf.Tensor]:
        """Run all levels on their priors for ``length`` frames: the new state and the fastest level's outputs.

        Level by level, the slowest first; a level ticks at the frames that its period divides, which may be none.
        """
        levels, end = list(state.levels), state.frame + tf.cast(length, state.frame.dtype)
        outputs, first_parent = None, None
        for level in reversed(range(len(self.cells))):
            period = self.periods[level]
            begin = -(-state.frame // period)
            ticks = tf.range(begin, -(-end // period))
            if outputs is None:
                top_down = tf.zeros(
                    [tf.shape(ticks)[0], tf.shape(state.seeds)[-1], self.cells[level].stoch + self.cells[level].deter]
                )
            else:
                # outputs[0] belongs to the tick before the first new one.
                top_down = tf.gather(outputs, ticks // self.temporal_factor - (first_parent - 1))
            cell = self.cells[level]
            weights = cell.weights_now()
            xs = (cell.project_top_down(top_down), self._noise(level, ticks, state.seeds, state.stochastic))
            before = levels[level]
            levels[level], states = scan(
                lambda s, x, cell=cell, weights=weights: cell.imagine(weights, s, *x), xs, before, keep=lambda s: s
            )
            outputs, first_parent = tf.concat([before.output[None], states.output], 0), begin
        return state._replace(levels=tuple(levels), frame=end), _swap(outputs[1:])

    # ---- frame by frame

    def start_stream(self, context, seeds):
        num_frames = tf.shape(context)[1]
        embeds = self.encode(context)
        steps = self.observe(embeds, seeds, tf.constant(True), tf.ones([num_frames]))
        window = open_window.after_context(embeds, [step.states for step in steps], num_frames, self.periods)
        state = StreamState(last_states(steps), tf.cast(num_frames, tf.int64), window)
        if self.scene is None:
            return state
        latest = Latest.of(context, self.registered)
        return state._replace(scene=self.scene.register(latest).scene, latest=latest)

    def step_stream(self, state, seeds):
        rollout = RolloutState(state.levels, state.frame, seeds, tf.constant(True), state.scene)
        rollout, frames = self.advance(rollout, 1)
        state = self._next(state, rollout.levels, state.window, frames[:, 0])
        return state._replace(scene=rollout.scene), frames[:, 0]

    def observe_stream(self, state, frame, seeds):
        begin = state.frame // self.periods[-1] * self.periods[-1]
        index = tf.cast(state.frame - begin, tf.int32)
        window = open_window.add(state.window, self.encode(frame[:, None]), index, self.periods)
        # Only ticks that have begun: the states after the last one are those to go on from.
        embeds = [embed[:, : index // period + 1] for embed, period in zip(window.embeds, self.periods, strict=True)]
        steps = self.observe(embeds, seeds, tf.constant(True), window.seen, window.before, begin)
        state = self._next(state, last_states(steps), window, frame)
        return state if self.scene is None else state._replace(scene=self.scene.register(state.latest).scene)

    def _next(self, state: StreamState, levels, window, frame) -> StreamState:
        """The state after a frame that was seen or, where none was, predicted; its scene is still the one before."""
        index = state.frame + 1
        window = open_window.or_next(window, levels, index % self.periods[-1] == 0)
        latest = state.latest if self.scene is None else state.latest.add(frame)
        return StreamState(levels, index, window, state.scene, latest)

    def _observe_level(self, level, embed, top_down, noise, state, complete) -> Level:
        cell = self.cells[level]
        weights = cell.weights_now()
        xs = (_swap(cell.project_top_down(top_down)), _swap(cell.project_embed(embed)), noise)

        def step(before, x):
            inputs, is_complete = x
            new, prior, posterior = cell.observe(weights, before.states, *inputs)
            if complete is not None:
                sample = tf.where(is_complete, new.stoch, prior.mean + prior.stddev * inputs[-1])
                new = State(sample, new.deter)
            return Level(prior, posterior, new)

        none = Normal(*[tf.zeros_like(state.stoch)] * 2)
        first = Level(none, none, state)
        _, steps = scan(step, (xs, () if complete is None else complete), first, keep=lambda level: level)
        return tf.nest.map_structure(_swap, steps)

    def _noise(self, level, ticks, seeds, stochastic) -> tf.Tensor:
        """Time-major noise ``(ticks, batch, stoch)`` of a level: a function of (seed, level, tick); zeros for means."""
        seeds = noise_lib.fold(seeds if seeds.shape.rank == 1 else seeds[level], level)
        drawn = noise_lib.normal(seeds, tf.zeros_like(seeds), ticks, self.stoch)
        return _swap(drawn) * tf.cast(stochastic, tf.float32)


def last_states(steps: list[Level]) -> tuple[State, ...]:
    """Return the states after the last tick."""
    return tuple(State(*(x[:, -1] for x in step.states)) for step in steps)


def _swap(x: tf.Tensor) -> tf.Tensor:
    """Between batch-major and time-major."""
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _length(x: tf.Tensor):
    return x.shape[1] if x.shape[1] is not None else tf.shape(x)[1]


def _window_sums(x: tf.Tensor, size: int) -> tf.Tensor:
    """Sums over consecutive windows of ``size`` steps; the last window may be short."""
    length = _length(x)
    x = tf.pad(x, [[0, 0], [0, -length % size], [0, 0]])
    return tf.reduce_sum(tf.reshape(x, [tf.shape(x)[0], -(-length // size), size, x.shape[-1]]), 2)
