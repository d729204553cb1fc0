"""Errors of sampled futures against loops, independent libraries and what theory says of Gaussian ensembles."""

import numpy as np
import pytest

from htsr.errors import InputError
from htsr.metrics.ensemble import ensemble_errors, spread_skill

STDDEV = 0.03


def random_samples(num_samples, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((num_samples, 2, 3, 4, 5, 2), np.float32), rng.random((2, 3, 4, 5, 2), np.float32)


def gaussian(num_samples, spread=1.0, seed=2):
    """20000 pixels, each with its own mean; the samples' stddev is ``spread`` times that of the truth."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.4, 0.6, (1, 2, 100, 100, 1))
    truth = mean + rng.normal(0, STDDEV, mean.shape)
    return mean + rng.normal(0, spread * STDDEV, (num_samples, *mean.shape)), truth


def fair_crps(members, truth):
    """All pairs, one after the other."""
    number = len(members)
    pairs = sum(abs(a - b) for a in members for b in members)
    return sum(abs(member - truth) for member in members) / number - pairs / (2 * number * (number - 1))


@pytest.mark.parametrize("num_samples", [2, 3, 6])
def test_errors_are_the_direct_sums(num_samples):
    samples, truth = random_samples(num_samples)
    errors = ensemble_errors(samples, truth)
    assert list(errors) == ["crps", "variance", "mse_of_mean"]
    for b, t in np.ndindex(2, 3):
        direct = []
        for pixel in np.ndindex(4, 5, 2):
            members = [float(member[b, t][pixel]) for member in samples]
            value, mean = float(truth[b, t][pixel]), sum(members) / num_samples
            variance = sum((member - mean) ** 2 for member in members) / (num_samples - 1)
            direct.append([fair_crps(members, value), variance, (mean - value) ** 2])
        for error, expected in zip(errors.values(), np.mean(direct, axis=0), strict=True):
            assert error.dtype == np.float64
            np.testing.assert_allclose(error[b, t], expected, rtol=1e-9)


@pytest.mark.parametrize("num_samples", [2, 5, 20])
def test_a_calibrated_ensemble_is_reliable_with_any_number_of_samples(num_samples):
    """Fair CRPS of a normal forecast of a normal truth is ``stddev / sqrt(pi)``, whatever the number of samples."""
    errors = {name: error.mean() for name, error in ensemble_errors(*gaussian(num_samples)).items()}
    assert errors["crps"] == pytest.approx(STDDEV / np.sqrt(np.pi), rel=0.02)
    assert errors["variance"] == pytest.approx(STDDEV**2, rel=0.03)
    assert spread_skill(errors["variance"], errors["mse_of_mean"], num_samples) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_spread_that_is_wrong_shows(spread):
    crps, variance, square = (error.mean() for error in ensemble_errors(*gaussian(5, spread)).values())
    expected = spread * np.sqrt(6 / 5 / (1 + spread**2 / 5))
    assert spread_skill(variance, square, 5) == pytest.approx(expected, rel=0.02)
    mixed = np.sqrt((1 + spread**2) * 2 / np.pi) - spread / np.sqrt(np.pi)  # E|x - y| - E|x - x'| / 2, over stddev
    assert crps == pytest.approx(STDDEV * mixed, rel=0.02)
    assert crps > 1.05 * STDDEV / np.sqrt(np.pi)


def test_samples_that_agree_are_one_forecast():
    _, truth = random_samples(2)
    forecast = np.full_like(truth, 0.3)
    errors = ensemble_errors(np.stack([forecast] * 5), truth)
    difference = forecast.astype(float) - truth
    np.testing.assert_allclose(errors["crps"], np.abs(difference).mean(axis=(2, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(errors["mse_of_mean"], np.square(difference).mean(axis=(2, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(errors["variance"], 0, atol=1e-30)
    for error in ensemble_errors(np.stack([truth] * 5), truth).values():
        np.testing.assert_array_equal(error, 0)


def test_the_order_of_samples_is_of_no_account():
    samples, truth = random_samples(5)
    expected = ensemble_errors(samples, truth)
    for name, error in ensemble_errors(samples[[3, 0, 4, 1, 2]], truth).items():
        np.testing.assert_array_equal(error, expected[name], err_msg=name)


@pytest.mark.parametrize("hole", ["samples", "truth"])
def test_nan_is_not_hidden(hole):
    samples, truth = random_samples(3)
    (samples[1] if hole == "samples" else truth)[0, 2, 1, 1, 0] = np.nan
    for name, error in ensemble_errors(samples, truth).items():
        np.testing.assert_array_equal(np.isnan(error), [[0, 0, 1], [0, 0, 0]], err_msg=name)


def test_arguments_are_left_alone():
    arrays = random_samples(3)
    before = [array.copy() for array in arrays]
    ensemble_errors(*arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_spread_skill_without_an_error_is_not_available():
    np.testing.assert_allclose(
        spread_skill(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 3.0]), 2), [np.nan, np.nan, 1]
    )


def test_errors_refuse_other_input():
    samples, truth = random_samples(3)
    with pytest.raises(InputError, match=r"at least two samples .* received \(1, 2, 3, 4, 5, 2\)"):
        ensemble_errors(samples[:1], truth)
    with pytest.raises(InputError, match=r"without the first axis, received .* and \(2, 2, 4, 5, 2\)"):
        ensemble_errors(samples, truth[:, :2])
    with pytest.raises(InputError, match=r"samples must lie in \[0, 1\], received .*; clip it first"):
        ensemble_errors(samples + 0.5, truth)
    with pytest.raises(InputError, match=r"truth must be floats in \[0, 1\], received uint8"):
        ensemble_errors(samples, truth.astype(np.uint8))


@pytest.mark.parametrize("num_samples", [2, 7, 30])
def test_crps_is_that_of_scoringrules(num_samples):
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth = random_samples(num_samples)
    expected = scoringrules.crps_ensemble(truth.astype(float), samples.astype(float), m_axis=0, estimator="fair")
    crps = ensemble_errors(samples, truth)["crps"]
    np.testing.assert_allclose(crps, expected.mean(axis=(2, 3, 4)), rtol=1e-9)


@pytest.mark.parametrize("num_samples", [2, 7, 30])
def test_crps_is_that_of_properscoring_made_fair(num_samples):
    properscoring = pytest.importorskip("properscoring")
    samples, truth = (x.astype(float) for x in random_samples(num_samples))
    absolute = np.abs(samples - truth).mean(axis=0)
    plain = properscoring.crps_ensemble(truth, samples, axis=0)  # its pairs are divided by K^2, not by K (K - 1)
    expected = absolute - (absolute - plain) * num_samples / (num_samples - 1)
    np.testing.assert_allclose(ensemble_errors(samples, truth)["crps"], expected.mean(axis=(2, 3, 4)), rtol=1e-9)
