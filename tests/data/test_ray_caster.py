"""The ray caster: depths and the geometry of the picture, by hand."""

import numpy as np
import pytest

from htsr.data.synthetic.ray_caster import Maze, Textures, Views, cast_rays, render

RED, GREEN, BLUE, GREY, WHITE = np.array([[240, 0, 0], [0, 240, 0], [0, 0, 240], [120, 120, 120], [255, 255, 255]])
EAST, SOUTH, WEST, NORTH = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


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


def seen(position, heading, textures, maze=None):
    """One frame, int64 (64, 64, 3)."""
    views = Views(np.array([position], float), np.array([heading], float))
    return render(maze or room(), textures, views)[0].astype(np.int64)


def hue(pixel):
    """Index of the strongest channel: 0 red, 1 green, 2 blue."""
    return int(np.argmax(pixel))


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
    generator = np.random.Generator(np.random.Philox(key=3))
    walls = np.pad(generator.random((9, 9)) < 0.3, 1, constant_values=True)
    positions = generator.permutation(np.argwhere(~walls))[:20, ::-1] + generator.uniform(0.1, 0.9, (20, 2))
    turn = np.linspace(0, 2 * np.pi, 9)[:-1] + 0.1
    rays = np.broadcast_to(np.stack([np.cos(turn), np.sin(turn)], axis=-1), (20, 8, 2))
    depth = cast_rays(walls, positions, rays).depth
    steps = np.arange(0, 20, 0.002)
    x, y = np.moveaxis(positions[:, np.newaxis, np.newaxis] + steps[:, np.newaxis] * rays[:, :, np.newaxis], -1, 0)
    last = len(walls) - 1
    inside = walls[np.clip(y, 0, last).astype(int), np.clip(x, 0, last).astype(int)]
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
