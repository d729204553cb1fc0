"""Frame errors against scikit-image, in every convention that was once a call of it.

Its old defaults are written out: uniform window of 7, sample covariance, and for floats the range 2.
"""

import numpy as np
import pytest

from htsr import metrics
from htsr.metrics.conventions import MODES

skimage = pytest.importorskip("skimage.metrics")


def noise(rng, shape):
    truth = rng.random(shape, np.float32)
    return truth + rng.normal(0, 0.3, shape).astype(np.float32), truth


def shapes(rng, shape):
    """A bright block on black that moves, predicted too blurred and in the wrong place, and a ramp of grey."""
    truth = np.zeros(shape, np.float32)
    prediction = np.zeros(shape, np.float32)
    for t in range(shape[1]):
        truth[0, t, 4 + t : 12 + t, 5:13] = 1
        prediction[0, t, 5:13, 4 + t : 12 + t] = 0.7
    truth[1] = np.linspace(0, 1, shape[3], dtype=np.float32)[:, None]
    prediction[1] = truth[1] * np.linspace(0.8, 1.3, shape[2], dtype=np.float32)[:, None, None]
    return prediction - np.float32(0.02), truth


@pytest.fixture(params=[(noise, 1), (noise, 3), (shapes, 1), (shapes, 3)], ids=lambda p: f"{p[0].__name__}-{p[1]}")
def frames(request):
    """Raw prediction, outside [0, 1] in places, and truth, float32 ``(2, 3, 20, 24, channel)``."""
    make, channels = request.param
    prediction, truth = make(np.random.default_rng(channels), (2, 3, 20, 24, channels))
    assert prediction.min() < 0
    assert prediction.max() > 1
    return prediction, truth


def per_frame(function, prediction, truth, **arguments):
    return np.array(
        [
            [function(t, p, **arguments) for p, t in zip(*clip, strict=True)]
            for clip in zip(prediction, truth, strict=True)
        ]
    )


def uniform_ssim(prediction, truth, data_range):
    return per_frame(
        skimage.structural_similarity,
        prediction,
        truth,
        win_size=7,
        data_range=data_range,
        channel_axis=-1,
        gaussian_weights=False,
        use_sample_covariance=True,
    )


def gaussian_ssim(prediction, truth):
    return per_frame(
        skimage.structural_similarity,
        prediction,
        truth,
        data_range=1,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def psnr(prediction, truth, data_range):
    return per_frame(skimage.peak_signal_noise_ratio, prediction, truth, data_range=data_range)


def psnr_of_channels(prediction, truth):
    channels = range(truth.shape[-1])
    return np.mean([psnr(prediction[..., c], truth[..., c], data_range=1) for c in channels], axis=0)


def mse(prediction, truth):
    return per_frame(skimage.mean_squared_error, prediction, truth)


def as_bytes(frames):
    return np.uint8(np.clip(frames, 0, 1) * 255)


def in_double(prediction, truth):
    return prediction.astype(np.float64), truth.astype(np.float64)


def expect(mode, frames, **expected):
    found = MODES[mode].values(*frames)
    for metric, value in expected.items():
        np.testing.assert_allclose(found[f"{mode}.{metric}"], value, rtol=1e-9, atol=1e-9, err_msg=metric)


def test_htsr_1(frames):
    prediction, truth = in_double(*frames)
    prediction = np.clip(prediction, 0, 1)
    np.testing.assert_allclose(metrics.mse(prediction, truth), mse(prediction, truth), rtol=1e-12)
    root = np.sqrt(np.abs(prediction - truth))  # scikit-image has no absolute error, but this one's square
    np.testing.assert_allclose(metrics.mae(prediction, truth), mse(root, np.zeros_like(root)), rtol=1e-12)
    np.testing.assert_allclose(metrics.psnr(prediction, truth), psnr(prediction, truth, 1), rtol=1e-12)
    np.testing.assert_allclose(metrics.ssim(prediction, truth), gaussian_ssim(prediction, truth), rtol=1e-9)


def test_openstl(frames):
    raw, truth = in_double(*frames)
    clipped = np.clip(raw, 0, 1)
    swapped = uniform_ssim(clipped.swapaxes(2, 3), truth.swapaxes(2, 3), 2)  # it is called on (width, height, channel)
    size = truth[0, 0].size
    expect("openstl", frames, mse=size * mse(raw, truth), psnr=psnr(clipped, truth, 1), ssim=swapped)


def test_cms(frames):
    prediction, truth = (as_bytes(x)[..., :1] for x in frames)
    expect("cms", frames, psnr=psnr(prediction, truth, 255), ssim=uniform_ssim(prediction, truth, 255))


def test_predrnn(frames):
    prediction, truth = (as_bytes(x) for x in frames)
    expect("predrnn", frames, psnr=psnr(prediction, truth, 255), ssim=uniform_ssim(prediction, truth, 255))


def test_cwvae(frames):
    raw, truth = in_double(*frames)
    expect("cwvae", frames, psnr=psnr_of_channels(raw, truth), ssim=uniform_ssim(raw, truth, 2))


def test_lmc(frames):
    raw, truth = in_double(*frames)
    clipped = np.clip(raw, 0, 1)
    expect(
        "lmc",
        frames,
        mse=mse(clipped, truth) * 20 * 24,
        psnr=psnr(clipped, truth, 1),
        ssim=uniform_ssim(clipped, truth, 2),
    )


def test_srvp(frames):
    raw, truth = in_double(*frames)
    clipped = np.clip(raw, 0, 1)
    expect(
        "srvp",
        frames,
        mse=mse(clipped, truth),
        psnr=psnr_of_channels(clipped, truth),
        ssim=gaussian_ssim(clipped, truth),
    )


def test_float32_as_the_projects_computed_it(frames):
    """scikit-image keeps the precision of its input, so tables hold SSIM of float32: the same to five digits."""
    raw, truth = frames
    np.testing.assert_allclose(MODES["cwvae"].values(raw, truth)["cwvae.ssim"], uniform_ssim(raw, truth, 2), atol=1e-5)
