"""A ray caster: first-person pictures of a maze of square cells, 64x64 RGB, each pixel the mean of 3 x 3 samples.

Coordinates: x to the east, y to the south, in cells; the array element [row, column] is the cell from (column, row) to
(column + 1, row + 1). A wall fills a cell and is 1 high; the eye is at 1/2. Directions are vectors, not angles: no sine
or arctangent whose last bit depends on the platform.
"""

from typing import NamedTuple

import numpy as np

SIZE = 64  # height and width of the picture, in pixels
TEXELS = 64  # along a cell: a shift by 6 divides by them

_ZOOM = 0.7  # tangent of half the field of view: 70 degrees, as wide as high
_CHUNK = 3  # frames drawn at once; their samples fit the processor's cache
_HALF = 3 * SIZE // 2  # samples from the middle of the picture to its border
_SPACING = _ZOOM / _HALF  # of the samples, at distance 1
_OFFSETS = _SPACING * (np.arange(2 * _HALF) + 0.5 - _HALF)  # of the samples, to the right and down, at distance 1
_SLOPE = _OFFSETS[:, np.newaxis].astype(np.float32)  # down, (row, 1)
_GROUND = 0.5 / np.abs(_SLOPE)  # where a ray meets the floor, or above the horizon passes the top of a wall
_LEVELS = np.cumsum([0, 4**6, 4**5, 4**4, 4**3, 4**2, 4])  # where a texture's levels 64, 32 … 1 begin
_PYRAMID = int(_LEVELS[-1]) + 1  # texels of all levels


class Maze(NamedTuple):
    """``walls``: bool (row, column), the border is wall; ``styles``: integers (row, column), the look of a free cell.

    A wall looks as the free cell in front of it says.
    """

    walls: np.ndarray
    styles: np.ndarray


class Textures(NamedTuple):
    """``walls`` and ``floors``: uint8 (style, 64, 64, 3), top row first; ``sky``: uint8 (64, 256, 3), horizon first.

    The sky is four squares side by side, to the east, south, west and north, of 45 degrees up and 90 round each.
    """

    walls: np.ndarray
    floors: np.ndarray
    sky: np.ndarray


class Views(NamedTuple):
    """``positions``: float64 (frame, 2), x and y; ``headings``: float64 (frame, 2), unit vectors of the view."""

    positions: np.ndarray
    headings: np.ndarray


class Hits(NamedTuple):
    """Where rays meet walls, each (frame, ray).

    ``depth``: in lengths of the ray; ``side``: 0 where the wall faces east or west, 1 north or south; ``across``: place
    on the wall's face from left 0 to right 1; ``facing``: the ray's component at right angles to the face; ``cell``:
    flat index of the free cell in front.
    """

    depth: np.ndarray
    side: np.ndarray
    across: np.ndarray
    facing: np.ndarray
    cell: np.ndarray


def render(maze: Maze, textures: Textures, views: Views) -> np.ndarray:
    """What is seen, uint8 (frame, 64, 64, 3)."""
    pyramids = _pyramids(np.concatenate([textures.walls, textures.floors]))
    palette = np.concatenate([pyramids, textures.sky.reshape(-1, 3)]).T.astype(np.float32, order="C")
    video = np.empty((len(views.positions), SIZE, SIZE, 3), np.uint8)
    for first in range(0, len(video), _CHUNK):
        part = slice(first, first + _CHUNK)
        texels, light = _samples(maze, len(textures.walls), Views(views.positions[part], views.headings[part]))
        for channel, colours in enumerate(palette):
            samples = colours.take(texels)
            samples *= light
            rows = samples[:, ::3] + samples[:, 1::3] + samples[:, 2::3]
            video[part, :, :, channel] = (rows[..., ::3] + rows[..., 1::3] + rows[..., 2::3]) / 9 + 0.5
    return video


def cast_rays(walls: np.ndarray, positions: np.ndarray, rays: np.ndarray) -> Hits:
    """The first wall on every ray.

    Args:
        walls: bool (row, column), the border is wall.
        positions: where the rays begin, (frame, 2), in free cells.
        rays: their directions, (frame, ray, 2), of any length.
    """
    rays = np.where(rays == 0, 1e-12, rays)
    depth, side = np.full(rays.shape[:2], np.inf), np.zeros(rays.shape[:2], np.intp)
    for axis, solid in enumerate((walls, walls.T)):
        along, aside = rays[..., axis], rays[..., 1 - axis]
        start, start_aside = positions[:, axis, np.newaxis], positions[:, 1 - axis, np.newaxis]
        backward = along < 0
        for line in range(1, solid.shape[1]):  # the lines between the cells
            reach = (line - start) / along
            lane = np.clip(start_aside + reach * aside, 0, len(solid) - 1).astype(np.intp)
            nearer = (reach > 0) & (reach < depth) & solid[lane, line - backward]
            depth[nearer], side[nearer] = reach[nearer], axis
    x, y = np.moveaxis(rays, -1, 0)
    facing = np.where(side, y, x)
    across = np.where(side, positions[:, :1] + depth * x, positions[:, 1:] + depth * y) % 1
    across = np.where((facing > 0) == (side == 0), across, 1 - across)
    column, row = np.moveaxis(positions[:, np.newaxis] + (depth - 1e-6)[..., np.newaxis] * rays, -1, 0).astype(np.intp)
    return Hits(depth, side, across, np.abs(facing), row * walls.shape[1] + column)


def _samples(maze: Maze, num_styles: int, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Index into the palette and brightness of each sample, both (frame, row, column)."""
    right = views.headings[:, ::-1] * [-1, 1]
    rays = views.headings[:, np.newaxis] + _OFFSETS[:, np.newaxis] * right[:, np.newaxis]
    hits = cast_rays(maze.walls, views.positions, rays)
    depth = hits.depth[:, np.newaxis].astype(np.float32)

    level = _level(hits.depth * _SPACING / hits.facing)[:, np.newaxis]
    column = np.minimum(hits.across * TEXELS, TEXELS - 1).astype(np.intp)[:, np.newaxis]
    row = (_SLOPE * (depth * TEXELS) + TEXELS / 2).astype(np.intp)
    wall = _texel(maze.styles.take(hits.cell)[:, np.newaxis], level, row, column)

    ground = _GROUND[_HALF:]
    reach = np.minimum(ground, depth) * TEXELS
    starts, ways = (vectors.astype(np.float32) for vectors in (views.positions * TEXELS, rays))
    x, y = (
        (reach * ways[:, np.newaxis, :, axis] + starts[:, np.newaxis, np.newaxis, axis]).astype(np.intp)
        for axis in (0, 1)
    )
    style = num_styles + maze.styles.take((y >> 6) * maze.styles.shape[1] + (x >> 6))
    floor = _texel(style, _level(2 * _SPACING * ground**2), y & 63, x & 63)
    sky = 2 * num_styles * _PYRAMID + _sky(rays)

    is_wall = depth < _GROUND
    texels = np.where(is_wall, wall, np.concatenate([sky, floor], axis=1))
    wall_light = np.where(hits.side, np.float32(0.85), 1)[:, np.newaxis] * _light(depth)
    return texels, np.where(is_wall, wall_light, np.where(_SLOPE < 0, 1, _light(_GROUND)))


def _sky(rays: np.ndarray) -> np.ndarray:
    """Index into the sky's texels, (frame, row, ray)."""
    x, y = np.moveaxis(rays, -1, 0)
    eastwest = np.abs(x) > np.abs(y)
    square = np.where(eastwest, 2 * (x < 0), 1 + 2 * (y < 0))
    column = (square + 0.5 + 0.5 * np.where(eastwest, y, -x) / np.where(eastwest, x, y)) * TEXELS
    column = np.minimum(column.astype(np.intp), 4 * TEXELS - 1)
    scale = (TEXELS / np.maximum(np.abs(x), np.abs(y))).astype(np.float32)
    return (-_SLOPE[:_HALF] * scale[:, np.newaxis]).astype(np.intp) * (4 * TEXELS) + column[:, np.newaxis]


def _light(depth: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.float32(0.08) * depth)


def _level(footprint: np.ndarray) -> np.ndarray:
    """The level of a texture whose texels are about as large as a sample, which covers ``footprint`` cells."""
    return np.clip(np.frexp(footprint * (0.7 * TEXELS))[1], 0, 6)


def _texel(style: np.ndarray, level: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Index into the pyramids; row and column are those of level 0."""
    return style * _PYRAMID + _LEVELS[level] + (column >> level) + ((row >> level) << (6 - level))


def _pyramids(textures: np.ndarray) -> np.ndarray:
    """Each texture at 64 x 64, 32 x 32 … 1 x 1 texels, flat, (texel, channel)."""
    level, levels = textures.astype(np.float32), []
    while level.shape[1] > 1:
        levels.append(level.reshape(len(level), -1, 3))
        rows = level[:, ::2] + level[:, 1::2]
        level = (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
    return np.concatenate([*levels, level[:, 0]], axis=1).reshape(-1, 3)
