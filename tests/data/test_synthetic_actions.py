"""Synthetic actions: pure functions, the layout of KTH, directions, speeds, errors."""

import numpy as np
import pytest

from htsr.data.synthetic.actions import ACTIONS, HEIGHT, WIDTH, action_video
from htsr.data.synthetic.figure import GAITS
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
