"""Synthetic mazes: first-person colour videos of a walk through a maze, a stand-in for GQN mazes that needs no files.

The real ones are recordings from DeepMind Lab (Eslami et al., Science 2018; as video: Saxena et al., arXiv:2102.09532).
Here a ray caster draws a random maze of rooms and corridors; each room has its own wall and floor. An agent walks the
shortest way to one random cell after another, so that the next frames follow from the last ones, while a place that
comes into view again can only be predicted by a model that remembers it. These are not the published videos: numbers
reached on them are not comparable with the published ones.

Coordinates: x to the east, y to the south, in cells; the array element [row, column] is the cell from (column, row) to
(column + 1, row + 1). A wall fills a cell and is 1 high; the eye is at 1/2. Angles are kept as unit vectors and turned
by rational functions: no sine or arctangent whose last bit depends on the platform.
"""

import functools
import hashlib
import heapq
import math
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from htsr.data.clips import require_choice, require_int
from htsr.errors import InputError

Split = Literal["train", "test"]
Source = Literal["builtin", "labmaze"]
FRAMES, SIZE = 300, 64
FPS = 15  # for playback
MARGIN = 0.45  # no wall is nearer to the agent, in cells

_ZOOM = 0.7  # tangent of half the field of view: 70 degrees, as wide as high
_TEXTURE = 64  # texels along a cell
_CHUNK = 3  # frames drawn at once; their samples fit the processor's cache
_SPEED, _ACCELERATION = 0.1, 0.015  # of the walk, in cells per frame
_SPIN, _SPIN_CHANGE = 0.14, 0.03  # of the heading, in radians per frame (tangent of the half angle, doubled)
_LOOK_AHEAD = 0.4  # the agent turns to the point of its way that is so far ahead, in cells
_GLANCE_EVERY, _GLANCE_TIME, _GLANCE = 75, 24, 0.35  # in frames; how far it looks aside, tangent of the half angle


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


class Walk(NamedTuple):
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


def maze_video(
    split: Split, index: int, *, seed: int = 0, frames: int = FRAMES, size: int = SIZE, source: Source = "builtin"
) -> np.ndarray:
    """Draws one video, a pure function of the arguments; a longer one continues the same walk.

    Args:
        split: "train" or "test"; they share no video.
        index: of the video, from 0; each has its own maze, textures and walk.
        seed: of all videos.
        frames: length of the video.
        size: height and width of the picture in pixels, an even number.
        source: "builtin": layouts and textures made here; "labmaze": those of DeepMind Lab, from the package labmaze.

    Returns:
        uint8 (frames, size, size, 3), RGB.

    Raises:
        InputError: an argument is out of range, or labmaze is not installed.

    Example:
        >>> maze_video("train", 0, frames=5).shape
        (5, 64, 64, 3)
    """
    require_choice("split", split, get_args(Split))
    require_choice("source", source, get_args(Source))
    for name, value, least in (("index", index, 0), ("seed", seed, 0), ("frames", frames, 1), ("size", size, 8)):
        require_int(name, value, least)
    if size % 2:
        raise InputError(f"size must be even, the horizon lies between two rows, not {size}; use {size + 1}")
    name = f"synthetic_mazes source={source} seed={seed} split={split} index={index}"
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    maze, textures = (_builtin if source == "builtin" else _labmaze)(generator)
    return render(maze, textures, walk(maze.walls, frames, generator), size)


# The picture


def render(maze: Maze, textures: Textures, path: Walk, size: int) -> np.ndarray:
    """What the agent sees, uint8 (frame, size, size, 3); a pixel is the mean of 3 x 3 samples."""
    pyramids = np.concatenate([_pyramids(textures.walls), _pyramids(textures.floors), textures.sky.reshape(-1, 3)])
    palette = np.ascontiguousarray(pyramids.T, np.float32)
    video = np.empty((len(path.positions), size, size, 3), np.uint8)
    for first in range(0, len(video), _CHUNK):
        part = slice(first, first + _CHUNK)
        texels, shade = _samples(maze, len(textures.walls), Walk(path.positions[part], path.headings[part]), size)
        for channel, colours in enumerate(palette):
            samples = colours.take(texels)
            samples *= shade
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
    facing, place = (np.where(side == 0, rays[..., i], rays[..., 1 - i]) for i in (0, 1))
    start = np.where(side == 0, positions[:, 1, np.newaxis], positions[:, 0, np.newaxis])
    across = np.modf(start + depth * place)[0]
    across = np.where((facing > 0) == (side == 0), across, 1 - across)
    column, row = np.moveaxis(positions[:, np.newaxis] + (depth - 1e-6)[..., np.newaxis] * rays, -1, 0).astype(np.intp)
    return Hits(depth, side, across, np.abs(facing), row * walls.shape[1] + column)


def _samples(maze: Maze, num_styles: int, path: Walk, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(index into the palette, brightness) of each sample, both (frame, row, column); a pixel has 3 x 3"""
    half = 3 * size // 2
    spacing = _ZOOM / half
    offsets = spacing * (np.arange(2 * half) + 0.5 - half)  # to the right and down, at distance 1
    right = path.headings[:, ::-1] * [-1, 1]
    rays = path.headings[:, np.newaxis] + offsets[:, np.newaxis] * right[:, np.newaxis]
    hits = cast_rays(maze.walls, path.positions, rays)
    slope = offsets[:, np.newaxis].astype(np.float32)
    depth = hits.depth[:, np.newaxis].astype(np.float32)
    ground_depth = 0.5 / np.abs(slope)  # where a ray meets the floor, or above the horizon passes the top of a wall
    is_wall = depth < ground_depth

    # A coarser level of a texture is taken where a sample covers more than one texel.
    level = _level(hits.depth * spacing / hits.facing)
    column = np.minimum(hits.across * _TEXTURE, _TEXTURE - 1).astype(np.intp) >> level
    base = maze.styles.take(hits.cell) * _PYRAMID + _LEVELS[level] + column
    level, base = level[:, np.newaxis], base[:, np.newaxis]
    row = (slope * (depth * _TEXTURE) + _TEXTURE / 2).astype(np.intp)
    wall = base + ((row >> level) << (6 - level))

    sky = 2 * num_styles * _PYRAMID + _sky(rays, slope[:half])
    level = _level(ground_depth[half:] * ground_depth[half:] * (spacing / 0.5))
    reach = np.minimum(ground_depth[half:], depth) * _TEXTURE
    x, y = (
        (reach * ray[:, np.newaxis].astype(np.float32) + start[:, np.newaxis, np.newaxis]).astype(np.intp)
        for ray, start in zip(np.moveaxis(rays, -1, 0), path.positions.T.astype(np.float32) * _TEXTURE, strict=True)
    )
    style = num_styles + maze.styles.take((y >> 6) * maze.styles.shape[1] + (x >> 6))
    floor = style * _PYRAMID + _LEVELS[level] + ((((y & 63) >> level) << (6 - level)) + ((x & 63) >> level))

    wall_shade = np.where(hits.side == 0, 1, np.float32(0.85))[:, np.newaxis] * _light(depth)
    ground_shade = np.where(slope < 0, 1, _light(ground_depth))
    return (
        np.where(is_wall, wall, np.concatenate([sky, floor], axis=1)),
        np.where(is_wall, wall_shade, ground_shade).astype(np.float32),
    )


def _sky(rays: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Index into the sky's texels, (frame, row, ray)."""
    x, y = rays[..., 0], rays[..., 1]
    eastwest = np.abs(x) > np.abs(y)
    square = np.where(eastwest, 2 * (x < 0), 1 + 2 * (y < 0))
    column = (square + 0.5 + 0.5 * np.where(eastwest, y, -x) / np.where(eastwest, x, y)) * _TEXTURE
    column = np.minimum(column.astype(np.intp), 4 * _TEXTURE - 1)
    scale = (_TEXTURE / np.maximum(np.abs(x), np.abs(y))).astype(np.float32)
    return (-slope * scale[:, np.newaxis]).astype(np.intp) * (4 * _TEXTURE) + column[:, np.newaxis]


def _light(depth: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.float32(0.08) * depth)


_LEVELS = np.cumsum([0, *(4 ** (6 - level) for level in range(6))])  # where a texture's levels 64, 32 … 1 begin
_PYRAMID = int(_LEVELS[-1]) + 1


def _level(footprint: np.ndarray) -> np.ndarray:
    """The level whose texels are about as large as a sample, which covers ``footprint`` cells."""
    return np.clip(np.frexp(footprint * (0.7 * _TEXTURE))[1], 0, 6)


def _pyramids(textures: np.ndarray) -> np.ndarray:
    """Each texture at 64 x 64, 32 x 32 … 1 x 1 texels, flat, (texel, channel)."""
    level, levels = textures.astype(np.float32), []
    while level.shape[1] > 1:
        levels.append(level.reshape(len(level), -1, 3))
        rows = level[:, ::2] + level[:, 1::2]
        level = (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
    return np.concatenate([*levels, level[:, 0]], axis=1).reshape(-1, 3)


# The walk


def walk(walls: np.ndarray, frames: int, generator: np.random.Generator) -> Walk:
    """From one random far cell to the next on smooth ways, at least `MARGIN` away from every wall.

    The agent turns to a point ahead on its way, slows down while it faces elsewhere, and at times glances aside.
    """
    glance_phase = int(generator.integers(_GLANCE_EVERY))
    points = _way(walls, generator, length=frames * _SPEED + 2)
    steps = np.diff(points)
    distances = np.concatenate([[0], np.cumsum(np.sqrt(np.real(steps) ** 2 + np.imag(steps) ** 2))])
    distance, speed, spin, heading = 0.0, _SPEED / 2, 0.0, None
    places, views = [], []
    for frame in range(frames):
        here, ahead = np.interp([distance, distance + _LOOK_AHEAD], distances, points).tolist()
        places.append(here)
        wanted = _unit(ahead - here)
        heading = wanted if heading is None else heading
        error = wanted * heading.conjugate()  # its parts: cosine and sine of the angle to turn
        turn = error.imag if error.real > 0 else math.copysign(1, error.imag)
        spin += _clip(_clip(turn / 3, _SPIN) - spin, _SPIN_CHANGE)
        heading = _unit(_turned(heading, spin / 2))
        speed += _clip(_SPEED * max(error.real, 0.03) - speed, _ACCELERATION)
        distance += speed
        views.append(_turned(heading, _glance(frame + glance_phase)))
    return Walk(*(np.array([(z.real, z.imag) for z in vectors]) for vectors in (places, views)))


def _glance(time: int) -> float:
    """How far the agent looks aside, tangent of half the angle: now to the right, next time to the left."""
    count, time = divmod(time, _GLANCE_EVERY)
    phase = max(0.0, 1 - (2 * time / _GLANCE_TIME - 1) ** 2)
    return (1 if count % 2 else -1) * _GLANCE * phase * phase


def _turned(vector: complex, half_tangent: float) -> complex:
    return vector * (1 + 1j * half_tangent) / (1 - 1j * half_tangent)


def _unit(vector: complex) -> complex:
    return vector / max(1e-9, math.sqrt(vector.real**2 + vector.imag**2))


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _way(walls: np.ndarray, generator: np.random.Generator, length: float) -> np.ndarray:
    """Points x + iy of a way of at least ``length`` cells through random cells, its corners rounded.

    The centres of the cells are the control points of a quadratic B-spline, which stays in their hull.
    """
    free = [(row, column) for row, column in np.argwhere(~walls).tolist()]
    cells = [free[generator.integers(len(free))]]
    while len(cells) < 2 * length + 3:  # the rounded way is longer than half a cell per cell
        came_from = _shortest_paths(walls, cells[-1])
        far = list(came_from)[len(came_from) // 2 :]
        path = [far[generator.integers(len(far))]]
        while path[-1] != cells[-1]:
            path.append(came_from[path[-1]])
        cells += path[-2::-1]
    centres = np.array([complex(column + 0.5, row + 0.5) for row, column in cells])
    before, centre, after = centres[:-2], centres[1:-1], centres[2:]
    t = np.arange(8)[:, np.newaxis] / 8
    return ((before * (1 - t) ** 2 + centre * (1 + 2 * t - 2 * t**2) + after * t**2) / 2).T.ravel()


def _shortest_paths(walls: np.ndarray, start: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
    """The cell before each cell that can be reached, the nearest first; no step cuts the corner of a wall."""
    queue, came_from = [(0, start, start)], {}
    while queue:
        cost, cell, before = heapq.heappop(queue)
        if cell in came_from:
            continue
        came_from[cell] = before
        row, column = cell
        for down, east in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1)):
            block = walls[min(row, row + down) : max(row, row + down) + 1]
            if not block[:, min(column, column + east) : max(column, column + east) + 1].any():
                step = 7 if down and east else 5  # about 1.4 : 1
                heapq.heappush(queue, (cost + step, (row + down, column + east), cell))
    return came_from


# Layouts and textures made here


def _builtin(generator: np.random.Generator) -> tuple[Maze, Textures]:
    maze = random_maze(generator)
    return maze, random_textures(generator, int(maze.styles.max()) + 1)


def random_maze(generator: np.random.Generator) -> Maze:
    """Corridors between all cells in odd rows and columns, some loops, and rooms of 3 x 3 to 3 x 5 cells."""
    nodes = int(generator.integers(4, 6))
    walls = np.ones((2 * nodes + 1, 2 * nodes + 1), bool)
    walls[1, 1] = False
    stack = [(1, 1)]
    while stack:
        row, column = stack[-1]
        moves = [(0, 2), (2, 0), (0, -2), (-2, 0)]
        moves = [(row + i, column + j) for i, j in moves if 0 < row + i < len(walls) and 0 < column + j < len(walls)]
        moves = [move for move in moves if walls[move]]
        if not moves:
            stack.pop()
            continue
        new = moves[generator.integers(len(moves))]
        walls[new] = walls[(row + new[0]) // 2, (column + new[1]) // 2] = False
        stack.append(new)
    doors = generator.random(walls.shape) < 0.12
    walls[1:-1:2, 2:-1:2] &= ~doors[1:-1:2, 2:-1:2]
    walls[2:-1:2, 1:-1:2] &= ~doors[2:-1:2, 1:-1:2]

    styles = np.zeros(walls.shape, np.intp)
    styles[:, nodes + 1 :] = 1  # two kinds of corridor
    for style in range(2, nodes):
        height, width = ((3, 3), (3, 5), (5, 3))[generator.integers(3)]
        top, left = (1 + 2 * int(generator.integers((len(walls) - side) // 2)) for side in (height, width))
        room = slice(top, top + height), slice(left, left + width)
        walls[room], styles[room] = False, style
    return Maze(walls, styles)


_WALL_COLOURS = (
    *((45, 115, 210), (195, 65, 115), (85, 150, 60), (135, 95, 205), (245, 130, 45)),
    *((240, 195, 55), (190, 60, 45), (40, 165, 150), (150, 150, 158)),
)
_FLOOR_COLOURS = ((125, 155, 175), (70, 100, 125), (150, 180, 110), (200, 145, 95), (85, 130, 120), (170, 165, 150))
_SKY_COLOURS = (((60, 120, 200), (170, 205, 235)), ((30, 70, 150), (95, 155, 225)), ((90, 130, 190), (235, 205, 185)))


def random_textures(generator: np.random.Generator, styles: int) -> Textures:
    """Walls and floors of different colours and patterns, and a sky with clouds."""
    patterns, colours = generator.permutation(6), generator.permutation(len(_WALL_COLOURS))
    floor_patterns, floor_colours = generator.permutation(3), generator.permutation(len(_FLOOR_COLOURS))
    walls, floors = [], []
    for style in range(styles):
        tone = _pattern(int(patterns[style % 6]), generator)
        tone[-4:] *= 0.5  # skirting
        walls.append(_paint(tone, _WALL_COLOURS[colours[style % len(colours)]]))
        tone = _pattern(int(floor_patterns[style % 3]), generator)
        floors.append(_paint(0.25 + 0.75 * tone, _FLOOR_COLOURS[floor_colours[style % len(floor_colours)]]))
    top, horizon = np.array(_SKY_COLOURS[generator.integers(len(_SKY_COLOURS))], np.float64)
    height = np.linspace(0, 1, _TEXTURE)[:, np.newaxis, np.newaxis]
    clouds = np.clip(3 * _clouds(generator) - 1.5, 0, 0.7)[..., np.newaxis] * np.minimum(1, 4 * height)
    blue = horizon + (top - horizon) * height
    sky = _on_cube((blue + clouds * (255 - blue)).astype(np.uint8))
    return Textures(np.stack(walls), np.stack(floors), sky)


def _paint(tone: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.clip(tone[..., np.newaxis] * colour, 0, 255).astype(np.uint8)


def _pattern(kind: int, generator: np.random.Generator) -> np.ndarray:
    """Brightness of a texture around 1, (64, 64): bricks, mosaic, slabs, discs, panels or chevrons."""
    rows, columns = np.mgrid[:_TEXTURE, :_TEXTURE]
    if kind < 3:
        height, width, shift = ((8, 16, 8), (8, 8, 0), (16, 32, 16))[kind]
        columns = (columns + rows // height % 2 * shift) % _TEXTURE
        tones = 0.8 + 0.35 * generator.random((8, 8))[rows // height, columns // width]
        return np.where((rows % height == 0) | (columns % width == 0), 0.55, tones)
    if kind == 3:
        radius = (rows % 32 - 15.5) ** 2 + (columns % 32 - 15.5) ** 2
        return np.where(radius < 70, 0.6, np.where((radius > 110) & (radius < 150), 0.7, 1.05))
    if kind == 4:
        return np.where(columns % 32 < 6, 1.25, 0.95) * np.where(rows % 32 < 3, 0.6, 1.0)
    return np.where((rows + np.abs(columns % 32 - 16)) % 16 < 8, 1.1, 0.75)


def _clouds(generator: np.random.Generator) -> np.ndarray:
    """Smooth noise around 1/2, (64, 256), without a seam between the last column and the first."""
    noise = np.zeros((_TEXTURE, 4 * _TEXTURE))
    for cells in (4, 8, 16):
        coarse = np.pad(generator.random((cells, 4 * cells)), ((0, 1), (0, 1)), "wrap")
        noise += _stretched(_stretched(coarse, _TEXTURE // cells).T, _TEXTURE // cells).T * (16 / 7 / cells)
    return noise


def _on_cube(panorama: np.ndarray) -> np.ndarray:
    """A cylinder's picture, (64, 256, 3) by angle and height, on the four squares of a sky, without a kink between."""
    across = (np.arange(_TEXTURE) + 0.5) / (_TEXTURE / 2) - 1
    angle = across * (1.273 - 0.273 * np.abs(across))  # 4 / pi of the arctangent, nearly
    column = ((1 + angle) * (_TEXTURE / 2)).astype(np.intp)
    row = (np.arange(_TEXTURE)[:, np.newaxis] / np.sqrt(1 + across**2)).astype(np.intp)
    squares = panorama.reshape(_TEXTURE, 4, _TEXTURE, 3).swapaxes(1, 2)[row, column]
    return squares.swapaxes(1, 2).reshape(panorama.shape)


def _stretched(values: np.ndarray, factor: int) -> np.ndarray:
    """``factor`` rows from each row to the next, with a smooth step between them."""
    t = np.arange(factor)[:, np.newaxis] / factor
    rows = values[:-1, np.newaxis] + np.diff(values, axis=0)[:, np.newaxis] * (3 * t**2 - 2 * t**3)
    return rows.reshape(-1, values.shape[1])


# Layouts and textures of DeepMind Lab


def _labmaze(generator: np.random.Generator) -> tuple[Maze, Textures]:
    try:
        import labmaze
        from labmaze import assets
    except ImportError:
        raise InputError(
            "source=labmaze needs the package labmaze, which is not installed: pip install labmaze, or source=builtin"
        ) from None
    side = 2 * int(generator.integers(4, 6)) + 1
    layout = labmaze.RandomMaze(
        height=side,
        width=side,
        max_rooms=3,
        room_min_size=3,
        room_max_size=5,
        extra_connection_probability=0.15,
        random_seed=int(generator.integers(2**31)),
    )
    names, styles = np.unique(np.asarray(layout.variations_layer), return_inverse=True)  # "." outside rooms, "A", "B" …
    style = assets.MAZE_STYLES[generator.integers(len(assets.MAZE_STYLES))]
    walls, floors = (
        _chosen(sorted(paths(style).values()), len(names), generator)
        for paths in (assets.get_wall_texture_paths, assets.get_floor_texture_paths)
    )
    sky = assets.get_sky_texture_paths(assets.SKY_STYLES[generator.integers(len(assets.SKY_STYLES))])
    squares = [
        _picture(path, 2 * _TEXTURE)[_TEXTURE - 1 :: -1, ::2] for path in (sky.front, sky.right, sky.back, sky.left)
    ]
    maze = Maze(np.asarray(layout.entity_layer) == "*", styles.reshape(side, side))
    return maze, Textures(walls, floors, np.concatenate(squares, axis=1))


def _chosen(paths: list[str], count: int, generator: np.random.Generator) -> np.ndarray:
    order = generator.permutation(len(paths))
    return np.stack([_picture(paths[order[i % len(paths)]], _TEXTURE) for i in range(count)])


@functools.cache
def _picture(path: str, size: int) -> np.ndarray:
    """A picture file, uint8 (size, size, 3), RGB."""
    return cv2.resize(cv2.imread(path), (size, size), interpolation=cv2.INTER_AREA)[..., ::-1]
