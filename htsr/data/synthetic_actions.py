"""Synthetic human actions: drawn videos with the layout of the KTH data set (Schuldt, Laptev and Caputo, ICPR 2004).

25 persons walk, jog, run, box, wave and clap in 4 scenarios: outdoors, outdoors with a change of scale, outdoors in
other clothes, indoors. A stand-in where the recordings are not at hand, no substitute for them: nothing here is learnt
from film, and figures reached on it are not comparable with figures on KTH.

A person is a jointed figure of rounded, tapered limbs. The joints are computed in three dimensions, (forward, up, near)
in shares of the body height, where near is the person's right; who goes to the left is drawn mirrored. Feet follow a
prescribed path, fixed to the ground while they carry weight, and the knees follow from it; arms are turned by angles.
All are smooth periodic functions of the phase of the movement, which is counted in cycles.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from htsr.data.clips import require_choice, require_int
from htsr.errors import InputError

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
PERSONS, SCENARIOS = 25, 4
HEIGHT, WIDTH, FPS = 120, 160, 25

# Segments as shares of the body height, about those of Drillis and Contini (1966); the foot is from ankle to toes.
THIGH, SHIN, FOOT, TRUNK, UPPER_ARM, FOREARM, HAND = 0.245, 0.235, 0.12, 0.288, 0.186, 0.146, 0.05
_HIP, _ANKLE_UP, _TOES_UP = 0.06, 0.045, 0.018
_FLAT = math.asin((_ANKLE_UP - _TOES_UP) / FOOT)  # how far the line from toes to ankle rises, radians
_HORIZON, _GROUND, _DISTANCE = 46, 108, 300  # rows of the horizon and of the feet, and the camera's distance, pixels
_SHIFT = 4  # the drawing functions take coordinates in 1 / 2**_SHIFT pixels
_SIDES = {"near": 1, "far": -1}


class Person(NamedTuple):
    """What is the same in all videos of a person; 1 is average where nothing else is said, greys are 0 … 255."""

    height: float  # pixels
    build: float  # thickness of body and limbs
    legs: float  # length
    arms: float  # length
    shoulders: float  # half the width between the joints, share of the height
    tempo: float
    step: float  # length
    swing: float  # of the arms
    phase: float  # cycles
    skin: float
    hair: float
    shoes: float
    bare_arms: bool
    outfits: tuple[tuple[float, float], tuple[float, float]]  # top and trousers, usual and in scenario 3
    coat: bool  # scenario 3 adds a coat; else a bag on the back


class Gait(NamedTuple):
    """How to walk or run; lengths are shares of the body height, angles radians."""

    period: float  # frames per cycle of two steps
    stride: float  # length of a cycle
    duty: float  # share of the cycle that a foot is on the ground
    lift: float  # of the toes of the swinging foot
    tilt: tuple[float, float, float]  # heel above toes when the foot lands, leaves and is half way through its swing
    bob: float  # of the pelvis, up over the standing foot (down where negative)
    lean: float
    swing: float  # of the upper arm to either side
    elbow: tuple[float, float]  # bend, and how much it varies


class Pose(NamedTuple):
    """What determines the joints; the first axis of toes, tilt and arms is (near, far), the last one the frame."""

    travel: np.ndarray  # of the pelvis, share of the height
    bob: np.ndarray
    lean: np.ndarray
    twist: np.ndarray  # of the near shoulder forward, radians
    toes: np.ndarray  # (side, frame, 3), from the point of the ground below the pelvis
    tilt: np.ndarray  # of the feet, (side, frame)
    arms: np.ndarray  # (side, upper or forearm, swing forward or spread, frame), radians from hanging down

    @property
    def ankles(self) -> np.ndarray:
        """Like the toes, (side, frame, 3)."""
        return self.toes + FOOT * _vectors(-np.cos(self.tilt), np.sin(self.tilt), 0)


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


GAITS = {
    "walking": Gait(27.0, 0.6, 0.6, 0.02, (-0.3, 0.65, 0.4), 0.01, 0.04, 0.4, (0.3, 0.15)),
    "jogging": Gait(18.5, 0.62, 0.42, 0.07, (-0.1, 0.85, 0.9), -0.01, 0.12, 0.45, (1.4, 0.2)),
    "running": Gait(16.0, 0.82, 0.34, 0.14, (-0.1, 0.95, 1.2), -0.012, 0.22, 0.75, (1.5, 0.3)),
}

Shapes = tuple[tuple[str, str, float, float, str], ...]  # from joint, to joint, radius at either, what it is made of
_HAND_RADIUS = 0.017
_ARM: Shapes = (
    ("shoulder", "elbow", 0.032, 0.024, "top"),
    ("elbow", "wrist", 0.023, 0.017, "sleeves"),
    ("wrist", "hand", _HAND_RADIUS, _HAND_RADIUS, "skin"),
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

_PERIODS = {"boxing": 21.0, "handclapping": 22.0, "handwaving": 38.0}


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
    traits = person_traits(person, seed=seed)
    require_choice("action", action, ACTIONS)
    _require_between("scenario", scenario, SCENARIOS)
    generator = _generator(seed, person, ACTIONS.index(action) + 1, scenario)
    background = _background(generator, indoors=scenario == 4)
    figure = _figure(traits, action, scenario, background)
    act = _crossings if action in GAITS else _repetitions
    parts = act(generator, traits, action, figure, scenario == 2)
    video = np.empty((sum(part.gap + len(part.zoom) for part in parts), HEIGHT, WIDTH), np.uint8)
    video[:] = background
    ranges, stop = [], 0
    for part in parts:
        start = stop + part.gap
        stop = start + len(part.zoom)
        _draw(video[start:stop], part, [capsule.grey for capsule in figure])
        ranges.append((start + 1, stop))
    for frame in video:
        cv2.GaussianBlur(frame, (3, 3), 0.6, dst=frame)
    return video, ranges


def person_traits(person: int, *, seed: int = 0) -> Person:
    """The traits of person 1 … 25, from (seed, person) alone."""
    _require_between("person", person, PERSONS)
    require_int("seed", seed, least=0)
    generator = _generator(seed, person)
    vary = generator.uniform
    return Person(
        height=vary(76, 87),
        build=vary(0.9, 1.12),
        legs=vary(0.96, 1.03),
        arms=vary(0.95, 1.05),
        shoulders=vary(0.1, 0.125),
        tempo=vary(0.94, 1.06),
        step=vary(0.95, 1.06),
        swing=vary(0.8, 1.15),
        phase=vary(0, 1),
        skin=vary(95, 150),
        hair=vary(20, 90),
        shoes=vary(20, 90),
        bare_arms=bool(vary() < 0.4),
        outfits=((_unlike_ground(vary()), vary(25, 100)), (_unlike_ground(vary()), vary(25, 100))),
        coat=bool(vary() < 0.5),
    )


def joint_positions(person: Person, action: str, phase: np.ndarray) -> dict[str, np.ndarray]:
    """Where a person's joints are.

    Args:
        person: the traits.
        action: one of ``ACTIONS``.
        phase: of the movement, cycles, (frame,).

    Returns:
        Joints by name, pixels (frame, 3): forward, where cycle 0 begins at 0, up from the ground, near. The shoulder,
        elbow, wrist, hand, hip, knee, ankle and toes of the two sides are named like "near_knee".
    """
    pose = _pose(person, action, phase)
    joints = _trunk(pose, _vectors(0, _pelvis_height(person, action) + pose.bob, 0))
    for side, (name, sign) in enumerate(_SIDES.items()):
        limbs = _leg(pose, person, side, sign, joints["pelvis"]) | _arm(pose, person, side, sign, joints["chest"])
        joints |= {f"{name}_{joint}": position for joint, position in limbs.items()}
    travel = _vectors(pose.travel, 0, 0)
    return {joint: person.height * (position + travel) for joint, position in joints.items()}


# From pose to joints, in shares of the height


def _pelvis_height(person: Person, action: str) -> float:
    """The height about which the pelvis moves: where a leg is just about straight once in a cycle."""
    pose = _pose(person, action, np.linspace(0, 1, 100))
    forward, up, near = np.moveaxis(pose.ankles, -1, 0)
    reach = 0.995 * person.legs * (THIGH + SHIN)
    highest = up + np.sqrt(reach**2 - forward**2 - (np.abs(near) - _HIP) ** 2)
    return float((highest - pose.bob).min())


def _trunk(pose: Pose, pelvis: np.ndarray) -> dict[str, np.ndarray]:
    def above(joint: np.ndarray, forward: float, up: float, lean: np.ndarray) -> np.ndarray:
        sine, cosine = np.sin(lean), np.cos(lean)
        return joint + _vectors(forward * cosine + up * sine, up * cosine - forward * sine, 0)

    chest = above(pelvis, 0, TRUNK, pose.lean)
    return {
        "pelvis": pelvis,
        "chest": chest,
        "jaw": above(chest, 0.022, 0.092, pose.lean / 2),
        "crown": above(chest, 0.012, 0.142, pose.lean / 2),
        "nape": above(chest, -0.02, 0.115, pose.lean / 2),
        "top": above(chest, -0.002, 0.152, pose.lean / 2),
        "bag_top": above(chest, -0.075, -0.02, pose.lean),
        "bag_bottom": above(chest, -0.085, -0.15, pose.lean),
    }


def _leg(pose: Pose, person: Person, side: int, sign: int, pelvis: np.ndarray) -> dict[str, np.ndarray]:
    toes, ankle = pose.toes[side], pose.ankles[side]
    hip = pelvis + np.array([0, 0, sign * _HIP])
    thigh, shin = person.legs * THIGH, person.legs * SHIN
    line = ankle - hip
    square = (line**2).sum(-1, keepdims=True)
    share = (thigh**2 - shin**2 + square) / (2 * square)
    ahead = np.array([1, 0, 0]) - line * line[:, :1] / square  # the knee bends forward, at a right angle to the line
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    knee = hip + share * line + np.sqrt(thigh**2 - share**2 * square) * ahead
    ground = (ankle + toes) / 2 * np.array([1, 0, 1])
    waist, hem = hip + np.array([0, 0.03, 0]), hip + 0.6 * (knee - hip)
    return {"hip": hip, "knee": knee, "ankle": ankle, "toes": toes, "ground": ground, "waist": waist, "hem": hem}


def _arm(pose: Pose, person: Person, side: int, sign: int, chest: np.ndarray) -> dict[str, np.ndarray]:
    across = sign * _vectors(np.sin(pose.twist), 0, np.cos(pose.twist))
    upper, fore = (
        _vectors(np.cos(spread) * np.sin(swing), -np.cos(spread) * np.cos(swing), sign * np.sin(spread))
        for swing, spread in pose.arms[side]
    )
    shoulder = chest + person.shoulders * across
    elbow = shoulder + person.arms * UPPER_ARM * upper
    wrist = elbow + person.arms * FOREARM * fore
    breast = chest + 0.55 * person.shoulders * across - np.array([0, 0.03, 0])
    return {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hand": wrist + HAND * fore, "breast": breast}


# Poses


def _pose(person: Person, action: str, phase: np.ndarray) -> Pose:
    return _gait(GAITS[action], person, phase) if action in GAITS else _STANDING[action](person, phase)


def _gait(gait: Gait, person: Person, phase: np.ndarray) -> Pose:
    stride = gait.stride * person.step
    phases = np.stack([phase, phase + 0.5])
    forward = np.cos(2 * np.pi * phases)  # 1 when the foot of this side is in front, and the arm behind
    swing = gait.lean - 0.25 * gait.elbow[0] - person.swing * gait.swing * forward
    bend = gait.elbow[0] - gait.elbow[1] * forward
    toes, tilt = _steps(gait, stride, phases % 1)
    return Pose(
        travel=stride * phase,
        bob=gait.bob * np.cos(4 * np.pi * (phase - 0.35 * gait.duty)),
        lean=np.full(len(phase), gait.lean),
        twist=-0.3 * person.swing * forward[0],
        toes=toes,
        tilt=tilt,
        arms=_angles((swing, 0.1), (swing + bend, -0.1)),
    )


def _steps(gait: Gait, stride: float, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Toes (side, frame, 3) and tilt (side, frame) of feet that land at phase 0 and leave the ground at ``duty``."""
    duty = gait.duty
    swing = np.clip((phase - duty) / (1 - duty), 0, 1)
    trailing = stride * (1 - duty) * swing * (1 - swing) ** 2  # leaving the ground does not change the speed
    there = np.where(phase < duty, stride * (duty / 2 - phase), stride * duty * (_smooth(swing) - 0.5) - trailing)
    land, leave, middle = gait.tilt
    times, values = (0, 0.16 * duty, 0.45 * duty, duty, 0.4 + 0.6 * duty, 1), (land, 0, 0, leave, middle, land)
    tilt = _FLAT + _keyframes(phase, np.array(times), np.array(values))
    up = np.maximum(_TOES_UP, _ANKLE_UP - FOOT * np.sin(tilt)) + gait.lift * np.sin(np.pi * swing**0.6) ** 2
    side = np.array([[0.035], [-0.035]])
    return _vectors(there + 0.35 * FOOT, up, side), tilt


def _boxing(person: Person, phase: np.ndarray) -> Pose:
    punch = np.sin(np.pi * np.minimum(np.stack([phase, phase + 0.5]) % 1 / 0.6, 1)) ** 2
    upper = 0.25 + 1.25 * punch
    return _stand(
        phase,
        toes=((-0.06, 0.08), (0.2, -0.05)),
        arms=_angles((upper, 0.15), (upper + 0.1 + 2.1 * (1 - punch), -0.15)),
        twist=0.5 * (punch[0] - punch[1]),
        lean=0.06 + 0.04 * punch.sum(0),
    )


def _handwaving(person: Person, phase: np.ndarray) -> Pose:
    def spread(phase: np.ndarray) -> np.ndarray:
        return 0.3 + (2.2 + 0.2 * person.swing) * (1 - np.cos(2 * np.pi * phase)) / 2

    return _stand(phase, arms=_angles((0, spread(phase)), (0, spread(phase - 0.04) + 0.2)))


def _handclapping(person: Person, phase: np.ndarray) -> Pose:
    wide = person.swing * (1 - np.cos(2 * np.pi * phase)) / 2
    elbow = person.shoulders + person.arms * UPPER_ARM * math.sin(0.15)  # from the middle, when the hands meet
    meet = -math.asin((elbow - _HAND_RADIUS) / (person.arms * FOREARM + HAND))
    return _stand(phase, arms=_angles((0.5, 0.15 + 0.5 * wide), (1.9, meet + 1.1 * wide)))


_STANDING = {"boxing": _boxing, "handclapping": _handclapping, "handwaving": _handwaving}


def _stand(phase: np.ndarray, arms: np.ndarray, toes: tuple = ((0.06, 0.1), (0.06, -0.1)), twist=0.0, lean=0.0) -> Pose:
    """Feet on the ground at ``toes``, (forward, near) of either side; the body sways a little."""
    still = np.zeros(len(phase))
    feet = [_vectors(forward, _TOES_UP, near + still) for forward, near in toes]
    return Pose(
        travel=still,
        bob=0.004 * np.cos(2 * np.pi * phase),
        lean=lean + 0.01 * np.sin(2 * np.pi * phase),
        twist=twist + still,
        toes=np.stack(feet),
        tilt=np.full((2, len(phase)), _FLAT),
        arms=arms,
    )


def _angles(upper: tuple, fore: tuple) -> np.ndarray:
    """(swing, spread) of upper arm and forearm, each for both sides or of shape (side, frame), as `Pose` has them."""
    angles = np.stack(np.broadcast_arrays(*upper, *fore, np.zeros((2, 1)))[:4])
    return angles.reshape(2, 2, 2, -1).transpose(2, 0, 1, 3)


def _vectors(forward, up, near) -> np.ndarray:
    return np.stack(np.broadcast_arrays(forward, up, near), axis=-1)


def _smooth(share: np.ndarray) -> np.ndarray:
    return share**2 * (3 - 2 * share)


def _keyframes(phase: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A smooth curve through values at rising times from 0 to 1, level at each of them."""
    index = np.searchsorted(times, phase, side="right") - 1
    share = (phase - times[index]) / (times[index + 1] - times[index])
    return values[index] + (values[index + 1] - values[index]) * _smooth(share)


# From joints to pictures


def _crossings(
    generator: np.random.Generator, person: Person, action: str, figure: list[Capsule], diagonal: bool
) -> list[Part]:
    """Four ways through the picture, to and fro, of as many frames as something is to be seen."""
    gait, parts = GAITS[action], []
    direction = generator.choice([-1, 1])
    angle = generator.uniform(0.35, 0.5) * generator.choice([-1, 1]) if diagonal else generator.uniform(-0.08, 0.08)
    for index in range(4):
        rate = person.tempo * generator.normal(1, 0.015) / gait.period
        cycles = 2 * WIDTH / (person.height * person.step * gait.stride)
        phase = np.arange(0, cycles, rate) + person.phase + generator.random()
        joints = joint_positions(person, action, phase)
        middle = joints["pelvis"][len(phase) // 2] * np.array([1, 0, 0])
        joints = {joint: position - middle for joint, position in joints.items()}
        outlines = _outlines(joints, person, figure, angle, direction, np.ones(len(phase)))
        x = outlines[..., 0].reshape(len(phase), -1) / 2**_SHIFT
        seen = np.flatnonzero((x.max(1) > 1) & (x.min(1) < WIDTH - 2))
        gap = int(generator.integers(12, 30)) if index else 0
        parts.append(Part(gap, np.ones(len(seen)), outlines[seen]))
        direction, angle = -direction, -angle
    return parts


def _repetitions(
    generator: np.random.Generator, person: Person, action: str, figure: list[Capsule], zooming: bool
) -> list[Part]:
    """Four stretches of one standing action."""
    lengths = generator.integers(98, 113, size=4)
    rates = np.repeat(person.tempo * generator.normal(1, 0.02, size=4) / _PERIODS[action], lengths)
    joints = joint_positions(person, action, person.phase + np.cumsum(rates))
    angle = generator.uniform(0.05, 0.35) if action == "boxing" else np.pi / 2 + generator.uniform(-0.12, 0.12)
    turns = np.arange(len(rates)) / generator.uniform(160, 230) + generator.random()
    zoom = np.exp(0.22 * np.sin(2 * np.pi * turns) - 0.08) if zooming else np.ones(len(rates))
    outlines = _outlines(joints, person, figure, angle, generator.choice([-1, 1]), zoom)
    cuts = np.cumsum(lengths)[:-1]
    return [Part(0, *part) for part in zip(np.split(zoom, cuts), np.split(outlines, cuts), strict=True)]


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
        person: whose height and build it is.
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
    turns = np.pi * np.array([np.linspace(0.5, 1.5, 7), np.linspace(-0.5, 0.5, 7)])  # half a circle at either end
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

    def dress(parts: Shapes, side: str = "", light: float = 1) -> list[Capsule]:
        return [
            Capsule(side + start, side + end, (person.build * first, person.build * last), light * greys[material])
            for start, end, first, last, material in parts
        ]

    frontal = action in {"handclapping", "handwaving"}
    light = 1 if frontal else 0.8
    torso = [*dress(_BELLY), *dress(_TORSO, "far_"), *dress(_TORSO, "near_")]
    if scenario == 3:
        torso = [*torso, *dress(_COAT, "far_"), *dress(_COAT, "near_")] if person.coat else [*dress(_BAG), *torso]
    body = [*dress(_LEG, "far_", light), *dress(_LEG, "near_"), *torso, *dress(_HEAD)]
    far, near = dress(_ARM, "far_", light), dress(_ARM, "near_")
    parts = [*body, *far, *near] if frontal else [*far, *body, *near]
    if scenario == 4:
        level = float(background.mean())
        parts = [part._replace(grey=level + 0.6 * (part.grey - level)) for part in parts]
    ground = float(background[_GROUND - 5 :].mean())
    shadow = [Capsule("near_ground", "far_ground", (radius, radius), light * ground) for radius, light in _SHADOW]
    return shadow + parts


def _draw(frames: np.ndarray, part: Part, greys: list[float]) -> None:
    """Draws on frames that show the background."""
    for frame, zoom, outlines in zip(frames, part.zoom.tolist(), part.outlines, strict=True):
        if zoom != 1:
            shift = np.array([[zoom, 0, (1 - zoom) * WIDTH / 2], [0, zoom, (1 - zoom) * HEIGHT / 2]])
            cv2.warpAffine(frame, shift, (WIDTH, HEIGHT), dst=frame, borderMode=cv2.BORDER_REFLECT_101)
        for outline, grey in zip(outlines, greys, strict=True):
            cv2.fillConvexPoly(frame, outline, grey, cv2.LINE_AA, _SHIFT)


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


def _unlike_ground(share: float) -> float:
    """A grey of clothes, dark or light but not that of the ground, for a uniform share of 0 … 1."""
    return 30 + 160 * share if share < 0.6 else 220 + 75 * (share - 0.6)


def _generator(seed: int, person: int, action: int = 0, scenario: int = 0) -> np.random.Generator:
    """Action and scenario count from 1; 0 is for what is the person's own."""
    return np.random.Generator(np.random.Philox(key=[seed, 100 * person + 10 * action + scenario]))


def _require_between(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        raise InputError(f"{name} must be a whole number of 1 … {most}, not {value!r}")
