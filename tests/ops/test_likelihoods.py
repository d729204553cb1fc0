import numpy as np
import tensorflow as tf

from htsr.ops import likelihoods


def parameters():
    rng = np.random.default_rng(1)
    means = rng.standard_normal((2, 2, 3, 4)).astype("float32")
    stddevs = rng.uniform(0.3, 2.0, (2, 2, 3, 4)).astype("float32")
    return means[0], stddevs[0], means[1], stddevs[1]


def test_kl_closed_form():
    qm, qs, pm, ps = parameters()
    expected = (np.log(ps / qs) + (qs**2 + (qm - pm) ** 2) / (2 * ps**2) - 0.5).sum(-1)
    np.testing.assert_allclose(likelihoods.gaussian_kl(qm, qs, pm, ps), expected, rtol=1e-5)
    assert np.abs(likelihoods.gaussian_kl(qm, qs, qm, qs)).max() < 1e-6


def test_kl_monte_carlo():
    qm, qs, pm, ps = parameters()
    z = qm + qs * np.random.default_rng(2).standard_normal((40_000, *qm.shape)).astype("float32")
    q, p = likelihoods.diagonal_normal(qm, qs), likelihoods.diagonal_normal(pm, ps)
    draws = q.log_prob(z) - p.log_prob(z)
    error = 5 * tf.math.reduce_std(draws, 0) / 200
    assert np.all(np.abs(tf.reduce_mean(draws, 0) - likelihoods.gaussian_kl(qm, qs, pm, ps)) < error)


def test_nll():
    rng = np.random.default_rng(3)
    frames, prediction = rng.random((2, 2, 3, 4, 5, 1)).astype("float32")
    per_pixel = (frames - prediction) ** 2 / (2 * 0.09) + np.log(0.3) + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(likelihoods.gaussian_nll(frames, prediction, 0.3), per_pixel.sum((2, 3, 4)), rtol=1e-5)


def test_the_calibrated_likelihood_is_the_best_one_of_a_variance():
    rng = np.random.default_rng(3)
    frames, prediction = rng.random((2, 2, 3, 4, 5, 1)).astype("float32")
    stddevs = np.sqrt(((frames - prediction) ** 2).mean((2, 3, 4)))
    best = likelihoods.calibrated_nll(frames, prediction, 0.0).numpy()
    for i in np.ndindex(best.shape):
        one = [x[i][None, None] for x in (frames, prediction)]
        fixed = [likelihoods.gaussian_nll(*one, stddev * stddevs[i]).numpy().item() for stddev in (0.95, 1.0, 1.05)]
        np.testing.assert_allclose(best[i], fixed[1], rtol=1e-5)
        assert fixed[1] < min(fixed[0], fixed[2])
    same = likelihoods.calibrated_nll(frames, frames, 0.3)
    np.testing.assert_allclose(same, 0.5 * 20 * (1 + np.log(2 * np.pi * 0.09)), rtol=1e-5)
