"""Synthetic mazes: first-person colour videos of a walk through a maze, a stand-in for GQN mazes that needs no files.

The real ones are recordings from DeepMind Lab (Eslami et al., Science 2018; as video: Saxena et al., arXiv:2102.09532).
Here `ray_caster` draws a random maze of rooms and corridors; each room has its own wall and floor. An agent walks the
shortest way to one random cell after another, so that the next frames follow from the last ones, while a place that
comes into view again can only be predicted by a model that remembers it. These are not the published videos: numbers
reached on them are not comparable with the published ones.

Coordinates are those of `ray_caster`; directions are unit vectors and are turned by rational functions.
"""

import functools
import hashlib
import heapq
import math
from typing import Literal, get_args

import cv2
import numpy as np

from htsr.checks import require_choice, require_int
from htsr.data.synthetic.ray_caster import TEXELS, Maze, Textures, Views, render
from htsr.errors import InputError

Split = Literal["train", "test"]
Source = Literal["builtin", "labmaze"]
FPS = 15  # for playback
MARGIN = 0.45  # no wall is nearer to the agent, in cells

_SPEED, _ACCELERATION = 0.1, 0.015  # of the walk, in cells per frame
_SPIN, _SPIN_CHANGE = 0.14, 0.03  # of the heading, in radians per frame (tangent of the half angle, doubled)
_LOOK_AHEAD = 0.4  # the agent turns to the point of its way that is so far ahead, in cells
_GLANCE_EVERY, _GLANCE_TIME, _GLANCE = 75, 24, 0.35  # in frames; how far it looks aside, tangent of the half angle


def maze_video(split: Split, index: int, *, seed: int = 0, frames: int = 300, source: Source = "builtin") -> np.ndarray:
    """Draws one video, a pure function of the arguments; a longer one continues the same walk.

    Args:
        split: "train" or "test"; they share no video.
        index: of the video, from 0; each has its own maze, textures and walk.
        seed: of all videos.
        frames: length of the video.
        source: "builtin": layouts and textures made here; "labmaze": those of DeepMind Lab, from the package labmaze.

    Returns:
        uint8 (frames, 64, 64, 3), RGB.

    Raises:
        InputError: an argument is out of range, or labmaze is not installed.

    Example:
        >>> maze_video("train", 0, frames=5).shape
        (5, 64, 64, 3)
    """
    require_choice("split", split, get_args(Split))
    require_choice("source", source, get_args(Source))
    for name, value, least in (("index", index, 0), ("seed", seed, 0), ("frames", frames, 1)):
        require_int(name, value, least)
    name = f"synthetic_mazes source={source} seed={seed} split={split} index={index}"
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    maze, textures = (_builtin if source == "builtin" else _labmaze)(generator)
    return render(maze, textures, walk(maze.walls, frames, generator))


# The walk


def walk(walls: np.ndarray, frames: int, generator: np.random.Generator) -> Views:
    """From one random far cell to the next on smooth ways, at least `MARGIN` away from every wall.

    The agent turns to a point ahead on its way, slows down while it faces elsewhere, and at times glances aside.
    """
    glance_phase = int(generator.integers(_GLANCE_EVERY))
    points = _way(walls, generator, length=frames * _SPEED + 2)
    steps = np.diff(points)
    distances = np.concatenate([[0], np.cumsum(np.sqrt(np.real(steps) ** 2 + np.imag(steps) ** 2))])
    distance, speed, spin, heading = 0.0, _SPEED / 2, 0.0, 0j
    places, views = [], []
    for frame in range(frames):
        here, ahead = np.interp([distance, distance + _LOOK_AHEAD], distances, points).tolist()
        places.append(here)
        wanted = _unit(ahead - here)
        heading = heading or wanted
        error = wanted * heading.conjugate()  # its parts: cosine and sine of the angle to turn
        turn = error.imag if error.real > 0 else math.copysign(1, error.imag)
        spin += _clip(_clip(turn / 3, _SPIN) - spin, _SPIN_CHANGE)
        heading = _unit(_turned(heading, spin / 2))
        speed += _clip(_SPEED * max(error.real, 0.03) - speed, _ACCELERATION)
        distance += speed
        views.append(_turned(heading, _glance(frame + glance_phase)))
    return Views(*(np.array(vectors).view(np.float64).reshape(-1, 2) for vectors in (places, views)))


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
    cells = [tuple(generator.choice(np.argwhere(~walls)).tolist())]
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
            new = row + down, column + east
            if not (walls[new] or walls[new[0], column] or walls[row, new[1]]):
                heapq.heappush(queue, (cost + (7 if down and east else 5), new, cell))  # about 1.4 : 1
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
        moves = [(row, column + 2), (row + 2, column), (row, column - 2), (row - 2, column)]
        moves = [(i, j) for i, j in moves if min(i, j) > 0 and max(i, j) < len(walls) and walls[i, j]]
        if not moves:
            stack.pop()
            continue
        new = moves[generator.integers(len(moves))]
        walls[new] = walls[(row + new[0]) // 2, (column + new[1]) // 2] = False
        stack.append(new)
    doors = generator.random(walls.shape) < 0.12
    walls[1:-1:2, 2:-1:2] &= ~doors[1:-1:2, 2:-1:2]
    walls[2:-1:2, 1:-1:2] &= ~doors[2:-1:2, 1:-1:2]

    styles = np.zeros(walls.shape, np.intp) + (np.arange(len(walls)) > nodes)  # two kinds of corridor
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
    patterns, colours = generator.permutation(6), generator.permutation(_WALL_COLOURS)
    floor_patterns, floor_colours = generator.permutation(3), generator.permutation(_FLOOR_COLOURS)
    walls, floors = [], []
    for style in range(styles):
        tone = _pattern(patterns[style], generator)
        tone[-4:] *= 0.5  # skirting
        walls.append(tone[..., np.newaxis] * colours[style])
        tone = 0.25 + 0.75 * _pattern(floor_patterns[style % 3], generator)
        floors.append(tone[..., np.newaxis] * floor_colours[style])
    top, horizon = generator.choice(_SKY_COLOURS)
    height = np.linspace(0, 1, TEXELS)[:, np.newaxis, np.newaxis]
    clouds = np.clip(3 * _clouds(generator) - 1.5, 0, 0.7)[..., np.newaxis] * np.minimum(1, 4 * height)
    blue = horizon + (top - horizon) * height
    sky = _on_cube(blue + clouds * (255 - blue))
    return Textures(*(np.minimum(picture, 255).astype(np.uint8) for picture in (walls, floors, sky)))


def _pattern(kind: int, generator: np.random.Generator) -> np.ndarray:
    """Brightness of a texture around 1, (64, 64): bricks, mosaic, slabs, discs, panels or chevrons."""
    rows, columns = np.mgrid[:TEXELS, :TEXELS]
    if kind < 3:
        height, width, shift = ((8, 16, 8), (8, 8, 0), (16, 32, 16))[kind]
        columns = (columns + rows // height % 2 * shift) % TEXELS
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
    noise = np.zeros((TEXELS, 4 * TEXELS))
    for cells in (4, 8, 16):
        coarse = np.pad(generator.random((cells, 4 * cells)), (0, 1), "wrap")
        noise += _stretched(_stretched(coarse, TEXELS // cells).T, TEXELS // cells).T * (16 / 7 / cells)
    return noise


def _on_cube(panorama: np.ndarray) -> np.ndarray:
    """A cylinder's picture, (64, 256, 3) by angle and height, on the four squares of a sky, without a kink between."""
    square, column = np.divmod(np.arange(4 * TEXELS), TEXELS)
    across = (column + 0.5) / (TEXELS / 2) - 1
    angle = across * (1.273 - 0.273 * np.abs(across))  # 4 / pi of the arctangent, nearly
    row = (np.arange(TEXELS)[:, np.newaxis] / np.sqrt(1 + across**2)).astype(np.intp)
    return panorama[row, square * TEXELS + ((1 + angle) * (TEXELS / 2)).astype(np.intp)]


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
        raise InputError("source=labmaze: labmaze is not installed; pip install labmaze, or source=builtin") from None
    side, seed = 2 * int(generator.integers(4, 6)) + 1, int(generator.integers(2**31))
    layout = labmaze.RandomMaze(side, side, max_rooms=3, extra_connection_probability=0.15, random_seed=seed)
    names, styles = np.unique(np.asarray(layout.variations_layer), return_inverse=True)  # "." outside rooms, "A", "B" …
    style = generator.choice(assets.MAZE_STYLES)
    walls, floors = (
        np.stack([_picture(path, TEXELS) for path in generator.permutation(sorted(paths.values()))[: len(names)]])
        for paths in (assets.get_wall_texture_paths(style), assets.get_floor_texture_paths(style))
    )
    sky = assets.get_sky_texture_paths(generator.choice(assets.SKY_STYLES))
    squares = [_picture(path, 2 * TEXELS)[TEXELS - 1 :: -1, ::2] for path in (sky.front, sky.right, sky.back, sky.left)]
    return Maze(np.asarray(layout.entity_layer) == "*", styles), Textures(walls, floors, np.hstack(squares))


@functools.cache
def _picture(path: str, size: int) -> np.ndarray:
    """A picture file, uint8 (size, size, 3), RGB."""
    return cv2.resize(cv2.imread(path), (size, size), interpolation=cv2.INTER_AREA)[..., ::-1]
