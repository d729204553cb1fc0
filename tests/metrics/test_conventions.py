"""Conventions of other projects: against numbers of their own code, and against their expressions written out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from htsr import metrics
from htsr.errors import InputError
from htsr.metrics.conventions import MODES, resolve_mode

NAMES = ["htsr-1", "openstl", "cms", "predrnn", "cwvae", "lmc", "srvp", "e3d-wrapped"]


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "fixtures" / "metric_modes.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(params=[1, 3])
def frames(request):
    """Raw prediction, beyond [0, 1] in places, and truth ``(2, 3, 16, 20, channel)``."""
    rng = np.random.default_rng(request.param)
    truth = rng.random((2, 3, 16, 20, request.param), np.float32)
    prediction = (truth + rng.normal(0, 0.2, truth.shape)).astype(np.float32)
    assert prediction.min() < 0
    assert prediction.max() > 1
    return prediction, truth


def as_bytes(frames):
    return np.uint8(np.clip(frames, 0, 1) * 255)


def means(mode, prediction, truth, axis=None):
    """Values without the mode's name, averaged over clips (``axis=0``) or over all frames."""
    values = MODES[mode].values(prediction, truth)
    return {column.removeprefix(f"{mode}."): value.mean(axis=axis) for column, value in values.items()}


@pytest.mark.parametrize("case", ["c1", "c2"])
def test_openstl_gives_openstls_numbers(reference, case):
    found = means("openstl", reference[f"{case}/prediction"], reference[f"{case}/truth"])
    for name in ("mse", "mae", "psnr", "ssim"):
        np.testing.assert_allclose(found[name], reference[f"{case}/openstl/{name}"], rtol=1e-6, err_msg=name)


def test_lmc_gives_lmc_memorys_numbers(reference):
    found = means("lmc", reference["c1/prediction"], reference["c1/truth"], axis=0)
    for name in ("mse", "psnr", "ssim"):
        np.testing.assert_allclose(found[name], reference[f"c1/lmc/{name}"], rtol=1e-6, err_msg=name)


def test_cms_gives_cms_lstms_numbers(reference):
    truth = reference["cms/truth"].astype(np.float32) / 255
    found = means("cms", reference["cms/prediction"], truth, axis=0)
    for name in ("mse", "mae", "psnr", "ssim", "sharp"):
        np.testing.assert_allclose(3 * found[name], reference[f"cms/{name}"], rtol=1e-6, err_msg=name)


def test_cms_reads_the_first_channel_only(frames):
    prediction, truth = frames
    expected = MODES["cms"].values(prediction[..., :1], truth[..., :1])
    for column, value in MODES["cms"].values(prediction, truth).items():
        np.testing.assert_array_equal(value, expected[column])


def test_sharp_is_opencvs_laplacian():
    rng = np.random.default_rng(4)
    prediction = rng.normal(0.5, 0.2, (1, 5, 9, 10, 1)).astype(np.float32)
    prediction[0, 1:] = rng.uniform(0, 0.05, (4, 9, 10, 1))
    for t, corner in enumerate([(0, 0), (-1, 3), (4, -1), (4, 4)], 1):  # where the largest value is
        prediction[0, t, *corner] = 0.15
    found = MODES["cms"].values(prediction, np.zeros_like(prediction))["cms.sharp"][0]
    for frame, value in zip(as_bytes(prediction)[0, ..., 0], found, strict=True):
        assert value == cv2.convertScaleAbs(cv2.Laplacian(frame, cv2.CV_16S)).max()
    assert found[0] == 255
    assert (found[1:] < 255).all()


def test_predrnn_written_out(frames):
    prediction, truth = frames
    found = MODES["predrnn"].values(prediction, truth)
    clipped = np.clip(prediction, 0, 1)
    difference = np.int32(as_bytes(prediction)) - np.int32(as_bytes(truth))
    psnr = 20 * np.log10(255) - 10 * np.log10((difference**2).mean(axis=(2, 3, 4)))
    np.testing.assert_allclose(found["predrnn.psnr"], psnr, rtol=1e-12)
    np.testing.assert_allclose(found["predrnn.mse"], np.square(truth - clipped).sum(axis=(2, 3, 4)), rtol=1e-5)


def test_wrapped_psnr_overflows_as_bytes_do(frames):
    prediction, truth = frames
    found = MODES["e3d-wrapped"].values(prediction, truth)["e3d-wrapped.psnr"]
    pred, true = np.clip(prediction, 0, 1), truth
    for b, t in np.ndindex(found.shape):
        mse = np.mean((np.uint8(pred[b, t] * 255) - np.uint8(true[b, t] * 255)) ** 2)
        assert found[b, t] == pytest.approx(20 * np.log10(255) - 10 * np.log10(mse), rel=1e-12)
    assert (found > MODES["predrnn"].values(prediction, truth)["predrnn.psnr"] + 2).all()
    assert "old tables" in MODES["e3d-wrapped"].warning
    assert not any(mode.warning for mode in MODES.values() if mode.name != "e3d-wrapped")


@pytest.mark.parametrize("mode", ["cms", "predrnn", "e3d-wrapped"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_truncation_returns_the_bytes_of_the_truth_and_is_numpys(mode, dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1)
    prediction = np.nextafter(levels.astype(np.float32) / 255, np.float32(0))
    difference = np.uint8(prediction * 255) - levels.astype(float)
    assert (difference[0, 0].ravel() == [0] + 255 * [-1]).all()
    psnr = MODES[mode].values(prediction, levels.astype(dtype) / 255)[f"{mode}.psnr"].item()
    assert psnr == pytest.approx(20 * np.log10(255) - 10 * np.log10(255 / 256), rel=1e-12)


def test_cwvae_scores_the_raw_prediction_channel_by_channel(frames):
    prediction, truth = frames
    found = MODES["cwvae"].values(prediction, truth)
    psnr = -10 * np.log10(np.square(prediction.astype(float) - truth).mean(axis=(2, 3)))
    np.testing.assert_allclose(found["cwvae.psnr"], psnr.mean(axis=-1), rtol=1e-12)
    channels = [MODES["cwvae"].values(p, t) for p, t in zip(split(prediction), split(truth), strict=True)]
    np.testing.assert_allclose(found["cwvae.ssim"], np.mean([c["cwvae.ssim"] for c in channels], axis=0), rtol=1e-12)
    clipped = MODES["cwvae"].values(np.clip(prediction, 0, 1), truth)
    for column, value in found.items():
        assert (value < clipped[column]).all(), column


def split(frames):
    return np.split(frames, frames.shape[-1], axis=-1)


def test_srvp_has_the_similarity_of_htsr_1(frames):
    prediction, truth = frames
    clipped = np.clip(prediction, 0, 1)
    found = MODES["srvp"].values(prediction, truth)
    np.testing.assert_array_equal(found["srvp.ssim"], metrics.ssim(clipped, truth))
    np.testing.assert_allclose(found["srvp.ssim"], tf.image.ssim(clipped, truth, 1.0), atol=1e-5)
    np.testing.assert_allclose(found["srvp.mse"], metrics.mse(clipped, truth), rtol=1e-12)
    psnr = [metrics.psnr(p, t) for p, t in zip(split(clipped), split(truth), strict=True)]
    np.testing.assert_allclose(found["srvp.psnr"], np.mean(psnr, axis=0), rtol=1e-12)


def test_htsr_1_is_frame_errors_of_the_clipped_prediction(frames):
    prediction, truth = frames
    expected = metrics.frame_errors(np.clip(prediction, 0, 1), truth)
    found = MODES["htsr-1"].values(prediction, truth)
    assert list(found) == list(expected)
    for column, value in expected.items():
        np.testing.assert_array_equal(found[column], value)


def test_lmc_divides_the_error_of_colour_by_three(frames):
    prediction, truth = (np.clip(x, 0, 1) for x in frames)
    per_channel = MODES["openstl"].values(prediction, truth)["openstl.mse"] / truth.shape[-1]
    np.testing.assert_allclose(MODES["lmc"].values(prediction, truth)["lmc.mse"], per_channel, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_named_defined_and_of_one_shape(frames, name):
    mode = MODES[name]
    values = mode.values(*frames)
    defined = [mode.column(metric) for metric in mode.definition if metric != "lpips"]
    defined += ["gradient", "gradient_truth"] if name == "htsr-1" else []  # components of sharpness
    assert list(values) == defined
    assert mode.column("psnr") == ("psnr" if name == "htsr-1" else f"{name}.psnr")
    assert mode.column("psnr") in values
    assert ("lpips" in mode.definition) == (mode.lpips is not None)
    assert {metric for metric, _ in mode.printed.values()} <= set(mode.definition)
    for value in values.values():
        assert value.shape == (2, 3)
        assert value.dtype == np.float64
    assert all("\n" not in text for text in mode.definition.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_clips_values_do_not_depend_on_its_batch(frames, name):
    prediction, truth = frames
    alone = MODES[name].values(prediction[1:], truth[1:])
    for column, value in MODES[name].values(prediction, truth).items():
        np.testing.assert_array_equal(value[1:], alone[column])


@pytest.mark.parametrize("name", NAMES)
def test_exact_frames_are_infinitely_good_and_nan_is_not_hidden(frames, name):
    prediction, truth = (x.copy() for x in frames)
    prediction[0, 0] = truth[0, 0]
    prediction[1, 1, 3, 4, 0] = np.nan
    for column, value in MODES[name].values(prediction, truth).items():
        if column.endswith("psnr"):
            assert value[0, 0] == (100 if name == "htsr-1" else np.inf)
        if column.endswith("ssim"):
            assert value[0, 0] == pytest.approx(1, abs=1e-12)
        if column != "gradient_truth":
            assert np.isnan(value[1, 1]), column
        assert np.isfinite(np.delete(value.ravel(), [0, 4])).all(), column


def test_modes_refuse_other_input(frames):
    prediction, truth = frames
    for name in NAMES:
        with pytest.raises(InputError, match=r"one shape .* received \(2, 2, 16"):
            MODES[name].values(prediction[:, :2], truth)
        with pytest.raises(InputError, match=r"prediction must be floats .* received uint8"):
            MODES[name].values(as_bytes(prediction), truth)
        with pytest.raises(InputError, match=r"truth must lie in \[0, 1\]"):
            MODES[name].values(prediction, truth + 1)
    for name in ("openstl", "cms", "predrnn", "cwvae", "lmc"):
        with pytest.raises(InputError, match="at least 7x7 pixels, received 16x6; use larger frames"):
            MODES[name].values(prediction[:, :, :, :6], truth[:, :, :, :6])


def test_modes_by_name():
    assert list(MODES) == NAMES
    assert all(mode.name == name for name, mode in MODES.items())
    assert {name for name, mode in MODES.items() if mode.select == "per_metric"} == {"cwvae", "srvp"}
    with pytest.raises(InputError, match=r"no mode of metrics is called 'htsr'; did you mean 'htsr-1'\?"):
        resolve_mode("htsr")
    with pytest.raises(InputError, match=r"no mode of metrics is called 'open-stl'; did you mean 'openstl'\?"):
        resolve_mode("open-stl")
    with pytest.raises(InputError, match="choose one of htsr-1, openstl, cms"):
        resolve_mode("zzz")


# Values (clip, lead time): two clips, three lead times.
VALUES = {
    "mse": np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]),
    "mae": np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]),
    "psnr": np.array([[20.0, 19.0, 18.0], [22.0, 20.0, 21.0]]),
    "ssim": np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]]),
    "lpips": np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]),
    "sharp": np.array([[255.0, 200.0, 100.0], [255.0, 100.0, 200.0]]),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openstl", {"mse": 4, "mae": 1.5, "rmse": 2, "psnr": 20, "ssim": 0.65, "lpips": 0.2}),
        ("cms", {"mse": 4, "mae": 1.5, "psnr": 20, "ssim": 0.65, "sharp": 185}),
        ("predrnn", {"mse_per_seq": 12, "mse_per_frame": 4, "ssim": 0.65, "psnr": 20, "lpips": 0.2}),
        ("cwvae", {"ssim": 0.65, "psnr": 20, "lpips": 0.2}),
        ("lmc", {"mse": 4, "psnr": 20, "ssim": 0.65, "lpips_x1000": 200}),
        ("srvp", {"mse": 4, "psnr": 20, "ssim": 0.65, "lpips": 0.2}),
        ("e3d-wrapped", {"psnr": 20}),
    ],
)
def test_rows_are_aggregated_as_the_project_does(name, expected):
    mode = MODES[name]

    def values(column):
        prefix, metric = column.split(".")
        assert prefix == name
        return VALUES[metric].astype(np.float32)

    row = mode.row(values)
    assert list(row) == list(expected)
    assert row == pytest.approx(expected, rel=1e-6)
    without = mode.row(values, lpips=False)
    assert list(without) == [number for number in expected if not number.startswith("lpips")]


def test_the_row_of_htsr_1_is_means_and_one_exact_frame_makes_another_rows_psnr_infinite():
    values = {**VALUES, "rmse": np.sqrt(VALUES["mse"]), "mse_sum": 10 * VALUES["mse"], "mae_sum": 10 * VALUES["mae"]}
    row = MODES["htsr-1"].row(values.__getitem__)
    assert row == pytest.approx({name: values[name].mean() for name in row})
    assert list(row) == ["mse", "mae", "rmse", "mse_sum", "mae_sum", "psnr", "ssim", "lpips"]
    exact = {"openstl.psnr": np.array([[np.inf, 20.0]])}
    row = MODES["openstl"].row(lambda column: exact.get(column, np.ones((1, 2))))
    assert row["psnr"] == np.inf
    assert row["rmse"] == 1


@pytest.fixture(scope="module")
def network():
    return metrics.LPIPS()


@pytest.fixture(scope="module")
def large():
    """Raw prediction and truth that LPIPS takes, ``(3, 32, 33, 3)``."""
    rng = np.random.default_rng(7)
    truth = rng.random((3, 32, 33, 3), np.float32)
    return (truth + rng.normal(0, 0.3, truth.shape)).astype(np.float32), truth


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("htsr-1", lambda x: 2 * np.clip(x, 0, 1) - 1),
        ("openstl", lambda x: 2 * np.clip(x, 0, 1) - 1),
        ("srvp", lambda x: 2 * np.clip(x, 0, 1) - 1),
        ("cwvae", lambda x: 2 * x - 1),
        ("predrnn", lambda x: np.clip(x, 0, 1)),
        ("lmc", lambda x: np.clip(x, 0, 1)),
    ],
)
def test_what_the_network_of_lpips_sees(network, large, monkeypatch, name, seen):
    """It expects [-1, 1]."""
    prediction, _ = large
    fed = []
    monkeypatch.setattr(network, "_network", lambda rgb: fed.append(rgb.numpy()) or [tf.zeros((len(rgb), 1))])
    monkeypatch.setattr(network, "_graph", network.embed)
    network.features(MODES[name].lpips(prediction), check_range=False)
    np.testing.assert_allclose(np.concatenate(fed), seen(prediction), atol=3e-7)


def test_lpips_fed_another_range_is_another_number(network, large):
    prediction, truth = large
    found = {
        name: network.distance(
            network.features(MODES[name].lpips(prediction), check_range=False),
            network.features(MODES[name].lpips(truth), check_range=False),
        )
        for name in ("htsr-1", "openstl", "predrnn", "cwvae", "lmc", "srvp")
    }
    own = metrics.lpips(np.clip(prediction, 0, 1), truth)
    for name in ("htsr-1", "openstl", "srvp"):
        np.testing.assert_allclose(found[name], own, rtol=1e-5)
    np.testing.assert_array_equal(found["lmc"], found["predrnn"])
    fed = metrics.lpips(0.5 + np.clip(prediction, 0, 1) / 2, 0.5 + truth / 2)
    np.testing.assert_allclose(found["lmc"], fed, rtol=1e-4)
    for name in ("lmc", "cwvae"):
        assert (np.abs(found[name] - own) > 0.05 * own).all()


def test_features_check_the_range_unless_told_not_to(network, large):
    prediction, _ = large
    with pytest.raises(InputError, match="clip them first"):
        network.features(prediction)
    assert np.isfinite(network.features(prediction, check_range=False)).all()
    with pytest.raises(InputError, match="received uint8"):
        network.features(as_bytes(prediction), check_range=False)
