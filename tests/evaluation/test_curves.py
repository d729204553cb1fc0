"""Values of several series: gathered in memory or in files, reduced to means, ratios of means and intervals."""

import json
import warnings

import numpy as np
import pytest

from htsr import metrics
from htsr.errors import InputError
from htsr.evaluation.result import Result
from htsr.metrics import statistics
from htsr.metrics.metric import columns


def two_samples():
    """Sample 0 has the best PSNR on clip 0 by its mean (not everywhere), sample 1 on clip 1; SSIM says the opposite."""
    psnr = np.array([[[20, 30], [10, 10]], [[24, 20], [11, 10]]])
    ssim = np.array([[[0.1, 0.2], [0.9, 0.8]], [[0.5, 0.6], [0.3, 0.4]]])
    return {"psnr": psnr, "ssim": ssim}


def test_one_sample_supplies_every_metric_of_best():
    curves = metrics.Curves()
    curves.add("model", two_samples())
    np.testing.assert_array_equal(curves.best_sample("model"), [0, 1])
    np.testing.assert_allclose(curves.values("model", "psnr", "best"), [[20, 30], [11, 10]])
    np.testing.assert_allclose(curves.values("model", "ssim", "best"), [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(curves.values("model", "ssim", "mean"), [[0.3, 0.4], [0.6, 0.6]])
    np.testing.assert_allclose(curves.values("model", "ssim"), [[0.1, 0.2], [0.9, 0.8]])
    with pytest.raises(InputError, match="'single', 'mean' or 'best', received 'max'"):
        curves.values("model", "ssim", "max")


def test_reduced_curves_columns_and_differences():
    curves = metrics.Curves()
    samples = two_samples()
    for clip in range(2):  # a batch of one clip, then another
        curves.add("model", {name: array[:, clip : clip + 1] for name, array in samples.items()})
        curves.add("still", {name: array[:1, clip : clip + 1] - 0.5 for name, array in samples.items()})
    reduced = curves.reduce("model")
    assert list(reduced["curves"]["model"]) == ["psnr", "psnr_mean2", "psnr_best2", "ssim", "ssim_mean2", "ssim_best2"]
    assert list(reduced["curves"]["still"]) == ["psnr", "ssim"]
    assert list(reduced["differences"]) == ["still"]
    np.testing.assert_allclose(reduced["curves"]["model"]["psnr"]["mean"], [15, 20])
    assert reduced["curves"]["model"]["psnr"]["horizon_mean"]["mean"] == 17.5
    np.testing.assert_allclose(reduced["differences"]["still"]["psnr_best2"]["mean"], [15.5 - 14.5, 20 - 19.5])
    for end in ("mean", "low", "high"):  # the same difference on every clip: an interval of no width
        np.testing.assert_allclose(reduced["differences"]["still"]["psnr"][end], [0.5, 0.5])


def test_curves_refuse_batches_that_do_not_fit():
    curves = metrics.Curves()
    curves.add("model", {"psnr": np.ones((1, 2, 5))})
    curves.add("model", {"psnr": np.ones((1, 1, 5))})
    for wrong in ({"psnr": np.ones((1, 2, 4))}, {"psnr": np.ones((2, 2, 5))}, {"ssim": np.ones((1, 2, 5))}):
        with pytest.raises(InputError, match=r"every batch needs psnr, each \(sample, clip, lead time\)"):
            curves.add("model", wrong)
    with pytest.raises(InputError, match="no series is called 'baseline'; there are model"):
        curves.values("baseline", "psnr")
    with pytest.raises(InputError, match="no metric 'lpips'; it has psnr"):
        curves.values("model", "lpips")


def test_bootstrap_interval_covers_the_mean_95_times_in_100():
    rng = np.random.default_rng(4)
    values = rng.normal(3.0, 2.0, (60, 2000))  # 60 clips, 2000 repetitions
    low, high = metrics.bootstrap_interval(values, seed=5)
    covered = ((low < 3.0) & (high > 3.0)).mean()
    assert 0.92 < covered < 0.96  # percentile intervals are a little narrow at 60 clips
    np.testing.assert_allclose((high - low).mean(), 2 * 1.96 * 2.0 / np.sqrt(60), rtol=0.03)
    np.testing.assert_array_equal(metrics.bootstrap_interval(values, seed=5)[0], low)
    assert np.isnan(metrics.bootstrap_interval(values[:1])).all()


def test_saved_curves_hold_every_value_and_where_they_come_from(tmp_path):
    curves = metrics.Curves()
    curves.add("model", {"psnr": np.array([[[20.0, np.nan]]])})
    result = Result(curves.reduce("model"), {"metric_mode": "htsr-1", "wall_seconds": np.float32(0.5)}, tmp_path)
    curves.save(result.file(".npz"))
    result.save()
    with np.load(tmp_path / "curves.npz") as arrays:
        assert arrays["model/psnr"].shape == (1, 1, 2)
    content = json.loads((tmp_path / "curves.json").read_text())
    assert content["provenance"] == {"metric_mode": "htsr-1", "wall_seconds": 0.5}
    assert content["curves"]["model"]["psnr"]["mean"] == [20.0, None]


def test_values_in_files_are_the_values_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    in_memory, in_files = metrics.Curves(), metrics.Curves(tmp_path / "frames")
    for clips in (2, 1, 3):
        values = {"psnr": rng.random((2, clips, 5)), "crps": rng.random((1, clips, 5))}
        for curves in (in_memory, in_files):
            curves.add("model", values)
            curves.add("black", {"psnr": values["psnr"][:1] / 2})
    again = metrics.Curves(tmp_path / "frames")  # as a later process finds them
    assert again.series == ["model", "black"]
    assert again.num_clips() == 6
    for series in again.series:
        for metric in again.metrics(series):
            np.testing.assert_array_equal(again.array(series, metric), in_memory.array(series, metric))
    expected, found = in_memory.reduce("model"), again.reduce("model")
    for column, curve in expected["curves"]["model"].items():
        np.testing.assert_array_equal(found["curves"]["model"][column]["low"], curve["low"], err_msg=column)
    again.save(tmp_path / "curves.npz")
    loaded = metrics.Curves.load(tmp_path / "curves.npz")
    np.testing.assert_array_equal(loaded.array("model", "crps"), in_memory.array("model", "crps"))
    assert metrics.Curves.load(tmp_path / "curves.npz", "crps").metrics("model") == ["crps"]


def test_unfinished_clips_are_forgotten(tmp_path):
    curves = metrics.Curves(tmp_path)
    for value in (1, 2, 3):
        curves.add("model", {"psnr": np.full((1, 2, 4), value)})
    with open(tmp_path / "model.psnr.f32", "ab") as file:
        file.write(b"half")  # a process was killed while writing
    curves = metrics.Curves(tmp_path)
    curves.truncate(4)
    curves.add("model", {"psnr": np.full((1, 1, 4), 9)})
    np.testing.assert_array_equal(curves.values("model", "psnr")[:, 0], [1, 1, 2, 2, 9])


def test_every_metric_may_pick_its_own_sample():
    """As published results do: SSIM's best sample is not PSNR's, and the best LPIPS is the lowest."""
    curves = metrics.Curves()
    curves.add("model", {**two_samples(), "lpips": np.array([[[3, 3], [1, 1]], [[2, 2], [5, 5]]])})
    np.testing.assert_allclose(curves.values("model", "ssim", "best", "per_metric"), [[0.5, 0.6], [0.9, 0.8]])
    np.testing.assert_allclose(curves.values("model", "lpips", "best", "per_metric"), [[2, 2], [1, 1]])
    np.testing.assert_allclose(curves.values("model", "lpips", "best"), [[3, 3], [5, 5]])
    with pytest.raises(InputError, match="select must be one of psnr, per_metric, received 'ssim'"):
        curves.reduce("model", select="ssim")


def counts(hits, misses, false_alarms, rest):
    names = ("hits@30", "misses@30", "false_alarms@30", "correct_negatives@30")
    return {
        name: np.asarray(values, float)[None]
        for name, values in zip(names, (hits, misses, false_alarms, rest), strict=True)
    }


def test_ratios_are_of_pooled_counts():
    """Two clips, three lead times; the last has no event. Pooled CSI is not the mean of CSIs."""
    curves = metrics.Curves()
    curves.add("model", counts([[8, 1, 0], [0, 0, 0]], [[0, 1, 0], [2, 0, 0]], [[2, 2, 0], [4, 0, 0]], np.ones((2, 3))))
    curves.add("black", counts(np.zeros((2, 3)), [[8, 2, 0], [2, 0, 0]], np.zeros((2, 3)), np.ones((2, 3))))
    reduced = curves.reduce("model")
    csi = reduced["curves"]["model"]["csi@30"]
    np.testing.assert_allclose(csi["mean"], [8 / 16, 1 / 4, np.nan])
    assert csi["horizon_mean"]["mean"] == pytest.approx(9 / 20)
    assert (csi["undefined"], csi["over_leads"]) == (1, pytest.approx((0.5 + 0.25) / 2))
    difference = reduced["differences"]["black"]["csi@30"]
    np.testing.assert_allclose(difference["mean"], [0.5, 0.25, np.nan])
    assert difference["horizon_mean"]["mean"] == pytest.approx(9 / 20)
    assert (csi["low"][0], csi["high"][0]) == (0, 0.8)  # resamples of the second clip alone, and of the first


def test_ratios_have_the_intervals_of_resampled_ratios():
    rng = np.random.default_rng(1)
    hits, misses = rng.integers(0, 30, (2, 40, 70)).astype(float)
    curves = metrics.Curves()
    curves.add("model", counts(hits, misses, np.zeros((40, 70)), np.zeros((40, 70))))
    found = curves.reduce("model", seed=3)["curves"]["model"]["pod@30"]
    draws = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=1000)
    ratios = (draws @ hits) / (draws @ (hits + misses))
    np.testing.assert_allclose(found["low"], np.quantile(ratios, 0.025, axis=0))
    np.testing.assert_allclose(found["high"], np.quantile(ratios, 0.975, axis=0))


def test_roots_sharpness_and_spread_are_of_means():
    curves = metrics.Curves()
    one = np.ones((1, 2, 1))
    values = {"mse": np.array([[[1.0], [7.0]]]), "gradient": 2 * one, "gradient_truth": 4 * one}
    curves.add("model", {**values, "variance": one / 2, "mse_of_mean": one})
    reduced = curves.reduce("model", units=10.0)["curves"]["model"]
    assert reduced["rmse_pooled"]["mean"][0] == 20  # 10 sqrt((1 + 7) / 2)
    assert reduced["sharpness"]["mean"][0] == 0.5
    assert "gradient" not in reduced
    assert "variance" not in reduced


def test_an_infinite_value_leaves_no_interval():
    curves = metrics.Curves()
    curves.add("model", {"openstl.psnr": np.array([[[np.inf, 20.0], [30.0, 30.0], [10.0, 10.0]]])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = curves.reduce("model")["curves"]["model"]["openstl.psnr"]
    assert found["mean"][0] == np.inf
    assert not np.isfinite(found["low"][0])
    assert found["low"][1] < 20 < found["high"][1]


def test_many_lead_times_are_reduced_in_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    curves = metrics.Curves()
    curves.add("model", {"psnr": rng.random((1, 5, 150)), "mse": rng.random((1, 5, 150))})
    whole = curves.reduce("model")["curves"]["model"]
    monkeypatch.setattr(statistics, "_BLOCK", 7)
    blocks = curves.reduce("model")["curves"]["model"]
    for column, curve in whole.items():
        for end in ("mean", "low", "high"):
            np.testing.assert_allclose(blocks[column][end], curve[end], rtol=1e-12)
            np.testing.assert_allclose(blocks[column]["horizon_mean"][end], curve["horizon_mean"][end], rtol=1e-12)


def test_every_metric_that_is_recorded_has_words_for_it():
    truth = np.zeros((1, 1, 16, 16, 1))
    recorded = [name for mode in metrics.MODES.values() for name in mode.values(truth, truth)]
    recorded += [mode.column("lpips") for mode in metrics.MODES.values() if mode.lpips]
    recorded += [*metrics.ensemble_errors(np.stack([truth, truth]), truth), "digits_count", "digits_identity"]
    recorded += [*metrics.event_counts(truth, truth, [0.5]), "digits_place"]
    found = columns(dict.fromkeys(recorded))
    used = {component for column in found.values() for component in column.components}
    assert used == set(recorded)
