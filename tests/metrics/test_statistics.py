"""p-values of paired differences over clips."""

import numpy as np
import pytest

from htsr.metrics.statistics import holm, sign_flip_p_value


def test_sign_flips_have_the_p_value_of_counting():
    """Six clips, all better: of 64 ways to set signs, two are as extreme."""
    p = sign_flip_p_value(np.array([1.0, 2.0, 0.5, 1.5, 1.0, 3.0]))
    assert p == pytest.approx(2 / 64, abs=0.006)
    assert sign_flip_p_value(np.zeros(5)) == 1
    assert np.isnan(sign_flip_p_value(np.array([1.0, np.nan])))
    rng = np.random.default_rng(0)
    false_alarms = [sign_flip_p_value(rng.normal(size=30), seed=i) < 0.1 for i in range(100)]
    assert 2 <= sum(false_alarms) <= 20


def test_holm_multiplies_by_how_many_are_left():
    assert holm({"a": 0.01, "b": 0.02, "c": 0.5}) == {"a": 0.03, "b": 0.04, "c": 0.5}
    assert holm({"a": 0.6, "b": 0.5}) == {"b": 1.0, "a": 1.0}
    with_nan = holm({"a": np.nan, "b": 0.02, "c": 0.5})
    assert np.isnan(with_nan.pop("a"))
    assert with_nan == {"b": 0.04, "c": 0.5}
