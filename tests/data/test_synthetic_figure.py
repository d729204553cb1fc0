"""Synthetic figures: limbs of constant length, joints that bend the right way, feet that stay, cycles that close."""

import numpy as np
import pytest

from htsr.data.synthetic.actions import ACTIONS, PERSONS
from htsr.data.synthetic.figure import (
    FOOT,
    FOREARM,
    GAITS,
    HAND,
    SHIN,
    THIGH,
    UPPER_ARM,
    joint_positions,
    person_traits,
)


def test_traits_are_of_the_person():
    persons = [person_traits(person) for person in range(1, PERSONS + 1)]
    assert persons == [person_traits(person) for person in range(1, PERSONS + 1)]
    assert len(set(persons)) == PERSONS
    assert person_traits(1, seed=1) != person_traits(1)
    heights = [person.height for person in persons]
    assert max(heights) - min(heights) > 8


@pytest.mark.parametrize("action", ACTIONS)
def test_limbs_keep_their_length_and_joints_bend_the_right_way(action):
    phase = np.linspace(0, 2, 101)
    for number in range(1, PERSONS + 1):
        person = person_traits(number)
        joints = joint_positions(person, action, phase)
        lengths = {
            ("hip", "knee"): person.legs * THIGH,
            ("knee", "ankle"): person.legs * SHIN,
            ("ankle", "toes"): FOOT,
            ("shoulder", "elbow"): person.arms * UPPER_ARM,
            ("elbow", "wrist"): person.arms * FOREARM,
            ("wrist", "hand"): HAND,
        }
        for side in ("near", "far"):
            limbs = {joint: joints[f"{side}_{joint}"] for pair in lengths for joint in pair}
            for (start, end), length in lengths.items():
                found = np.linalg.norm(limbs[end] - limbs[start], axis=-1)
                np.testing.assert_allclose(found, person.height * length, rtol=1e-9)
            assert (forward_of_line(limbs["hip"], limbs["knee"], limbs["ankle"]) > 0).all()
            if action in {*GAITS, "boxing"}:
                assert (forward_of_line(limbs["shoulder"], limbs["elbow"], limbs["wrist"]) < 0).all()


def forward_of_line(start, middle, end):
    """How far a middle joint bulges to the right of the way from start to end, that is forward for a way down."""
    line, bulge = (end - start)[:, :2], (middle - start)[:, :2]
    return line[:, 0] * bulge[:, 1] - line[:, 1] * bulge[:, 0]


@pytest.mark.parametrize("action", GAITS)
def test_a_planted_foot_stays_where_it_is(action):
    """While toes are at their lowest they move less than a tenth of a pixel in a twentieth of a cycle."""
    phase = np.arange(0, 4, 0.05)
    for number in range(1, PERSONS + 1):
        joints = joint_positions(person_traits(number), action, phase)
        for side in ("near", "far"):
            toes = joints[f"{side}_toes"]
            planted = toes[:, 1] <= toes[:, 1].min() + 0.01
            both = planted[1:] & planted[:-1]
            assert both.mean() > 0.5 * GAITS[action].duty
            assert np.abs(np.diff(toes[:, 0]))[both].max() < 0.1


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_below_the_ground_and_a_cycle_closes(action):
    phase = np.linspace(0, 1, 61)
    joints = joint_positions(person_traits(2), action, phase)
    assert min(position[:, 1].min() for position in joints.values()) >= 0
    way = joints["pelvis"][-1, 0] - joints["pelvis"][0, 0]
    assert (way > 30) == (action in GAITS)
    for position in joints.values():
        np.testing.assert_allclose(position[-1] - position[0], [way, 0, 0], atol=1e-9)
    frame_to_frame = [np.abs(np.diff(position, axis=0)).max() for position in joints.values()]
    assert max(frame_to_frame) < 10


@pytest.mark.parametrize("action", ACTIONS)
def test_a_position_depends_on_its_own_phase_alone(action):
    phase = np.linspace(0.3, 4.1, 57)
    joints = joint_positions(person_traits(13), action, phase)
    for joint, position in joint_positions(person_traits(13), action, phase[20:21]).items():
        np.testing.assert_allclose(position[0], joints[joint][20], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("action", GAITS)
def test_the_feet_take_turns(action):
    joints = joint_positions(person_traits(4), action, np.linspace(0, 1, 41))
    ahead = joints["near_toes"][:, 0] - joints["far_toes"][:, 0]
    np.testing.assert_allclose(ahead[20:], -ahead[:21], atol=1e-9)
    hand_ahead = joints["near_hand"][:, 0] - joints["far_hand"][:, 0]
    assert (ahead * hand_ahead).sum() < 0  # arms swing against the legs


def test_hands_meet_in_clapping_and_rise_above_the_head_in_waving():
    phase = np.linspace(0, 1, 41)
    for number in range(1, PERSONS + 1):
        person = person_traits(number)
        clap = joint_positions(person, "handclapping", phase)
        apart = np.linalg.norm(clap["near_hand"] - clap["far_hand"], axis=-1) / person.height
        assert apart.min() < 0.04
        assert apart.max() > 0.3
        wave = joint_positions(person, "handwaving", phase)
        assert wave["near_hand"][:, 1].max() > wave["crown"][:, 1].max()
        assert wave["near_hand"][:, 1].min() < wave["chest"][:, 1].min()
