"""Metrics against independent oracles, published values and hand-computed numbers."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr import metrics
from htsr.errors import InputError
from htsr.metrics import frame

perceptual = sys.modules["htsr.metrics.lpips"]  # the name of the package is the function's


@pytest.fixture
def frames():
    rng = np.random.default_rng(1)
    truth = rng.random((2, 3, 20, 24, 3), np.float32)
    prediction = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32)
    prediction[1] = rng.random(truth.shape[1:])
    return prediction, truth


def published_pair(size):
    """The two images behind LPIPS's golden values, in [0, 1]."""
    i, j = np.mgrid[:size, :size] / size
    a = np.stack([np.sin(6 * i + 2 * j), np.cos(9 * j), np.sin(12 * i * j)], -1)
    b = np.stack([np.sin(6 * i + 2 * j + 0.5), np.cos(9 * j**2), np.sin(12 * i * j) * (i > 0.5)], -1)
    return (a + 1) / 2, (b + 1) / 2


def direct_ssim(a, b):
    """One channel, one window after the other, as in the paper."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            variances = (window * (x - mean_x) ** 2).sum() + (window * (y - mean_y) ** 2).sum()
            covariance = (window * (x - mean_x) * (y - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
            values.append(luminance * (2 * covariance + 9e-4) / (variances + 9e-4))
    return np.mean(values)


def direct_gradient(x):
    """One channel, one pair of neighbours after the other."""
    x, (height, width) = x.astype(float), x.shape
    vertical = [abs(x[i, j] - x[i - 1, j]) for i in range(1, height) for j in range(width)]
    horizontal = [abs(x[i, j] - x[i, j - 1]) for i in range(height) for j in range(1, width)]
    return np.mean(vertical) + np.mean(horizontal)


def test_frame_errors_are_the_direct_sums(frames):
    prediction, truth = frames
    for b, t in np.ndindex(2, 3):
        difference = prediction[b, t].astype(float) - truth[b, t]
        square = sum(d * d for d in difference.ravel())
        absolute = sum(abs(d) for d in difference.ravel())
        size = 20 * 24 * 3
        expected = {
            "mse": square / size,
            "mae": absolute / size,
            "rmse": np.sqrt(square / size),
            "mse_sum": square,
            "mae_sum": absolute,
            "psnr": 10 * np.log10(size / square),
            "ssim": np.mean([direct_ssim(prediction[b, t, ..., c], truth[b, t, ..., c]) for c in range(3)]),
            "gradient": np.mean([direct_gradient(prediction[b, t, ..., c]) for c in range(3)]),
            "gradient_truth": np.mean([direct_gradient(truth[b, t, ..., c]) for c in range(3)]),
        }
        together = metrics.frame_errors(prediction, truth)
        assert list(together) == list(expected)
        for name, value in expected.items():
            alone = (
                frame.gradient(prediction if name == "gradient" else truth)
                if name.startswith("gradient")
                else getattr(frame, name)(prediction, truth)
            )
            assert alone.shape == (2, 3)
            assert alone.dtype == np.float64
            np.testing.assert_allclose(alone[b, t], value, rtol=1e-9, err_msg=name)
            np.testing.assert_array_equal(together[name], alone)


def test_psnr_and_ssim_are_tensorflows(frames):
    prediction, truth = frames
    np.testing.assert_allclose(metrics.psnr(prediction, truth), tf.image.psnr(prediction, truth, 1.0), rtol=1e-5)
    np.testing.assert_allclose(metrics.ssim(prediction, truth), tf.image.ssim(prediction, truth, 1.0), atol=1e-5)


def test_equal_frames_are_perfect(frames):
    _, truth = frames
    errors = metrics.frame_errors(truth, truth)
    assert (errors["psnr"] == 100).all()
    assert (errors["mse_sum"] == 0).all()
    np.testing.assert_allclose(errors["ssim"], 1, atol=1e-12)


@pytest.mark.parametrize(("hole", "other"), [(0, "gradient_truth"), (1, "gradient")])
def test_nan_is_not_hidden(frames, hole, other):
    pair = [x.copy() for x in frames]
    pair[hole][0, 1, 0, 0, 0] = np.nan
    for name, values in metrics.frame_errors(*pair).items():
        assert np.isnan(values[0, 1]) == (name != other), name
        assert np.isfinite(np.delete(values.ravel(), 1)).all(), name


def test_nan_hides_no_value_out_of_range(frames):
    prediction, truth = (x.copy() for x in frames)
    truth[0, 0, 0] = np.nan
    truth[1, 2, 3, 4, 0] = 1.5
    with pytest.raises(InputError, match=r"truth must lie in \[0, 1\], received \[.*, 1.5\]"):
        metrics.frame_errors(prediction, truth)


def test_frame_errors_of_a_frame_depend_on_that_frame_alone(frames, monkeypatch):
    together = metrics.frame_errors(*frames)
    monkeypatch.setattr(frame, "_BLOCK_VALUES", 2 * 20 * 24 * 3)  # two frames, then one
    for name, values in metrics.frame_errors(*frames).items():
        np.testing.assert_array_equal(values, together[name], err_msg=name)


def test_gradient_tells_blurred_frames_from_sharp_ones():
    stripes = np.zeros((1, 1, 16, 16, 1))
    stripes[:, :, :, ::2] = 1
    assert frame.gradient(stripes) == 1
    assert frame.gradient(np.moveaxis(stripes, 2, 3)) == 1
    blurred = (stripes + np.roll(stripes, 2, axis=2) + np.roll(stripes, 1, axis=3)) / 3
    np.testing.assert_allclose(frame.gradient(blurred) / frame.gradient(stripes), 1 / 3)
    assert frame.gradient(np.full_like(stripes, 0.7)) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 8, 1), (1, 1, 8, 1, 1), (1, 8, 8, 1), (1, 0, 8, 8, 1)])
def test_gradient_refuses_frames_without_neighbours(shape):
    with pytest.raises(InputError, match=r"at least 2x2 pixels, received shape"):
        frame.gradient(np.zeros(shape))


def test_gradient_refuses_other_values(frames):
    with pytest.raises(InputError, match=r"frames must lie in \[0, 1\]"):
        frame.gradient(frames[1] - 0.5)
    with pytest.raises(InputError, match=r"frames must be floats in \[0, 1\], received int64"):
        frame.gradient(np.ones((1, 1, 2, 2, 1), np.int64))


def test_ratio_is_nan_where_it_is_not_defined():
    np.testing.assert_array_equal(frame.ratio([1, 0, 2, np.nan], [2, 0, 0, 1]), [0.5, np.nan, np.nan, np.nan])
    assert frame.ratio(3, 2) == 1.5


@pytest.mark.parametrize("name", ["mse", "mae", "rmse", "mse_sum", "mae_sum", "psnr", "ssim", "frame_errors"])
def test_frame_errors_refuse_other_input(frames, name):
    prediction, truth = frames
    function = getattr(frame, name)
    with pytest.raises(InputError, match=r"one shape .* received \(2, 2, 20, 24, 3\)"):
        function(prediction[:, :2], truth)
    with pytest.raises(InputError, match=r"one shape .* received \(3, 20, 24, 3\)"):
        function(prediction[0], truth[0])
    with pytest.raises(InputError, match=r"prediction must be floats .* received uint8"):
        function((255 * prediction).astype(np.uint8), truth)
    with pytest.raises(InputError, match=r"prediction must lie in \[0, 1\], received .* clip it first"):
        function(prediction + 0.5, truth)


def test_ssim_refuses_frames_below_its_window():
    small = np.zeros((1, 1, 10, 30, 1))
    with pytest.raises(InputError, match="at least 11x11 pixels, received 10x30"):
        metrics.ssim(small, small)


@pytest.mark.parametrize(("size", "golden"), [(64, 0.287802), (128, 0.484783)])
def test_lpips_golden_values(size, golden):
    assert metrics.lpips(*published_pair(size)) == pytest.approx(golden, abs=5e-6)


def test_lpips_is_itself_wherever_its_network_is_made():
    """In a scope of Keras's without values, as importers build models in, and inside of a graph."""
    a, b = published_pair(64)
    with keras.StatelessScope(initialize_variables=False):
        network = perceptual.LPIPS()
    assert network.distance(network.features(a), network.features(b)) == pytest.approx(0.287802, abs=5e-6)
    perceptual.shared_network.cache_clear()
    vectors = tf.function(lambda x: perceptual.shared_network().embed(x))(tf.constant(np.stack([a, b]), tf.float32))
    assert network.distance(*vectors.numpy()) == pytest.approx(0.287802, abs=5e-6)
    assert metrics.lpips(a, b) == pytest.approx(0.287802, abs=5e-6)


def test_lpips_shapes_grey_and_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 2, 3, 31, 40, 1), np.float32)
    distance = metrics.lpips(a, b)
    assert distance.shape == (2, 3)
    np.testing.assert_allclose(metrics.lpips(np.repeat(a, 3, -1), np.repeat(b, 3, -1)), distance, rtol=1e-5)
    np.testing.assert_allclose(metrics.lpips(a[1, 2], b[1, 2]), distance[1, 2], rtol=1e-4)
    monkeypatch.setattr(perceptual, "_BLOCK_PIXELS", 4 * 31 * 40)
    np.testing.assert_allclose(metrics.lpips(a, b), distance, rtol=1e-4)
    assert (metrics.lpips(a, a) == 0).all()


def test_lpips_features_serve_several_predictions():
    rng = np.random.default_rng(3)
    truth, still = rng.random((2, 4, 32, 32, 3)), rng.random((2, 1, 32, 32, 3))
    network = metrics.LPIPS()
    distance = network.distance(network.features(still), network.features(truth))
    np.testing.assert_allclose(distance, metrics.lpips(np.repeat(still, 4, 1), truth), rtol=1e-4)


def test_lpips_of_nan_is_nan():
    truth = np.full((3, 32, 32, 1), 0.5)
    prediction = truth.copy()
    prediction[1, 4, 5, 0] = np.nan
    np.testing.assert_array_equal(metrics.lpips(prediction, truth), [0, np.nan, 0])


def test_lpips_refuses_other_input():
    frame = np.zeros((40, 40, 1))
    with pytest.raises(InputError, match="at least 31x31 pixels, received 30x40"):
        metrics.lpips(frame[:30], frame[:30])
    with pytest.raises(InputError, match="1 or 3 channels"):
        metrics.lpips(np.zeros((40, 40, 2)), np.zeros((40, 40, 2)))
    with pytest.raises(InputError, match="two arrays of one shape"):
        metrics.lpips(frame, frame[None])
    with pytest.raises(InputError, match=r"frames in \[0, 1\], received \[2, 2\]"):
        metrics.lpips(frame, frame + 2)
    with pytest.raises(InputError, match="received uint8"):
        metrics.lpips(frame.astype(np.uint8), frame.astype(np.uint8))


def test_lpips_refuses_missing_and_damaged_weights(tmp_path):
    with pytest.raises(InputError, match=r"not found: expected .*none\.npz"):
        metrics.LPIPS(tmp_path / "none.npz")
    damaged = tmp_path / "weights.npz"
    content = bytearray(perceptual.WEIGHTS.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="damaged: expected SHA-256"):
        metrics.LPIPS(damaged)


def test_psnr_of_moving_pixels_by_hand():
    """Two pixels of four move, one of them in its second channel alone; what is still does not count."""
    median = np.full((1, 1, 2, 2, 2), 0.5)
    truth = np.repeat(median, 3, 1)
    truth[0, 0, 0, 0], truth[0, 0, 1, 1, 1] = [0.9, 0.5], 0.7
    truth[0, 1, 0, 0, 0] = 0.59  # differs by less than 0.1: nothing moves
    truth[0, 2] = 1.0
    prediction = truth.copy()
    prediction[0, 0, 0, 0, 0], prediction[0, 0, 0, 1, 0] = 0.7, 0.0  # an error of 0.2 counts, one of a still pixel not
    found = metrics.moving_psnr(prediction, truth, median)
    np.testing.assert_allclose(found["psnr_of_moving"], [[-10 * np.log10(0.04 / 4), 0, 100]], rtol=1e-9)
    np.testing.assert_array_equal(found["moves"], [[1, 0, 1]])
    prediction[0, 1, 1, 1, 1] = np.nan
    assert np.isnan(metrics.moving_psnr(prediction, truth, median)["psnr_of_moving"]).tolist() == [[False, True, False]]
