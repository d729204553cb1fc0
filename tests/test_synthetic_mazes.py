"""Synthetic mazes: pure functions, the geometry of the picture by hand, a smooth walk that keeps off the walls."""

import sys

import numpy as np
import pytest

from htsr.data import synthetic_mazes
from htsr.data.synthetic_mazes import MARGIN, Maze, Textures, Walk, cast_rays, maze_video, random_maze, render, walk
from htsr.errors import InputError

RED, GREEN, BLUE, GREY, WHITE = np.array([[240, 0, 0], [0, 240, 0], [0, 0, 240], [120, 120, 120], [255, 255, 255]])
EAST, SOUTH, WEST, NORTH = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def generator(seed=0):
    return np.random.Generator(np.random.Philox(key=seed))


def room(rows=5, columns=5):
    """Free cells inside a border of wall; styles 0, 1, 2: the leftmost free column, those between, the rightmost."""
    walls = np.ones((rows, columns), bool)
    walls[1:-1, 1:-1] = False
    styles = np.ones((rows, columns), np.intp)
    styles[:, :2], styles[:, -2:] = 0, 2
    return Maze(walls, styles)


def plain(*colours):
    """Walls of these colours, grey floors and a white sky."""
    walls = np.broadcast_to(np.array(colours, np.uint8)[:, np.newaxis, np.newaxis], (len(colours), 64, 64, 3))
    return Textures(walls, np.full_like(walls, GREY), np.full((64, 256, 3), WHITE, np.uint8))


def seen(position, heading, textures, maze=None, size=64):
    """One frame, int64 (size, size, 3)."""
    path = Walk(np.array([position], float), np.array([heading], float))
    return render(maze or room(), textures, path, size)[0].astype(np.int64)


def hue(pixel):
    """Index of the strongest channel: 0 red, 1 green, 2 blue."""
    return int(np.argmax(pixel))


# The video


def test_shape_and_type():
    video = maze_video("train", 0, frames=7, size=32)
    assert video.shape == (7, 32, 32, 3)
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


# The ray caster


def test_depth_is_the_analytic_distance():
    """A room of 5 x 3 free cells: the distance from (2.25, 1.5) to its walls at x = 1, 6 and y = 1, 4 by hand."""
    maze = room(rows=5, columns=7)
    x, y = 2.25, 1.5
    rays = np.stack([EAST, SOUTH, WEST, NORTH, np.array([1, 0.4]), np.array([1, -0.4]), np.array([-0.1, 2])])
    hits = cast_rays(maze.walls, np.array([[x, y]]), rays[np.newaxis])
    expected = [6 - x, 4 - y, x - 1, y - 1, 6 - x, (y - 1) / 0.4, (4 - y) / 2]
    np.testing.assert_allclose(hits.depth[0], expected, rtol=1e-9)
    np.testing.assert_array_equal(hits.side[0], [0, 1, 0, 1, 0, 1, 1])
    # seen from inside, "across" grows from left to right: to the south on the east wall, to the west on the south wall
    place = x + (y - 1) / 0.4
    np.testing.assert_allclose(hits.across[0, :4], [y % 1, 1 - x % 1, 1 - y % 1, x % 1])
    np.testing.assert_allclose(hits.across[0, 5], place % 1)
    column, row = 5, 3  # the corner cell in front of ray 4: it ends at (6, 3)
    assert hits.cell[0, 0] == 1 * 7 + column
    assert hits.cell[0, 4] in (row * 7 + column, (row - 1) * 7 + column)


def test_depth_agrees_with_small_steps_along_the_ray():
    maze = random_maze(generator(3))
    path = walk(maze.walls, 20, generator(4))
    turn = np.linspace(0, 2 * np.pi, 9)[:-1] + 0.1
    rays = np.broadcast_to(np.stack([np.cos(turn), np.sin(turn)], axis=-1), (20, 8, 2))
    depth = cast_rays(maze.walls, path.positions, rays).depth
    steps = np.arange(0, 20, 0.002)
    x, y = np.moveaxis(path.positions[:, np.newaxis, np.newaxis] + steps[:, np.newaxis] * rays[:, :, np.newaxis], -1, 0)
    last = len(maze.walls) - 1
    inside = maze.walls[np.clip(y, 0, last).astype(int), np.clip(x, 0, last).astype(int)]
    np.testing.assert_allclose(depth, steps[inside.argmax(axis=-1)], atol=0.003)


@pytest.mark.parametrize("distance", [1.0, 2.0, 3.5])
def test_a_wall_spans_its_projected_rows(distance):
    """Height 1 at distance d covers 1 / (2 * 0.7 * d) of the picture, around the horizon."""
    frame = seen((6 - distance, 2.5), EAST, plain(RED, RED, RED), room(rows=5, columns=7))
    column = frame[:, 32]
    is_wall = (column[:, 0] > 60) & (column[:, 1] < 60)
    assert abs(is_wall.sum() - min(64, 64 / (1.4 * distance))) <= 2
    assert abs(np.flatnonzero(is_wall).mean() - 31.5) <= 0.5
    floor = column[40:, 1][~is_wall[40:]]
    assert ((floor > 60) & (floor <= 120)).all()
    assert (np.diff(floor) >= 0).all()  # nearer is brighter


@pytest.mark.parametrize(
    ("heading", "left", "ahead", "right"),
    [(NORTH, RED, GREEN, BLUE), (SOUTH, BLUE, GREEN, RED), (EAST, BLUE, BLUE, BLUE), (WEST, RED, RED, RED)],
)
def test_coloured_walls_are_where_they_belong(heading, left, ahead, right):
    """A room whose west wall is red, the east wall blue, and the middle of the north and south walls green."""
    frame = seen((2.5, 2.5), heading, plain(RED, GREEN, BLUE))
    assert [hue(frame[32, column]) for column in (2, 32, 61)] == [hue(left), hue(ahead), hue(right)]


def test_a_texture_reads_from_left_to_right_and_from_top_to_bottom():
    walls = np.zeros((3, 64, 64, 3), np.uint8)
    walls[:, :32, :32], walls[:, :32, 32:], walls[:, 32:, :32] = RED, GREEN, BLUE
    textures = plain(RED, RED, RED)._replace(walls=walls)
    for heading in (EAST, SOUTH, WEST, NORTH):
        frame = seen((2.5, 2.5), heading, textures)  # the face ahead spans the columns and rows 17 to 47
        assert [hue(frame[26, 26]), hue(frame[26, 38]), hue(frame[38, 26])] == [0, 1, 2]
        assert frame[38, 38].max() == 0


def test_floor_and_sky():
    """The floor has the colour of its cell; the sky's four squares are east, south, west and north."""
    floors = plain(RED, GREEN, BLUE).walls
    sky = np.repeat(np.array([RED, GREEN, BLUE, GREY], np.uint8)[np.newaxis], 64, axis=0).repeat(64, axis=1)
    textures = plain(GREY, GREY, GREY)._replace(floors=floors, sky=sky)
    frame = seen((2.5, 3.5), NORTH, textures)
    assert [hue(frame[56, column]) for column in (4, 32, 59)] == [0, 1, 2]
    for heading, colour in zip((EAST, SOUTH, WEST, NORTH), (RED, GREEN, BLUE, GREY), strict=True):
        np.testing.assert_array_equal(seen((2.5, 2.5), heading, textures)[2, 32], colour)


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
        ({"size": 4}, "size must be a whole number of at least 8, not 4"),
        ({"size": 33}, "size must be even, .*not 33; use 34"),
        ({"source": "lab"}, "unknown source 'lab'; .*known: builtin, labmaze"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        maze_video(**{"split": "train", "index": 0, **arguments})


def test_labmaze_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "labmaze", None)
    with pytest.raises(InputError, match="needs the package labmaze, which is not installed: pip install labmaze"):
        maze_video("train", 0, source="labmaze")


def test_mazes_of_labmaze():
    pytest.importorskip("labmaze")
    video = maze_video("train", 1, frames=30, source="labmaze")
    assert video.shape == (30, 64, 64, 3)
    np.testing.assert_array_equal(maze_video("train", 1, frames=30, source="labmaze"), video)
    assert video.std(axis=(1, 2, 3)).min() > 5
    maze, textures = synthetic_mazes._labmaze(generator())
    assert len(textures.walls) == maze.styles.max() + 1 > 1
    assert maze.walls[0].all()
    assert not np.array_equal(video, maze_video("train", 1, frames=30))
