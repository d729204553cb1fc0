"""Synthetic mazes: pure functions, a smooth walk that keeps off the walls, mazes whose cells can all be reached."""

import sys

import numpy as np
import pytest

from htsr.data.synthetic import mazes
from htsr.data.synthetic.mazes import MARGIN, maze_video, random_maze, walk
from htsr.errors import InputError


def generator(seed=0):
    return np.random.Generator(np.random.Philox(key=seed))


# The video


def test_shape_and_type():
    video = maze_video("train", 0, frames=7)
    assert video.shape == (7, 64, 64, 3)
    assert video.dtype == np.uint8
    assert maze_video("test", 0).shape == (300, 64, 64, 3)


def test_a_video_is_a_pure_function_of_its_arguments():
    first = maze_video("train", 5, seed=2, frames=20)
    maze_video("test", 1, frames=3)
    np.random.default_rng(0).random()
    np.testing.assert_array_equal(maze_video("train", 5, seed=2, frames=20), first)


def test_a_longer_video_continues_the_shorter_one():
    np.testing.assert_array_equal(maze_video("train", 3, frames=130)[:40], maze_video("train", 3, frames=40))


def test_splits_indices_and_seeds_differ():
    videos = [maze_video("train", 0, frames=2), maze_video("train", 1, frames=2)]
    videos += [maze_video("test", 0, frames=2), maze_video("train", 0, seed=1, frames=2)]
    assert len({video.tobytes() for video in videos}) == 4


@pytest.mark.parametrize("index", range(3))
def test_the_picture_moves(index):
    video = maze_video("train", index).astype(np.int64)
    change = np.abs(np.diff(video, axis=0)).mean(axis=(1, 2, 3))
    assert np.mean(change > 0.2) > 0.9
    assert change.max() < 80  # and never jumps to another picture
    assert video.std(axis=(1, 2, 3)).min() > 5


# The walk


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_keeps_off_the_walls_and_is_smooth(seed):
    maze = random_maze(generator(seed))
    path = walk(maze.walls, 300, generator(seed + 100))
    corners = np.argwhere(maze.walls)[:, ::-1]
    outside = np.maximum(np.abs(path.positions[:, np.newaxis] - corners - 0.5) - 0.5, 0)
    assert (outside**2).sum(axis=-1).min() >= MARGIN**2
    np.testing.assert_allclose((path.headings**2).sum(axis=-1), 1)
    steps = np.sqrt((np.diff(path.positions, axis=0) ** 2).sum(axis=-1))
    turns = np.sqrt((np.diff(path.headings, axis=0) ** 2).sum(axis=-1))
    assert steps.max() <= 0.1 + 1e-9
    assert turns.max() <= 0.25
    assert np.abs(np.diff(steps)).max() <= 0.1  # at a dead end the way itself turns back
    assert ((steps > 0.02) | (turns > 0.02)).mean() > 0.95
    assert steps.sum() > 15


def test_the_walk_looks_where_it_goes_most_of_the_time():
    path = walk(random_maze(generator(1)).walls, 1000, generator(2))
    steps = np.diff(path.positions, axis=0)
    moves = np.sqrt((steps**2).sum(axis=-1))
    forward = (steps * path.headings[:-1]).sum(axis=-1)[moves > 0.02] / moves[moves > 0.02]
    assert np.mean(forward > 0.8) > 0.75


def test_the_walk_comes_back():
    path = walk(random_maze(generator(1)).walls, 300, generator(2))
    cells = path.positions.astype(int) @ [1, 1000]
    entered = cells[np.flatnonzero(np.diff(cells, prepend=-1))]
    assert len(set(entered.tolist())) < len(entered)


@pytest.mark.parametrize("seed", range(8))
def test_every_free_cell_of_a_maze_can_be_reached(seed):
    walls, styles = random_maze(generator(seed))
    assert walls[[0, -1]].all()
    assert walls[:, [0, -1]].all()
    assert walls.shape in {(9, 9), (11, 11)}
    assert len(set(styles[~walls].tolist())) >= 3
    reached = np.zeros_like(walls)
    reached[1, 1] = True
    for _ in range(walls.size):
        for axis in (0, 1):
            reached |= (np.roll(reached, 1, axis) | np.roll(reached, -1, axis)) & ~walls
    np.testing.assert_array_equal(reached, ~walls)


# What is refused, and the other source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "unknown split 'valid'; known: train, test"),
        ({"index": -1}, "index must be a whole number of at least 0, not -1"),
        ({"seed": 0.5}, "seed must be a whole number of at least 0, not 0.5"),
        ({"frames": 0}, "frames must be a whole number of at least 1, not 0"),
        ({"source": "lab"}, "unknown source 'lab'; .*known: builtin, labmaze"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        maze_video(**{"split": "train", "index": 0, **arguments})


def test_labmaze_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "labmaze", None)
    with pytest.raises(InputError, match="labmaze is not installed; pip install labmaze, or source=builtin"):
        maze_video("train", 0, source="labmaze")


def test_mazes_of_labmaze():
    pytest.importorskip("labmaze")
    video = maze_video("train", 1, frames=30, source="labmaze")
    assert video.shape == (30, 64, 64, 3)
    np.testing.assert_array_equal(maze_video("train", 1, frames=30, source="labmaze"), video)
    assert video.std(axis=(1, 2, 3)).min() > 5
    maze, textures = mazes._labmaze(generator())
    assert len(textures.walls) == maze.styles.max() + 1 > 1
    assert maze.walls[0].all()
    assert not np.array_equal(video, maze_video("train", 1, frames=30))
