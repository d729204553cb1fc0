"""Contingency tables and their scores against loops, published tables and hand-computed numbers."""

import numpy as np
import pytest

from htsr.errors import InputError
from htsr.metrics.events import check_thresholds, event_counts
from htsr.metrics.metric import METRICS

COMPONENTS = ("hits", "misses", "false_alarms", "correct_negatives")
FINLEY = {"hits": 28, "misses": 23, "false_alarms": 72, "correct_negatives": 2680}


@pytest.fixture
def radar():
    """Reflectivities in [0, 1] of -10 ... 70 dBZ, 30 % of the truth not measured."""
    rng = np.random.default_rng(1)
    truth = rng.random((2, 3, 7, 5, 2), np.float32)
    prediction = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1).astype(np.float32)
    truth[rng.random(truth.shape) < 0.3] = np.nan
    return prediction, truth


EVENT_SCORES = [name for name, metric in METRICS.items() if "hits" in metric.components]


def score(name, table):
    """A score from a table by component."""
    metric = METRICS[name]
    return metric.combine(*(np.asarray(table[component], float) for component in metric.components))


def test_counts_are_the_pixels_counted_one_by_one(radar):
    prediction, truth = radar
    counts = event_counts(prediction, truth, [10, 30.5], units=(-10, 70))
    assert list(counts) == [f"{component}@{threshold}" for threshold in ("10", "30.5") for component in COMPONENTS]
    for threshold in (10, 30.5):
        expected = {component: np.zeros((2, 3)) for component in COMPONENTS}
        for index in np.ndindex(truth.shape):
            observed = -10 + 80 * float(truth[index])
            if np.isnan(observed):
                continue
            forecast = -10 + 80 * float(prediction[index]) >= threshold
            event = observed >= threshold
            name = {(1, 1): "hits", (0, 1): "misses", (1, 0): "false_alarms", (0, 0): "correct_negatives"}
            expected[name[forecast, event]][index[:2]] += 1
        for component in COMPONENTS:
            count = counts[f"{component}@{threshold:g}"]
            assert count.dtype == np.float64
            np.testing.assert_array_equal(count, expected[component], err_msg=component)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 100), (-32, 68), (10, 1293)])
def test_a_stored_quantity_equal_to_the_threshold_is_an_event(dtype, low, high):
    """Most whole numbers between 0 and 100, stored as float32 between 0 and 1 and brought back, come out too low."""
    levels = np.arange(low, high + 1)
    frame = ((levels - low).astype(dtype) / dtype(high - low)).reshape(1, 1, 1, -1, 1)
    thresholds = levels[1:101:3]
    counts = event_counts(frame, frame, thresholds.tolist(), units=(low, high))
    assert [int(counts[f"hits@{threshold}"][0, 0]) for threshold in thresholds] == [
        high + 1 - threshold for threshold in thresholds
    ]


def test_nan_in_the_prediction_matters_only_where_the_truth_is_known(radar):
    prediction, truth = (x.copy() for x in radar)
    prediction[np.isnan(truth)] = np.nan
    expected = event_counts(*radar, [0.4])
    for name, count in event_counts(prediction, truth, [0.4]).items():
        np.testing.assert_array_equal(count, expected[name], err_msg=name)
    prediction[1, 2][np.unravel_index(np.nanargmax(truth[1, 2]), truth[1, 2].shape)] = np.nan
    for name, count in event_counts(prediction, truth, [0.4]).items():
        np.testing.assert_array_equal(np.isnan(count), [[0, 0, 0], [0, 0, 1]], err_msg=name)


def test_a_frame_without_measurements_counts_nothing(radar):
    prediction, truth = radar
    truth[0, 1] = np.nan
    counts = event_counts(prediction, truth, [0.4])
    assert [counts[f"{component}@0.4"][0, 1] for component in COMPONENTS] == [0, 0, 0, 0]


def test_scores_of_finleys_tornado_forecasts():
    """Finley 1884, as scored in Wilks, section 8.2."""
    published = {"csi": 0.228, "pod": 0.549, "far": 0.720, "bias": 1.96, "hss": 0.355}
    assert list(published) == EVENT_SCORES
    for name, value in published.items():
        assert score(name, FINLEY) == pytest.approx(value, abs=0.005 if name == "bias" else 0.0005), name


@pytest.mark.parametrize("name", EVENT_SCORES)
def test_scores_of_means_are_scores_of_sums(name):
    means = {component: count / 2803 for component, count in FINLEY.items()}
    assert score(name, means) == pytest.approx(score(name, FINLEY), rel=1e-12)


def test_scores_without_their_events_are_not_available():
    quiet = {"hits": 0, "misses": 0, "false_alarms": 0, "correct_negatives": 9}
    alarm = {**quiet, "false_alarms": 1}
    missed = {**quiet, "misses": 1}
    everywhere = {"hits": 9, "misses": 0, "false_alarms": 0, "correct_negatives": 0}
    tables = [quiet, alarm, missed, everywhere]
    expected = {
        "csi": [np.nan, 0, 0, 1],
        "pod": [np.nan, np.nan, 0, 1],
        "far": [np.nan, 1, np.nan, 0],
        "bias": [np.nan, np.nan, 0, 1],
        "hss": [np.nan, 0, 0, np.nan],
    }
    together = {component: [table[component] for table in tables] for component in COMPONENTS}
    for name, values in expected.items():
        np.testing.assert_array_equal(score(name, together), values, err_msg=name)
        for table, value in zip(tables, values, strict=True):
            np.testing.assert_array_equal(score(name, table), value, err_msg=name)


def test_a_perfect_forecast_scores_perfectly(radar):
    _, truth = radar
    counts = event_counts(np.nan_to_num(truth), truth, [0.4])
    table = {component: counts[f"{component}@0.4"].sum() for component in COMPONENTS}
    assert [score(name, table) for name in EVENT_SCORES] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([], "one or more quantities above 0 and at most 60, .*, received none"),
        ([0], "above 0 and at most 60, .*, received 0"),
        ([30, 61], "above 0 and at most 60, .*, received 30, 61"),
        ([np.nan], "above 0 and at most 60, .*, received nan"),
        ([30, 20], "must increase .*, received 30, 20; sort them"),
        ([30, 30], "must increase and differ"),
        ([30.00001, 30.00002], "differ in their first six digits, received 30.00001, 30.00002"),
    ],
)
def test_thresholds_that_say_nothing_are_refused(thresholds, message):
    with pytest.raises(InputError, match=message):
        check_thresholds(thresholds, units=(0, 60))
    with pytest.raises(InputError, match=message):
        event_counts(np.zeros((1, 1, 2, 2, 1)), np.zeros((1, 1, 2, 2, 1)), thresholds, units=(0, 60))


@pytest.mark.parametrize("units", [(1, 1), (60, 0), (0, np.inf), (np.nan, 1)])
def test_units_that_are_no_range_are_refused(units):
    with pytest.raises(InputError, match="units must be two finite quantities, the lower one first, received"):
        check_thresholds([0.5], units)


def test_counts_refuse_other_frames(radar):
    prediction, truth = radar
    with pytest.raises(InputError, match=r"one shape .* received \(2, 2, 7, 5, 2\)"):
        event_counts(prediction[:, :2], truth, [0.5])
    with pytest.raises(InputError, match=r"truth must lie in \[0, 1\], received"):
        event_counts(prediction, 80 * truth, [0.5])


def test_scores_are_those_of_scikit_learn(radar):
    sklearn = pytest.importorskip("sklearn.metrics")
    prediction, truth = radar
    known = ~np.isnan(truth)
    forecast, event = prediction[known] >= 0.4, truth[known] >= 0.4
    counts = event_counts(prediction, truth, [0.4])
    table = {component: counts[f"{component}@0.4"].mean() for component in COMPONENTS}
    expected = {
        "csi": sklearn.jaccard_score(event, forecast),
        "pod": sklearn.recall_score(event, forecast),
        "far": 1 - sklearn.precision_score(event, forecast),
        "hss": sklearn.cohen_kappa_score(event, forecast),
    }
    for name, value in expected.items():
        assert score(name, table) == pytest.approx(value, rel=1e-12), name
    (negatives, false_alarms), (misses, hits) = sklearn.confusion_matrix(event, forecast)
    whole = {component: counts[f"{component}@0.4"].sum() for component in COMPONENTS}
    assert list(whole.values()) == [hits, misses, false_alarms, negatives]
