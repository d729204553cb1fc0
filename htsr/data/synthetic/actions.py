"""Synthetic human actions: drawn videos with the layout of the KTH data set (Schuldt, Laptev and Caputo, ICPR 2004).

25 persons walk, jog, run, box, wave and clap in 4 scenarios: outdoors, outdoors with a change of scale, outdoors in
other clothes, indoors. A stand-in where the recordings are not at hand, no substitute for them: nothing here is learnt
from film, and figures reached on it are not comparable with figures on KTH.

A person is a jointed figure of rounded, tapered limbs, see `synthetic_figure`; who goes to the left is drawn mirrored.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from htsr.checks import require_choice, require_int
from htsr.data.synthetic.figure import GAITS, HAND_RADIUS, Person, joint_positions, person_traits

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
PERSONS, SCENARIOS = 25, 4
HEIGHT, WIDTH, FPS = 120, 160, 25

_PERIODS = {  # frames per cycle
    "boxing": 21.0,
    "handclapping": 22.0,
    "handwaving": 38.0,
    "jogging": 18.5,
    "running": 16.0,
    "walking": 27.0,
}
_HORIZON, _GROUND, _DISTANCE = 46, 108, 300  # rows of the horizon and of the feet, and the camera's distance, pixels
_SHIFT = 4  # the drawing functions take coordinates in 1 / 2**_SHIFT pixels


class Capsule(NamedTuple):
    """A part of the figure, the hull of two circles; radii are shares of the body height."""

    start: str
    end: str
    radii: tuple[float, float]
    grey: float


class Part(NamedTuple):
    """A sequence of a video, ready to be drawn."""

    gap: int  # empty frames before it
    zoom: np.ndarray  # of the camera, (frame,)
    outlines: np.ndarray  # of the capsules, (frame, capsule, point, 2), x and y in 1 / 2**_SHIFT pixels


Shapes = tuple[tuple[str, str, float, float, str], ...]  # from joint, to joint, radius at either, what it is made of
_ARM: Shapes = (
    ("shoulder", "elbow", 0.032, 0.024, "top"),
    ("elbow", "wrist", 0.023, 0.017, "sleeves"),
    ("wrist", "hand", HAND_RADIUS, HAND_RADIUS, "skin"),
)
_LEG: Shapes = (
    ("ankle", "toes", 0.026, 0.015, "shoes"),
    ("hip", "knee", 0.05, 0.034, "trousers"),
    ("knee", "ankle", 0.034, 0.022, "trousers"),
)
_HEAD: Shapes = (
    ("chest", "jaw", 0.028, 0.026, "neck"),
    ("nape", "top", 0.04, 0.042, "hair"),
    ("jaw", "crown", 0.03, 0.038, "skin"),
)
_BELLY: Shapes = (("chest", "pelvis", 0.045, 0.03, "top"),)
_TORSO: Shapes = (("breast", "waist", 0.056, 0.05, "top"),)
_COAT: Shapes = (("waist", "hem", 0.056, 0.062, "top"),)
_BAG: Shapes = (("bag_top", "bag_bottom", 0.045, 0.055, "bag"),)
_SHADOW = ((0.05, 0.9), (0.03, 0.82))  # radius and light


def action_video(person: int, action: str, scenario: int, *, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The video of a person doing an action four times; a pure function of its arguments.

    Args:
        person: 1 … 25.
        action: one of ``ACTIONS``.
        scenario: 1 outdoors, 2 outdoors with a change of scale, 3 outdoors in other clothes, 4 indoors.
        seed: of everything that is drawn at random.

    Returns:
        Grey frames, uint8 (frame, 120, 160), 25 a second; and the first and last frame of each of the four sequences,
        counted from 1. Walkers, joggers and runners cross the picture once a sequence, to and fro, and between the
        sequences it is empty. The other actions go on without a pause.

    Raises:
        InputError: there is no such person, action or scenario, or the seed is below 0.

    Example:
        >>> video, ranges = action_video(1, "boxing", 4)
        >>> video.shape[1:], video.dtype, len(ranges)
        ((120, 160), dtype('uint8'), 4)
    """
    require_int("person", person, least=1, most=PERSONS)
    require_choice("action", action, ACTIONS)
    require_int("scenario", scenario, least=1, most=SCENARIOS)
    require_int("seed", seed, least=0)
    number = 100 * person + 10 * (ACTIONS.index(action) + 1) + scenario  # the person's traits come from 100 * person
    generator = np.random.Generator(np.random.Philox(key=[seed, number]))
    background = _background(generator, indoors=scenario == 4)
    traits = person_traits(person, seed=seed)
    figure = _figure(traits, action, scenario, background)
    act = _crossings if action in GAITS else _repetitions
    frames, ranges = [], []
    for part in act(generator, traits, action, figure, scenario == 2):
        frames += [background] * part.gap
        ranges.append((len(frames) + 1, len(frames) + len(part.zoom)))
        frames += [_drawn(background, figure, *each) for each in zip(part.zoom, part.outlines, strict=True)]
    return np.stack([cv2.GaussianBlur(frame, (3, 3), 0.6) for frame in frames]), ranges


def _crossings(
    generator: np.random.Generator, person: Person, action: str, figure: list[Capsule], diagonal: bool
) -> Iterator[Part]:
    """Four ways through the picture, to and fro, of as many frames as something is to be seen."""
    direction = generator.choice([-1, 1])
    angle = generator.uniform(0.35, 0.5) * generator.choice([-1, 1]) if diagonal else generator.uniform(-0.08, 0.08)
    cycles = 2 * WIDTH / (person.height * person.step * GAITS[action].stride)
    for index in range(4):
        rate = person.tempo * generator.normal(1, 0.015) / _PERIODS[action]
        phase = np.arange(0, cycles, rate) + person.phase + generator.random()
        joints = joint_positions(person, action, phase)
        middle = joints["pelvis"][len(phase) // 2] * [1, 0, 0]
        joints = {joint: position - middle for joint, position in joints.items()}
        outlines = _outlines(joints, person, figure, angle, direction, np.ones(len(phase)))
        x = outlines[..., 0] / 2**_SHIFT
        seen = (x.max((1, 2)) > 1) & (x.min((1, 2)) < WIDTH - 2)
        gap = int(generator.integers(12, 30)) if index else 0
        yield Part(gap, np.ones(seen.sum()), outlines[seen])
        direction, angle = -direction, -angle


def _repetitions(
    generator: np.random.Generator, person: Person, action: str, figure: list[Capsule], zooming: bool
) -> Iterator[Part]:
    """Four stretches of one standing action."""
    lengths = generator.integers(98, 113, size=4)
    rates = np.repeat(person.tempo * generator.normal(1, 0.02, size=4) / _PERIODS[action], lengths)
    joints = joint_positions(person, action, person.phase + np.cumsum(rates))
    angle = generator.uniform(0.05, 0.35) if action == "boxing" else np.pi / 2 + generator.uniform(-0.12, 0.12)
    turns = np.arange(len(rates)) / generator.uniform(160, 230) + generator.random()
    zoom = np.exp(0.22 * np.sin(2 * np.pi * turns) - 0.08) if zooming else np.ones(len(rates))
    outlines = _outlines(joints, person, figure, angle, generator.choice([-1, 1]), zoom)
    for frames in np.split(np.arange(len(rates)), np.cumsum(lengths)[:-1]):
        yield Part(0, zoom[frames], outlines[frames])


def _outlines(
    joints: dict[str, np.ndarray],
    person: Person,
    figure: list[Capsule],
    angle: float,
    direction: int,
    zoom: np.ndarray,
) -> np.ndarray:
    """The capsules as polygons, see `Part`.

    Args:
        joints: from `joint_positions`, forward from the middle of the picture.
        person: whose height it is.
        figure: the capsules.
        angle: of the way forward out of the plane of the picture, to the camera, radians.
        direction: 1 to the right, -1 to the left.
        zoom: of the camera, (frame,).
    """
    points = np.stack([[joints[capsule.start], joints[capsule.end]] for capsule in figure])
    forward, up, near = np.moveaxis(points, (3, 2), (0, 1))  # each (frame, capsule, end)
    depth = math.sin(angle) * joints["pelvis"][:, 0]
    scale = (_DISTANCE / (_DISTANCE - depth))[:, np.newaxis, np.newaxis]
    zoom = zoom[:, np.newaxis, np.newaxis]
    x = zoom * scale * direction * (math.cos(angle) * forward - math.sin(angle) * near)
    y = zoom * (_HORIZON - HEIGHT / 2 + scale * (_GROUND - _HORIZON - up))
    radii = zoom * scale * person.height * np.array([capsule.radii for capsule in figure])
    line = np.arctan2(y[..., 1] - y[..., 0], x[..., 1] - x[..., 0])
    turns = np.pi * np.linspace((0.5, -0.5), (1.5, 0.5), 7, axis=1)  # half a circle at either end
    turns = turns + line[..., np.newaxis, np.newaxis]
    x = WIDTH / 2 + x[..., np.newaxis] + radii[..., np.newaxis] * np.cos(turns)
    y = HEIGHT / 2 + y[..., np.newaxis] + radii[..., np.newaxis] * np.sin(turns)
    outlines = np.stack([x, y], axis=-1).reshape(*line.shape, -1, 2)
    return np.rint(outlines * 2**_SHIFT).astype(np.int32)


def _figure(person: Person, action: str, scenario: int, background: np.ndarray) -> list[Capsule]:
    """The capsules from back to front, the shadow first."""
    top, trousers = person.outfits[scenario == 3]
    sleeves = person.skin if person.bare_arms and scenario != 3 else top
    greys = {"top": top, "trousers": trousers, "sleeves": sleeves, "skin": person.skin, "neck": 0.85 * person.skin}
    greys |= {"hair": person.hair, "shoes": person.shoes, "bag": 0.7 * person.shoes}

    def dress(shapes: Shapes, side: str = "", light: float = 1) -> list[Capsule]:
        return [
            Capsule(side + start, side + end, (person.build * first, person.build * last), light * greys[material])
            for start, end, first, last, material in shapes
        ]

    frontal = action in {"handclapping", "handwaving"}
    light = 1 if frontal else 0.8
    torso = dress(_BELLY) + dress(_TORSO, "far_") + dress(_TORSO, "near_")
    if scenario == 3:
        torso = torso + dress(_COAT, "far_") + dress(_COAT, "near_") if person.coat else dress(_BAG) + torso
    body = dress(_LEG, "far_", light) + dress(_LEG, "near_") + torso + dress(_HEAD)
    far, near = dress(_ARM, "far_", light), dress(_ARM, "near_")
    parts = body + far + near if frontal else far + body + near
    if scenario == 4:
        level = float(background.mean())
        parts = [part._replace(grey=level + 0.6 * (part.grey - level)) for part in parts]
    ground = float(background[_GROUND - 5 :].mean())
    shadow = [Capsule("near_ground", "far_ground", (radius, radius), light * ground) for radius, light in _SHADOW]
    return shadow + parts


def _drawn(background: np.ndarray, figure: list[Capsule], zoom: float, outlines: np.ndarray) -> np.ndarray:
    """A frame: the background, zoomed about its middle, and the figure on it."""
    shift = np.array([[zoom, 0, (1 - zoom) * WIDTH / 2], [0, zoom, (1 - zoom) * HEIGHT / 2]])
    frame = cv2.warpAffine(background, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)
    for capsule, outline in zip(figure, outlines, strict=True):
        cv2.fillConvexPoly(frame, outline, capsule.grey, cv2.LINE_AA, _SHIFT)
    return frame


def _background(generator: np.random.Generator, indoors: bool) -> np.ndarray:
    """Light ground with a gradient, blotches and grain, uint8 (120, 160); indoors there is a wall above the floor."""
    rows, columns = np.linspace(-1, 1, HEIGHT)[:, np.newaxis], np.linspace(-1, 1, WIDTH)
    level, slope, tilt, edge = generator.uniform((165, -8, -8, 92), (190, 8, 8, 100))
    picture = level + slope * columns + tilt * rows
    picture += cv2.resize(generator.normal(0, 1.5, (9, 12)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture += generator.normal(0, 2.5 if indoors else 5, (HEIGHT, WIDTH))
    if indoors:
        picture -= 22 / (1 + np.exp(edge - np.arange(HEIGHT)))[:, np.newaxis]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
