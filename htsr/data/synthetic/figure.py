"""A person who moves: the joints of a body that walks, jogs, runs, boxes, claps or waves, without pictures.

Joints are points (forward, up, near) in shares of the body height, where near is the person's right. Feet follow a
prescribed path, fixed to the ground while they carry weight, and the knees follow from it; arms are turned by angles.
All are smooth periodic functions of the phase of the movement, which is counted in cycles.
"""

import math
from typing import NamedTuple

import numpy as np

# Segments as shares of the body height, about those of Drillis and Contini (1966); the foot is from ankle to toes.
THIGH, SHIN, FOOT, TRUNK, UPPER_ARM, FOREARM, HAND = 0.245, 0.235, 0.12, 0.288, 0.186, 0.146, 0.05
HAND_RADIUS = 0.017
_HIP, _ANKLE_UP, _TOES_UP = 0.06, 0.045, 0.018
_FLAT = math.asin((_ANKLE_UP - _TOES_UP) / FOOT)  # how far the line from toes to ankle rises, radians
_SIDES = np.array([[1], [-1]])  # near and far, (side, frame)

Angle = np.ndarray | float  # radians, of a shape that broadcasts to (side, frame)


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

    stride: float  # length of a cycle of two steps
    duty: float  # share of the cycle that a foot is on the ground
    lift: float  # of the toes of the swinging foot
    tilt: tuple[float, float, float]  # heel above toes when the foot lands, leaves and is half way through its swing
    bob: float  # of the pelvis, up over the standing foot (down where negative)
    lean: float
    swing: float  # of the upper arm to either side
    elbow: tuple[float, float]  # bend, and how much it varies


class Pose(NamedTuple):
    """What determines the joints; where there are two sides they are (near, far)."""

    travel: np.ndarray  # of the pelvis, share of the height, (frame,)
    bob: np.ndarray  # (frame,)
    lean: Angle
    twist: Angle  # of the near shoulder forward
    toes: np.ndarray  # (side, frame, 3) or (side, 1, 3), from the point of the ground below the pelvis
    tilt: Angle  # of the feet
    upper: tuple[Angle, Angle]  # swing forward and spread of the upper arms from hanging down
    fore: tuple[Angle, Angle]  # the same of the forearms

    @property
    def ankles(self) -> np.ndarray:
        """Of the shape of the toes."""
        return self.toes + FOOT * _vectors(-np.cos(self.tilt), np.sin(self.tilt), 0)


GAITS = {
    "walking": Gait(0.6, 0.6, 0.02, (-0.3, 0.65, 0.4), 0.01, 0.04, 0.4, (0.3, 0.15)),
    "jogging": Gait(0.62, 0.42, 0.07, (-0.1, 0.85, 0.9), -0.01, 0.12, 0.45, (1.4, 0.2)),
    "running": Gait(0.82, 0.34, 0.14, (-0.1, 0.95, 1.2), -0.012, 0.22, 0.75, (1.5, 0.3)),
}


def person_traits(person: int, *, seed: int = 0) -> Person:
    """The traits of person 1, 2 …, a pure function of (seed, person)."""
    vary = np.random.Generator(np.random.Philox(key=[seed, 100 * person])).uniform
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
        action: one of ``GAITS``, or "boxing", "handclapping" or "handwaving".
        phase: of the movement, cycles, (frame,).

    Returns:
        Joints by name, pixels (frame, 3): forward, where cycle 0 begins at 0, up from the ground, near. The shoulder,
        elbow, wrist, hand, hip, knee, ankle and toes of the two sides are named like "near_knee".
    """
    pose = _pose(person, action, phase)
    joints = _trunk(pose, _vectors(0, _pelvis_height(person, action) + pose.bob, 0))
    limbs = _legs(pose, person, joints["pelvis"]) | _arms(pose, person, joints["chest"])
    for joint, (near, far) in limbs.items():
        joints |= {f"near_{joint}": near, f"far_{joint}": far}
    travel = _vectors(pose.travel, 0, 0)
    return {joint: person.height * (position + travel) for joint, position in joints.items()}


def _unlike_ground(share: float) -> float:
    """A grey of clothes, dark or light but not that of the ground, for a uniform share of 0 … 1."""
    return 30 + 160 * share if share < 0.6 else 220 + 75 * (share - 0.6)


# From pose to joints, in shares of the height: (frame, 3), those of the limbs (side, frame, 3)


def _pelvis_height(person: Person, action: str) -> float:
    """The height about which the pelvis moves: where a leg is just about straight once in a cycle."""
    pose = _pose(person, action, np.linspace(0, 1, 100))
    forward, up, near = np.moveaxis(pose.ankles, -1, 0)
    reach = 0.995 * person.legs * (THIGH + SHIN)
    highest = up + np.sqrt(reach**2 - forward**2 - (np.abs(near) - _HIP) ** 2)
    return float((highest - pose.bob).min())


def _trunk(pose: Pose, pelvis: np.ndarray) -> dict[str, np.ndarray]:
    def above(joint: np.ndarray, forward: float, up: float, lean: Angle) -> np.ndarray:
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


def _legs(pose: Pose, person: Person, pelvis: np.ndarray) -> dict[str, np.ndarray]:
    toes, ankle = pose.toes, pose.ankles
    hip = pelvis + _vectors(0, 0, _HIP * _SIDES)
    thigh, shin = person.legs * THIGH, person.legs * SHIN
    line = ankle - hip
    square = (line**2).sum(-1, keepdims=True)
    share = (thigh**2 - shin**2 + square) / (2 * square)
    ahead = [1, 0, 0] - line * line[..., :1] / square  # the knee bends forward, at a right angle to the line
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    knee = hip + share * line + np.sqrt(thigh**2 - share**2 * square) * ahead
    ground = (ankle + toes) / 2 * [1, 0, 1]
    waist, hem = hip + np.array([0, 0.03, 0]), hip + 0.6 * (knee - hip)
    return {"hip": hip, "knee": knee, "ankle": ankle, "toes": toes, "ground": ground, "waist": waist, "hem": hem}


def _arms(pose: Pose, person: Person, chest: np.ndarray) -> dict[str, np.ndarray]:
    across = _vectors(_SIDES * np.sin(pose.twist), 0, _SIDES * np.cos(pose.twist))
    upper, fore = (
        _vectors(np.cos(spread) * np.sin(swing), -np.cos(spread) * np.cos(swing), _SIDES * np.sin(spread))
        for swing, spread in (pose.upper, pose.fore)
    )
    shoulder = chest + person.shoulders * across
    elbow = shoulder + person.arms * UPPER_ARM * upper
    wrist = elbow + person.arms * FOREARM * fore
    breast = chest + 0.55 * person.shoulders * across - [0, 0.03, 0]
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
        lean=gait.lean,
        twist=-0.3 * person.swing * forward[0],
        toes=toes,
        tilt=tilt,
        upper=(swing, 0.1),
        fore=(swing + bend, -0.1),
    )


def _steps(gait: Gait, stride: float, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Toes (side, frame, 3) and tilt (side, frame) of feet that land at phase 0 and leave the ground at ``duty``."""
    duty, (land, leave, middle) = gait.duty, gait.tilt
    swing = np.clip((phase - duty) / (1 - duty), 0, 1)
    trailing = stride * (1 - duty) * swing * (1 - swing) ** 2  # leaving the ground does not change the speed
    advance = stride * duty * (_keyframes(phase, (0, 0), (duty, 0), (1, 1)) - 0.5) - trailing
    there = np.where(phase < duty, stride * (duty / 2 - phase), advance)
    flat = (0.16 * duty, 0), (0.45 * duty, 0)
    tilt = _FLAT + _keyframes(phase, (0, land), *flat, (duty, leave), (0.4 + 0.6 * duty, middle), (1, land))
    up = np.maximum(_TOES_UP, _ANKLE_UP - FOOT * np.sin(tilt)) + gait.lift * np.sin(np.pi * swing**0.6) ** 2
    return _vectors(there + 0.35 * FOOT, up, 0.035 * _SIDES), tilt


def _boxing(person: Person, phase: np.ndarray) -> Pose:
    punch = np.sin(np.pi * np.minimum(np.stack([phase, phase + 0.5]) % 1 / 0.6, 1)) ** 2
    upper = 0.25 + 1.25 * punch
    pose = _standing(phase, (upper, 0.15), (upper + 0.1 + 2.1 * (1 - punch), -0.15), ((-0.06, 0.08), (0.2, -0.05)))
    return pose._replace(lean=0.06 + 0.04 * punch.sum(0) + pose.lean, twist=0.5 * (punch[0] - punch[1]))


def _handwaving(person: Person, phase: np.ndarray) -> Pose:
    both = np.stack([phase, phase - 0.04])  # forearms lag
    upper, fore = 0.3 + (2.2 + 0.2 * person.swing) * (1 - np.cos(2 * np.pi * both)) / 2
    return _standing(phase, (0, upper), (0, fore + 0.2))


def _handclapping(person: Person, phase: np.ndarray) -> Pose:
    wide = person.swing * (1 - np.cos(2 * np.pi * phase)) / 2
    elbow = person.shoulders + person.arms * UPPER_ARM * math.sin(0.15)  # from the middle, when the hands meet
    meet = -math.asin((elbow - HAND_RADIUS) / (person.arms * FOREARM + HAND))
    return _standing(phase, (0.5, 0.15 + 0.5 * wide), (1.9, meet + 1.1 * wide))


_STANDING = {"boxing": _boxing, "handclapping": _handclapping, "handwaving": _handwaving}


def _standing(phase: np.ndarray, upper: tuple, fore: tuple, toes: tuple = ((0.06, 0.1), (0.06, -0.1))) -> Pose:
    """The feet stay where they are, the near and the far toes at (forward, near); the body sways a little."""
    return Pose(
        travel=np.zeros(len(phase)),
        bob=0.004 * np.cos(2 * np.pi * phase),
        lean=0.01 * np.sin(2 * np.pi * phase),
        twist=0,
        toes=np.array([[(forward, _TOES_UP, near)] for forward, near in toes]),
        tilt=_FLAT,
        upper=upper,
        fore=fore,
    )


def _keyframes(phase: np.ndarray, *keys: tuple[float, float]) -> np.ndarray:
    """A smooth curve through (time, value) at rising times from 0 to 1, level at each of them."""
    times, values = np.array(keys).T
    index = np.searchsorted(times, phase, side="right") - 1
    share = (phase - times[index]) / (times[index + 1] - times[index])
    return values[index] + (values[index + 1] - values[index]) * (share**2 * (3 - 2 * share))


def _vectors(forward: Angle, up: Angle, near: Angle) -> np.ndarray:
    """(…, 3) from coordinates that broadcast."""
    return np.stack(np.broadcast_arrays(forward, up, near), axis=-1)
