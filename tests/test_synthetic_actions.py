"""Synthetic actions: pure functions, the layout of KTH, joints that are a body's, directions, speeds, errors."""

import numpy as np
import pytest

from htsr.data.synthetic_actions import (
    ACTIONS,
    FOOT,
    FOREARM,
    GAITS,
    HAND,
    HEIGHT,
    PERSONS,
    SHIN,
    THIGH,
    UPPER_ARM,
    WIDTH,
    action_video,
    joint_positions,
    person_traits,
)
from htsr.errors import InputError

STANDING = sorted(set(ACTIONS) - set(GAITS))
FRAMES_PER_CROSSING = {"walking": (85, 150), "jogging": (55, 100), "running": (36, 68)}


def figure(frames, background):
    """Where a frame differs from the background, and by how much, (frame, row, column)."""
    difference = np.abs(frames.astype(np.int16) - background)
    return np.where(difference > 12, difference, 0)


def empty_frame(video, ranges):
    """A frame of the pause between the first two crossings."""
    return video[ranges[0][1] + 1].astype(np.int16)


def centroids(frames, background):
    """Columns of the figure's centre, (frame,)."""
    weight = figure(frames, background).sum(1)
    return (weight * np.arange(WIDTH)).sum(1) / weight.sum(1)


# Videos


@pytest.mark.parametrize("scenario", [1, 2, 3, 4])
@pytest.mark.parametrize("action", ACTIONS)
def test_layout(action, scenario):
    video, ranges = action_video(11, action, scenario)
    assert video.shape[1:] == (HEIGHT, WIDTH)
    assert video.dtype == np.uint8
    assert len(ranges) == 4
    assert all(isinstance(number, int) for pair in ranges for number in pair)
    borders = np.array(ranges)
    assert borders[0, 0] == 1
    assert borders[-1, 1] == len(video)
    assert (borders[:, 1] > borders[:, 0]).all()
    gaps = borders[1:, 0] - borders[:-1, 1] - 1
    lengths = borders[:, 1] - borders[:, 0] + 1
    if action in GAITS:
        assert ((gaps >= 12) & (gaps < 30)).all()
        least, most = FRAMES_PER_CROSSING[action]
        assert ((lengths >= least) & (lengths <= most)).all(), lengths
    else:
        assert not gaps.any()
        assert ((lengths >= 98) & (lengths <= 112)).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_video_is_a_pure_function_of_its_arguments(action):
    video, ranges = action_video(3, action, 2, seed=5)
    again, ranges_again = action_video(3, action, 2, seed=5)
    np.testing.assert_array_equal(again, video)
    assert ranges_again == ranges
    others = [
        action_video(4, action, 2, seed=5),
        action_video(3, action, 3, seed=5),
        action_video(3, action, 2, seed=6),
    ]
    assert len({first[:40].tobytes() for first, _ in [(video, ranges), *others]}) == 4


@pytest.mark.parametrize("scenario", [1, 2, 3, 4])
@pytest.mark.parametrize("action", GAITS)
def test_the_figure_is_seen_in_the_sequences_and_not_between_them(action, scenario):
    video, ranges = action_video(7, action, scenario)
    background = empty_frame(video, ranges)
    seen = np.abs(video - background).max(axis=(1, 2)) > 3
    inside = np.zeros(len(video), bool)
    for first, last in ranges:
        inside[first - 1 : last] = True
        middle = (first + last) // 2
        assert (figure(video[middle], background) > 0).mean() > 0.02
    np.testing.assert_array_equal(seen[~inside], False)
    assert seen[inside].mean() > 0.97  # but for a hand's breadth at the rim


@pytest.mark.parametrize("scenario", [1, 2])
@pytest.mark.parametrize("action", GAITS)
def test_crossings_go_to_and_fro(action, scenario):
    video, ranges = action_video(20, action, scenario)
    background = empty_frame(video, ranges)
    directions = []
    for first, last in ranges:
        way = centroids(video[first + 14 : last - 15], background)
        assert (np.sign(np.diff(way)) == np.sign(way[-1] - way[0])).mean() > 0.9
        directions.append(np.sign(way[-1] - way[0]))
    assert directions in ([1, -1, 1, -1], [-1, 1, -1, 1])


def test_the_figure_faces_the_way_it_goes():
    """A runner's body leans forward: the upper third is ahead of the lower third."""
    for person in (2, 12, 21):
        video, ranges = action_video(person, "running", 1)
        background = empty_frame(video, ranges)
        for first, last in ranges[:2]:
            frames = video[first + 14 : last - 15]
            way = centroids(frames, background)
            ahead = centroids(frames[:, 20:60], background[20:60]) - centroids(frames[:, 75:103], background[75:103])
            assert np.sign(ahead.mean()) == np.sign(way[-1] - way[0])


@pytest.mark.parametrize("person", [1, 9, 25])
def test_walking_is_slower_than_jogging_and_jogging_than_running(person):
    speeds = []
    for action in ("walking", "jogging", "running"):
        video, ranges = action_video(person, action, 1)
        background = empty_frame(video, ranges)
        first, last = ranges[0]
        speeds.append(abs(np.diff(centroids(video[first + 14 : last - 15], background)).mean()))
    assert speeds[1] > 1.2 * speeds[0]
    assert speeds[2] > 1.2 * speeds[1]


@pytest.mark.parametrize("action", STANDING)
def test_standing_actions_repeat(action):
    video, ranges = action_video(8, action, 1)
    first, last = ranges[1]
    frames = video[first - 1 : last].astype(float)
    lags = np.arange(4, 50)
    errors = np.array([np.abs(frames[lag:] - frames[:-lag]).mean() for lag in lags])
    assert errors.min() < 0.35 * errors.max()  # one lag brings the picture back, another one is far from it
    assert errors.max() > 0.5


def test_scenario_2_changes_the_scale():
    video, ranges = action_video(6, "walking", 2)
    background = empty_frame(video, ranges)
    first, last = ranges[0]
    heights = np.sort([figure(video[i], background).any(1).sum() for i in (first + 20, last - 21)])
    assert heights[1] > 1.15 * heights[0]
    frames = action_video(6, "boxing", 2)[0].astype(float)
    assert frames.std(0)[:8].mean() > 2 * action_video(6, "boxing", 1)[0].astype(float).std(0)[:8].mean() + 1


def test_scenario_4_has_less_contrast():
    def contrast(scenario):
        video, ranges = action_video(14, "walking", scenario)
        return figure(video, empty_frame(video, ranges)).max()

    assert contrast(4) < 0.8 * contrast(1)


# Persons


def test_traits_are_of_the_person():
    persons = [person_traits(person) for person in range(1, PERSONS + 1)]
    assert persons == [person_traits(person) for person in range(1, PERSONS + 1)]
    assert len(set(persons)) == PERSONS
    assert person_traits(1, seed=1) != person_traits(1)
    heights = [person.height for person in persons]
    assert max(heights) - min(heights) > 8


def test_a_person_has_the_same_trousers_in_every_video():
    """The grey of the legs and how wide they are, in two actions that move the arms only."""
    for person in (1, 5, 17):
        seen = []
        for action in ("handwaving", "handclapping"):
            video, _ = action_video(person, action, 1)
            steady = np.median(video, axis=0)
            legs = np.abs(steady[70:100] - np.median(steady)) > 20
            seen.append((np.median(steady[70:100][legs]), legs.sum(1).mean()))
        np.testing.assert_allclose(seen[0], seen[1], atol=5)


# Joints


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
    """While toes are at their lowest they move less than a tenth of a pixel a frame forward or backward."""
    gait = GAITS[action]
    for number in range(1, PERSONS + 1):
        phase = np.arange(0, 4, 1 / gait.period)
        joints = joint_positions(person_traits(number), action, phase)
        for side in ("near", "far"):
            toes = joints[f"{side}_toes"]
            planted = toes[:, 1] <= toes[:, 1].min() + 0.01
            both = planted[1:] & planted[:-1]
            assert both.mean() > 0.5 * gait.duty
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


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "walking", 1), r"^person must be a whole number of 1 … 25, not 0$"),
        ((26, "walking", 1), r"^person must be a whole number of 1 … 25, not 26$"),
        ((True, "walking", 1), r"^person must be a whole number of 1 … 25, not True$"),
        ((1, "wlking", 1), r"^unknown action 'wlking'; did you mean 'walking'\? known: boxing, handclapping, "),
        ((1, "walking", 5), r"^scenario must be a whole number of 1 … 4, not 5$"),
        ((1, "walking", 1.5), r"^scenario must be a whole number of 1 … 4, not 1.5$"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        action_video(*arguments)


def test_refused_seed():
    with pytest.raises(InputError, match=r"^seed must be a whole number of at least 0, not -1$"):
        action_video(1, "walking", 1, seed=-1)
