"""Evaluation end to end: models of known quality, the rules, alignment, streaming, and the script."""

import contextlib
import json
import re
import signal

import command
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from htsr import metrics
from htsr.config import save_config
from htsr.data import load_clips
from htsr.data.clips import Clips
from htsr.data.sources import WindowSource
from htsr.errors import InputError
from htsr.evaluation import evaluate as evaluation
from htsr.evaluation import pictures
from htsr.evaluation.evaluate import evaluate
from htsr.evaluation.pictures import illustrate
from htsr.evaluation.run import summary
from htsr.models import build_model
from htsr.report.tables import table
from htsr.runs import checkpoints

SIZE, CONTEXT, HORIZON = 32, 3, 7


class RandomClips(WindowSource):
    """Six clips of noise, so that no frame is like another."""

    shape = (CONTEXT + HORIZON + 2, SIZE, SIZE, 1)
    num_clips = 6

    def window(self, index, epoch):
        del epoch
        return np.random.default_rng(index).integers(0, 256, self.shape, dtype=np.uint8)


class Oracle:
    """Knows the clips: predicts frame ``context + k + shift`` with an error and noise that depends on the seed."""

    frame_shape = (SIZE, SIZE, 1)
    stochastic = True

    def __init__(self, source, shift=0, error=0.0, noise=0.0):
        self.source, self.shift, self.error, self.noise = source, shift, error, noise
        self.weights = [tf.Variable([float(shift), error, noise])]  # as those of a model, they say which one it is

    def rollout_chunks(self, context, horizon, num_samples=1, seed=0, noise="sample", rows=None, chunk=50):
        windows = [self.source.window(i, 0) / np.float32(255) for i in range(self.source.num_clips)]
        begin = context.shape[1] + self.shift
        futures = [self._future(clip, windows)[begin : begin + horizon] for clip in context]
        samples = np.stack([futures] * num_samples) + self.error
        for sample, row in np.ndindex(samples.shape[:2]):
            rng = np.random.default_rng([seed[row], sample])
            samples[sample, row] += self.noise * rng.standard_normal(samples.shape[2:])
        for first in range(0, horizon, chunk):
            yield samples[:, :, first : first + chunk].astype(np.float32)

    def _future(self, clip, windows):
        return next(window for window in windows if np.array_equal(window[: len(clip)], clip))


@pytest.fixture
def clips():
    return Clips(RandomClips(), batch_size=4)


def run(model, clips, out, num_pictures=None, **arguments):
    """Evaluate; draw curves and pictures where a number of them is given, as the command does; print all metrics."""
    settings = {"context": CONTEXT, "horizon": HORIZON, "num_examples": 6, "lpips": False}
    with contextlib.ExitStack() as drawn:
        result = evaluate(model, clips, out=out, until=drawn, **{**settings, **arguments})
        if num_pictures is not None:
            illustrate(result, model, clips, num_pictures)
    print(summary(result, all_metrics=True))
    return result


def test_a_perfect_model_scores_perfectly(clips, tmp_path):
    curves = run(Oracle(clips.source), clips, tmp_path, lpips=True).curves
    for metric, perfect in {"psnr": 100, "ssim": 1, "mse": 0, "mae": 0, "mse_sum": 0, "mae_sum": 0}.items():
        np.testing.assert_allclose(curves.values("model", metric), np.full((6, HORIZON), perfect), err_msg=metric)
    np.testing.assert_allclose(curves.values("model", "lpips"), 0, atol=1e-9)
    content = json.loads((tmp_path / "curves.json").read_text())
    assert content["provenance"]["exact_frames"] == {
        "model": 42,
        "copy_last": 0,
        "mean_frame": 0,
        "median_frame": 0,
        "black": 0,
    }


class Fake(Oracle):
    """Predicts ``predict(clips so far, the clip's own frames, context)``."""

    def __init__(self, source, predict):
        super().__init__(source)
        self.predict = predict

    def _future(self, clip, windows):
        (own,) = (i for i, window in enumerate(windows) if np.array_equal(window[: len(clip)], clip))
        return self.predict(windows, own, len(clip))


@pytest.mark.parametrize(
    ("series", "predict"),
    [
        ("copy_last", lambda windows, own, context: np.repeat(windows[own][context - 1 : context], 12, 0)),
        ("mean_frame", lambda windows, own, context: np.repeat(windows[own][:context].mean(0, keepdims=True), 12, 0)),
        ("median_frame", lambda windows, own, context: np.repeat(np.median(windows[own][:context], 0)[None], 12, 0)),
        ("black", lambda windows, own, context: 0 * windows[own]),
    ],
)
def test_a_model_that_does_what_a_baseline_does_scores_the_same(clips, tmp_path, series, predict):
    result = run(Fake(clips.source, predict), clips, tmp_path, lpips=True)
    for metric in ("mse", "mae_sum", "rmse", "psnr", "ssim", "lpips"):
        own, other = (result.curves.values(name, metric) for name in ("model", series))
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6, err_msg=metric)
    np.testing.assert_allclose(result.reduced["differences"][series]["psnr"]["mean"], 0, atol=1e-5)


def test_a_shuffled_model_scores_the_futures_of_other_clips(clips, tmp_path):
    """Every clip gets the future of the next one: good frames, of the wrong clip."""
    result = run(Fake(clips.source, lambda windows, own, _: windows[(own + 1) % 6]), clips, tmp_path)
    future = np.stack([clips.window(i) for i in range(6)])[:, CONTEXT : CONTEXT + HORIZON] / 255
    square = (np.roll(future, -1, axis=0) - future) ** 2
    np.testing.assert_allclose(result.curves.values("model", "mse"), square.mean((2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(result.curves.values("model", "mse_sum"), square.sum((2, 3, 4)), rtol=1e-5)
    curve = result.reduced["curves"]["model"]
    np.testing.assert_allclose(curve["rmse_pooled"]["horizon_mean"]["mean"], np.sqrt(square.mean()), rtol=1e-5)
    np.testing.assert_allclose(curve["sharpness"]["mean"], 1, atol=0.02)  # noise is as sharp as other noise
    assert 1 / 7 < square.mean() < 1 / 5  # independent uniform pixels: 1 / 6


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_stopped_evaluation_goes_on_and_ends_the_same(clips, tmp_path, stop_after, monkeypatch):
    """Stopped while values of a batch are being written; no bit differs, and nothing done is done again."""
    arguments = {"num_samples": 2, "lpips": True, "batch_size": 2, "num_pictures": 1}
    whole = run(Oracle(clips.source, noise=0.1), clips, tmp_path / "whole" / "a", **arguments)

    add, done = metrics.Curves.add, []

    def add_until(self, series, values):
        done.append(series)
        if done.count("model") > stop_after and series == "mean_frame":
            raise Stopped
        add(self, series, values)

    monkeypatch.setattr(metrics.Curves, "add", add_until)
    with pytest.raises(Stopped):
        run(Oracle(clips.source, noise=0.1), clips, tmp_path / "parts" / "a", **arguments)
    monkeypatch.setattr(metrics.Curves, "add", add)
    begun = list((tmp_path / "parts" / "a" / "partial").glob("frames/*.f32"))
    assert begun

    model = Oracle(clips.source, noise=0.1)
    predicted = []
    rollout = model.rollout_chunks
    model.rollout_chunks = lambda context, *rest, **more: (
        predicted.append(len(context)) or rollout(context, *rest, **more)
    )
    ended = run(model, clips, tmp_path / "parts" / "b", **arguments)
    assert ended.folder == tmp_path / "parts" / "a"
    assert predicted == [2] * (3 - stop_after) + [1]  # the last one is for the picture
    assert not (ended.folder / "partial").exists()
    assert not (tmp_path / "parts" / "b").exists()
    with np.load(whole.folder / "curves.npz") as one, np.load(ended.folder / "curves.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert whole.provenance["clips_sha256"] == ended.provenance["clips_sha256"]


def test_another_evaluation_does_not_go_on_where_one_stopped(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_predict_and_score", lambda *_: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        run(Oracle(clips.source), clips, tmp_path / "a")
    monkeypatch.undo()
    result = run(Oracle(clips.source), clips, tmp_path / "b", seed=1)
    assert result.folder == tmp_path / "b"
    assert (tmp_path / "a" / "partial").exists()
    with pytest.raises(InputError, match="is of another unfinished evaluation; remove it, or choose another"):
        run(Oracle(clips.source), clips, tmp_path / "a", seed=1)


def stopped(clips, folder, monkeypatch, model, **arguments):
    """The first batch of two clips is done, then the program dies."""
    rollout, calls = model.rollout_chunks, []

    def once(*rest, **more):
        calls.append(1)
        if len(calls) > 1:
            raise Stopped
        return rollout(*rest, **more)

    monkeypatch.setattr(model, "rollout_chunks", once)
    with pytest.raises(Stopped):
        run(model, clips, folder, batch_size=2, **arguments)


def test_another_model_or_other_clips_do_not_go_on_where_one_stopped(clips, tmp_path, monkeypatch):
    stopped(clips, tmp_path / "a", monkeypatch, Oracle(clips.source))
    other = run(Oracle(clips.source, shift=1), clips, tmp_path / "b", batch_size=2)
    assert (other.folder, other.provenance["resumed_at_clip"]) == (tmp_path / "b", 0)

    class OtherClips(RandomClips):
        def window(self, index, epoch):
            return super().window(index + 100, epoch)

    others = Clips(OtherClips(), batch_size=4)
    assert run(Oracle(others.source), others, tmp_path / "c", batch_size=2).folder == tmp_path / "c"
    same = run(Oracle(clips.source), clips, tmp_path / "d", batch_size=2)
    assert (same.folder, same.provenance["resumed_at_clip"]) == (tmp_path / "a", 2)
    assert (same.curves.values("model", "psnr") == 100).all()


def test_values_that_were_lost_are_found_again(clips, tmp_path, monkeypatch):
    """The digests of two clips are there, the PSNR of one of them is not: a disk that lost its last writes."""
    stopped(clips, tmp_path / "a", monkeypatch, Oracle(clips.source))
    with open(tmp_path / "a" / "partial" / "frames" / "model.psnr.f32", "r+b") as file:
        file.truncate(4 * HORIZON)
    result = run(Oracle(clips.source), clips, tmp_path / "a", batch_size=2)
    assert result.provenance["resumed_at_clip"] == 0
    assert (result.curves.values("model", "psnr") == 100).all()


def test_a_damaged_beginning_is_named(clips, tmp_path, monkeypatch):
    stopped(clips, tmp_path / "a", monkeypatch, Oracle(clips.source))
    (tmp_path / "a" / "partial" / "frames" / "layout.json").write_text("{")
    with pytest.raises(InputError, match=r"layout.json is damaged; remove the folder"):
        run(Oracle(clips.source), clips, tmp_path / "a", batch_size=2)


def test_what_is_interrupted_after_the_scores_goes_on_there(clips, tmp_path, monkeypatch):
    """Drawing fails, then the same evaluation: nothing is predicted again but the pictures."""

    def fail(path, rows, context):
        assert (path.parent / "curves.json").exists()
        raise Stopped

    monkeypatch.setattr(pictures.figures, "save_gif", fail)
    with pytest.raises(Stopped):
        run(Oracle(clips.source), clips, tmp_path / "a", num_pictures=1)
    monkeypatch.undo()
    result = run(Oracle(clips.source), clips, tmp_path / "b", num_pictures=1)
    assert result.folder == tmp_path / "a"
    assert result.provenance["resumed_at_clip"] == 6
    assert not (result.folder / "partial").exists()


def test_an_evaluation_is_silent_and_draws_nothing(clips, tmp_path, capsys):
    evaluate(Oracle(clips.source), clips, out=tmp_path, context=CONTEXT, horizon=HORIZON, num_examples=6, lpips=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.json", "curves.npz"]
    assert capsys.readouterr() == ("", "")


def test_evaluations_share_the_networks_of_their_metrics(tmp_path, monkeypatch):
    """TensorFlow frees nothing of a traced network: evaluations in a loop grew by 0.8 MiB each."""
    clips = load_clips("moving_mnist", "test", batch_size=2, seq_len=CONTEXT + HORIZON, num_digits=1)
    oracle = Oracle(clips.source)
    oracle.frame_shape = clips.shape[1:]
    settings = {"context": CONTEXT, "horizon": HORIZON, "num_examples": 2}
    first = evaluate(oracle, clips, out=tmp_path / "a", **settings)

    def made_again(*_):
        raise AssertionError("another network")

    monkeypatch.setattr(metrics.LPIPS, "__init__", made_again)
    monkeypatch.setattr(metrics.DigitReader, "__init__", made_again)
    again = evaluate(oracle, clips, out=tmp_path / "b", **settings)
    assert {"lpips", "digits_identity"} <= set(first.curves.metrics("model")) == set(again.curves.metrics("model"))


def test_who_interrupts_is_told_what_is_kept(clips, tmp_path, monkeypatch):
    model = Oracle(clips.source)
    rollout, calls = model.rollout_chunks, iter([False, True])
    monkeypatch.setattr(
        model,
        "rollout_chunks",
        lambda *rest, **more: signal.raise_signal(signal.SIGINT) if next(calls) else rollout(*rest, **more),
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(model, clips, tmp_path / "a", batch_size=4)
    signal.signal(signal.SIGINT, before)
    assert stopped.value.__notes__ == ["4 of 6 clips are kept"]


def test_metrics_of_another_convention_are_named_after_it(clips, tmp_path, capsys):
    result = run(Oracle(clips.source, error=0.7), clips, tmp_path, metric_mode="openstl", num_pictures=1)
    names = {"curves.openstl.json", "curves.openstl.npz", "curves.openstl.png"}
    assert names < {path.name for path in tmp_path.iterdir()}
    assert list(result.reduced["curves"]["model"]) == ["openstl.mse", "openstl.mae", "openstl.psnr", "openstl.ssim"]
    np.testing.assert_allclose(
        result.curves.values("model", "openstl.mse"), 0.49 * SIZE * SIZE, rtol=1e-5
    )  # not clipped
    row = result.provenance["published_row"]["model"]
    assert row["rmse"] == pytest.approx(0.7 * SIZE)  # root of the mean sum, and no mean of roots
    printed = capsys.readouterr().out
    assert "metrics by the convention of openstl" in printed
    lines = printed.splitlines()
    heads = lines[lines.index("as the tables of openstl have it (first sample)") + 1].split()
    assert heads == ["mse", "mae", "rmse", "psnr", "ssim"]


def test_an_exact_frame_has_an_infinite_psnr_only_where_the_convention_says_so(clips, tmp_path):
    result = run(Oracle(clips.source), clips, tmp_path, metric_mode="openstl")
    assert result.provenance["published_row"]["model"]["psnr"] == np.inf
    assert result.provenance["exact_frames"]["model"] == 6 * HORIZON
    content = json.loads((tmp_path / "curves.openstl.json").read_text())
    assert content["curves"]["model"]["openstl.psnr"]["mean"] == [None] * HORIZON


def test_fvd_is_skipped_with_a_reason_without_its_weights(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HTSR_CACHE", str(tmp_path / "empty"))
    result = run(Oracle(clips.source), clips, tmp_path / "out", fvd=True)
    assert result.provenance["fvd"].startswith(
        "skipped: I3D weights not found (python -m htsr.metrics.i3d fetches them"
    )
    assert "\nFVD skipped: I3D weights not found" in capsys.readouterr().out


def test_events_at_a_threshold(clips, tmp_path):
    """Pixels of value 0.5 and more: of noise against other noise, CSI is 1/3 by chance."""
    model = Fake(clips.source, lambda windows, own, _: windows[(own + 1) % 6])
    curves = run(model, clips, tmp_path, thresholds=[0.5]).reduced["curves"]
    truth = np.stack([clips.window(i) for i in range(6)])[:, CONTEXT : CONTEXT + HORIZON] / np.float32(255) >= 0.5
    other = np.roll(truth, -1, axis=0)
    expected = (truth & other).sum() / (truth | other).sum()
    assert curves["model"]["csi@0.5"]["horizon_mean"]["mean"] == pytest.approx(expected)
    assert 0.32 < expected < 0.345
    np.testing.assert_allclose(curves["black"]["pod@0.5"]["mean"], 0)
    assert np.isnan(curves["black"]["far@0.5"]["mean"]).all()  # no event was forecast
    with pytest.raises(InputError, match="threshold"):
        run(model, clips, tmp_path / "bad", thresholds=[2.0])


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_model_that_is_one_frame_off_fails(clips, tmp_path, shift):
    curves = run(Oracle(clips.source, shift), clips, tmp_path).curves
    assert curves.values("model", "psnr").max() < 10


def test_predictions_are_clipped_before_they_are_scored(clips, tmp_path):
    curves = run(Oracle(clips.source, error=5.0), clips, tmp_path).curves
    truth = np.stack([clips.window(i) for i in range(6)])[:, CONTEXT : CONTEXT + HORIZON] / 255
    np.testing.assert_allclose(curves.values("model", "mae"), (1 - truth).mean((2, 3, 4)), rtol=1e-6)


def test_baselines_score_the_hand_computed_numbers(clips, tmp_path):
    curves = run(Oracle(clips.source), clips, tmp_path, lpips=True).curves
    clip = clips.window(5).astype(float) / 255
    truth, network = clip[CONTEXT : CONTEXT + HORIZON], metrics.LPIPS()
    stills = {"copy_last": clip[2], "mean_frame": (clip[0] + clip[1] + clip[2]) / 3, "black": 0 * clip[0]}
    stills["median_frame"] = np.median(clip[:3], 0)
    for name, still in stills.items():
        square = ((truth - still) ** 2).mean((1, 2, 3))
        np.testing.assert_allclose(curves.values(name, "mse")[5], square, rtol=1e-5)
        np.testing.assert_allclose(curves.values(name, "psnr")[5], -10 * np.log10(square), rtol=1e-5)
        repeated = np.repeat(still[None], HORIZON, 0)
        np.testing.assert_allclose(curves.values(name, "ssim")[5], metrics.ssim(repeated[None], truth[None])[0], 1e-4)
        expected = network.distance(network.features(repeated), network.features(truth))
        np.testing.assert_allclose(curves.values(name, "lpips")[5], expected, rtol=1e-3)


def test_neither_pieces_nor_batches_change_the_numbers(clips, tmp_path, monkeypatch):
    model = Oracle(clips.source, noise=0.1)
    whole = run(model, clips, tmp_path / "whole", num_samples=2, lpips=True).curves
    monkeypatch.setattr(evaluation, "CHUNK", 3)
    pieces = run(model, clips, tmp_path / "pieces", num_samples=2, lpips=True, batch_size=3).curves
    for series in whole.series:
        for metric in whole.metrics(series):
            atol = 1e-5 if metric == "lpips" else 0
            np.testing.assert_allclose(pieces.array(series, metric), whole.array(series, metric), 1e-5, atol)


def test_best_of_several_samples_is_one_sample_for_every_metric(clips, tmp_path):
    result = run(Oracle(clips.source, noise=0.3), clips, tmp_path, num_samples=5)
    psnr, ssim = result.curves.array("model", "psnr"), result.curves.array("model", "ssim")
    best = psnr.mean(axis=2).argmax(axis=0)
    expected = np.mean([ssim[sample, clip] for clip, sample in enumerate(best)], axis=0)
    columns = result.reduced["curves"]["model"]
    np.testing.assert_allclose(columns["ssim_best5"]["mean"], expected, rtol=1e-6)
    np.testing.assert_allclose(columns["psnr_mean5"]["mean"], psnr.mean((0, 1)), rtol=1e-6)
    assert columns["psnr"]["horizon_mean"]["mean"] < columns["psnr_best5"]["horizon_mean"]["mean"]
    assert len(np.unique(psnr[:, 0, 0])) == 5  # the samples differ, and so do clips, each with its own seed
    assert {"crps", "spread_skill"} <= set(columns) - set(result.reduced["curves"]["black"])
    assert "crps_best5" not in columns


def test_paired_differences_are_of_the_same_clips(clips, tmp_path):
    result = run(Oracle(clips.source, noise=0.2), clips, tmp_path)
    gain = result.curves.values("model", "psnr") - result.curves.values("black", "psnr")
    difference = result.reduced["differences"]["black"]["psnr"]
    np.testing.assert_allclose(difference["mean"], gain.mean(axis=0))
    low, high = metrics.bootstrap_interval(gain.mean(axis=1), seed=0)
    assert difference["horizon_mean"] == pytest.approx({"mean": gain.mean(), "low": float(low), "high": float(high)})


def test_files_table_and_provenance(clips, tmp_path, capsys):
    out = tmp_path / "run" / "eval"
    run(Oracle(clips.source, noise=0.1), clips, out, num_pictures=5, num_examples=5, provenance={"split": "test"})
    drawn = [f"clip_{i}.{kind}" for i in range(5) for kind in ("gif", "png")]
    assert sorted(path.name for path in out.iterdir()) == [*drawn, "curves.json", "curves.npz", "curves.png"]
    with Image.open(out / "clip_4.gif") as gif:
        assert gif.n_frames == CONTEXT + HORIZON
    content = json.loads((out / "curves.json").read_text())
    assert content["provenance"]["metric_spec"] == "htsr-1"
    expected = {"split": "test", "context": CONTEXT, "horizon": HORIZON, "num_examples": 5, "num_samples": 1, "seed": 0}
    assert {key: content["provenance"][key] for key in expected} == expected
    with np.load(out / "curves.npz") as arrays:
        assert arrays["model/psnr"].shape == (1, 5, HORIZON)
        np.testing.assert_allclose(arrays["model/psnr"][0].mean(0), content["curves"]["model"]["psnr"]["mean"], 1e-6)
    lines = capsys.readouterr().out.splitlines()
    block = lines[lines.index("psnr: PSNR (dB) (higher is better)") + 1 :]
    assert block[0].split() == ["horizon", "model", "copy_last", "mean_frame", "median_frame", "black"]
    assert [line.split()[0] for line in block[1:6]] == ["1", "2", "5", "7", "all"]
    assert block[1].count("+") == 4  # better than every baseline


def test_the_terminal_shows_five_headlines(clips, tmp_path):
    """A block a metric, a row a series, a column for each of the lead times that there are, and the mean."""
    result = run(Oracle(clips.source, noise=0.1), clips, tmp_path, lpips=True)
    lines = summary(result).splitlines()
    assert max(map(len, lines)) <= 100
    leads = next(number for number, line in enumerate(lines) if line.split() == ["1", "mean"])
    heads = [line for line in lines[leads + 1 : lines.index("")] if not line.startswith("  ")]
    assert heads == [
        "PSNR (dB), higher is better",
        "SSIM, higher is better",
        "LPIPS, lower is better",
        "PSNR of moving pixels (dB), higher is better",
        "sharpness, 1 is that of the truth",
    ]
    model, copy = (lines[lines.index(heads[0]) + n] for n in (1, 2))
    psnr = result.reduced["curves"]["model"]["psnr"]
    assert model.split() == ["model", f"{psnr['mean'][0]:.2f}", f"{psnr['horizon_mean']['mean']:.2f}"]
    assert copy.split()[0] == "copy_last"
    assert copy.count("+") == 2


def test_the_table_is_narrow_whatever_its_metrics_are_called(clips, tmp_path):
    result = run(Oracle(clips.source, noise=0.1), clips, tmp_path)
    far = result.provenance | {"horizon": 300}
    for parts in (result.reduced["curves"], result.reduced["differences"]):
        for curves in parts.values():
            for curve in curves.values():
                curve |= {end: np.resize(curve[end], 300) for end in ("mean", "low", "high")}
    for about in result.reduced["metrics"].values():
        about["label"] = "digits within 4 px of their place, as a reader of digits finds them"
    lines = table(result.reduced, far, "model").splitlines()
    assert ["1", "10", "50", "100", "300", "mean"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 100


def test_frames_without_motion_are_left_out_of_the_psnr_of_moving_pixels(tmp_path):
    """A spot appears in every second frame after a black context: only those frames count."""

    class Spots(RandomClips):
        num_clips = 2

        def window(self, index, epoch=0):
            frames = np.full(self.shape, index, np.uint8)  # a grey level says which clip it is
            frames[CONTEXT::2, :4, :4] = 255
            return frames

    clips = Clips(Spots(), batch_size=2)
    result = run(Fake(clips.source, lambda windows, own, context: windows[own] - 0.1), clips, tmp_path, num_examples=2)
    curve = result.reduced["curves"]["model"]["psnr_moving"]
    np.testing.assert_allclose(curve["mean"], [20, np.nan, 20, np.nan, 20, np.nan, 20], rtol=1e-4)
    assert curve["horizon_mean"]["mean"] == pytest.approx(20, rel=1e-4)
    assert result.reduced["curves"]["black"]["psnr_moving"]["horizon_mean"]["mean"] == pytest.approx(0, abs=1e-6)


def test_synthetic_clips_are_called_so_in_tables_files_and_pictures(tmp_path, capsys, monkeypatch):
    class Synthetic(RandomClips):
        note = "synthetic stand-in for KTH"

    rows = []
    monkeypatch.setattr(pictures.figures, "save_strip", lambda path, clips, context: rows.extend(clips))
    titles = []
    monkeypatch.setattr(pictures.plots, "save_curves", lambda path, curves, title, subtitle: titles.append(subtitle))
    clips = Clips(Synthetic(), batch_size=4)
    run(Oracle(clips.source), clips, tmp_path, num_pictures=1)
    assert "6 clips (synthetic stand-in for KTH), 3 context frames" in capsys.readouterr().out
    assert json.loads((tmp_path / "curves.json").read_text())["provenance"]["note"] == "synthetic stand-in for KTH"
    assert rows == ["truth, synthetic", "prediction", "difference"]
    assert titles == ["6 clips (synthetic stand-in for KTH), 3 context frames, 1 sample a clip"]


def test_a_gif_ends_where_memory_would_grow(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "GIF_FRAMES", 4)
    run(Oracle(clips.source, noise=0.1), clips, tmp_path, num_pictures=1)
    with Image.open(tmp_path / "clip_0.gif") as gif:
        assert gif.n_frames == CONTEXT + 4


def test_the_table_marks_what_is_better_and_what_is_worse(clips, tmp_path, capsys):
    run(Oracle(clips.source, shift=1), clips, tmp_path)  # a random frame: worse than the mean frame, better than black
    table = capsys.readouterr().out
    for metric in ("psnr", "mse_sum"):
        for line in table[table.index(f"{metric}: ") :].splitlines()[2:7]:
            *_, mean_frame, black = re.split(r"\s{2,}", line)
            assert (mean_frame[-1], black[-1]) == ("-", "+"), line


def test_an_infinite_prediction_is_no_number_either(clips, tmp_path, capsys):
    result = run(Oracle(clips.source, error=np.inf), clips, tmp_path)
    assert np.isnan(result.curves.values("model", "psnr")).all()
    assert "warning: 6 predictions hold values that are not numbers" in capsys.readouterr().out


def test_one_clip_has_no_interval(clips, tmp_path):
    run(Oracle(clips.source, noise=0.1), clips, tmp_path, num_examples=1)
    curve = json.loads((tmp_path / "curves.json").read_text())["curves"]["model"]["psnr"]
    assert curve["low"] == [None] * HORIZON


def test_a_prediction_that_is_not_a_number_is_reported_as_such(clips, tmp_path, capsys):
    run(Oracle(clips.source, error=np.nan), clips, tmp_path, num_pictures=1, lpips=True)
    content = json.loads((tmp_path / "curves.json").read_text())
    for metric in ("psnr", "lpips", "mse"):
        assert content["curves"]["model"][metric]["mean"] == [None] * HORIZON
    printed = capsys.readouterr().out
    assert "n/a" in printed
    assert "warning: 6 predictions hold values that are not numbers" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 10}, "have 12 frames, but context 3 and horizon 10 need 13"),
        ({"horizon": 0}, r"eval.horizon must be a whole number of at least 1, not 0"),
        ({"context": 0}, r"eval.context must be a whole number of at least 1"),
        ({"num_samples": 0}, r"eval.num_samples must be a whole number of at least 1"),
        ({"batch_size": -1}, r"eval.batch_size must be a whole number of at least 1"),
        ({"seed": -1}, r"eval.seed must be a whole number of at least 0"),
        ({"noise": "means"}, r"unknown eval.noise 'means'; did you mean 'mean'"),
        ({"select": "ssim"}, r"unknown eval.select 'ssim'"),
        ({"metric_mode": "openst"}, r"no mode of metrics is called 'openst'; did you mean 'openstl'"),
        ({"num_examples": 7}, "num_examples is 7, but there are only 6 clips"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(clips, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        run(Oracle(clips.source), clips, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_frames_is_refused(clips, tmp_path):
    model = Oracle(clips.source)
    model.frame_shape = (64, 64, 3)
    with pytest.raises(InputError, match=r"predicts frames of \(64, 64, 3\), but the clips have \(32, 32, 1\)"):
        run(model, clips, tmp_path)


def test_frames_too_small_for_lpips_are_refused(tmp_path):
    source = RandomClips()
    source.shape = (10, 16, 16, 1)
    model = Oracle(source)
    model.frame_shape = (16, 16, 1)
    with pytest.raises(InputError, match=r"at least 31x31 pixels .* received 16x16x1; set eval.lpips=false"):
        run(model, Clips(source, 2), tmp_path, lpips=True)


def test_flow_in_units(tmp_path, capsys):
    """Two channels whose values are counts: pooled root mean squared error in counts, pictures, no LPIPS."""
    source = RandomClips()
    source.shape, source.units = (10, 32, 32, 2), (0.0, 1292.0)
    source.window = lambda index, epoch=0: np.full(source.shape, 0.5, np.float32)
    model = Oracle(source)
    model.frame_shape = source.shape[1:]
    model._future = lambda clip, windows: source.window(0)
    with pytest.raises(InputError, match=r"1 or 3 channels, received 32x32x2; set eval.lpips=false"):
        run(model, Clips(source, 2), tmp_path, lpips=True)
    result = run(model, Clips(source, 2), tmp_path, num_pictures=1)
    np.testing.assert_allclose(result.reduced["curves"]["black"]["rmse_pooled"]["mean"], 646)
    np.testing.assert_allclose(result.reduced["curves"]["model"]["rmse_pooled"]["mean"], 0)
    np.testing.assert_allclose(result.reduced["curves"]["black"]["mae_in_units"]["mean"], 646)
    assert "mae_in_units" in result.provenance["definitions"]
    assert "rmse_pooled: root of the pooled MSE, in the data's units" in capsys.readouterr().out
    assert json.loads((tmp_path / "curves.json").read_text())["provenance"]["units"] == [0, 1292]


def test_several_samples_of_a_deterministic_model_are_refused(clips, tmp_path):
    model = Oracle(clips.source)
    model.stochastic = False
    with pytest.raises(InputError, match=r"one future for a context, but eval.num_samples is 3"):
        run(model, clips, tmp_path, num_samples=3)


def script(*arguments):
    """Run ``htsr evaluate`` in this process: exit status, stdout, last line of stderr."""
    done = command.run("evaluate", *arguments)
    return done.returncode, done.stdout, done.line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with an untrained model in it."""
    folder = tmp_path_factory.mktemp("run")
    model = {"name": "htsr", "frame_shape": [64, 64, 1], "levels": 2, "temporal_factor": 2, "stoch": 2, "deter": 4}
    model |= {"units": 8, "dense_layers": 1, "dense_units": 8, "channels_mult": 0.05}
    data = {"name": "moving_mnist", "num_digits": 1, "seq_len": 8, "batch_size": 2}
    config = {"model": model, "data": data, "train": {}, "eval": {"context": 4, "horizon": 6, "num_pictures": 1}}
    save_config(config, folder / "config.yml")
    checkpoints.save(folder / "model", 7, checkpoints.model_arrays(build_model(**model)))
    return folder


def test_the_script_evaluates_a_run(trained):
    status, printed, _ = script(
        "--logdir", trained / "model", "--eval-seq-len", 9, "--open-loop-ctx", 4, "--num-examples", 3, "--all-metrics"
    )
    assert status == 0
    (out,) = (trained / "eval").iterdir()
    assert {"protocol.yml", "report.html", "latents.json", "level_1.gif"} < {path.name for path in out.iterdir()}
    provenance = json.loads((out / "curves.json").read_text())["provenance"]
    assert (provenance["context"], provenance["horizon"], provenance["num_examples"]) == (4, 5, 3)
    assert provenance["split"] == "test"
    assert provenance["checkpoint"]["step"] == 7
    assert len(provenance["checkpoint"]["files"]["state.npz"]["sha256"]) == 64
    assert "lpips: LPIPS (lower is better)" in printed
    assert "peak memory" in printed.splitlines()[-2]
    assert printed.splitlines()[-1] == f"report: {out / 'report.html'}"


def test_a_model_that_comes_along_is_evaluated_beside_its_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("htsr.runs.folder.shipped", lambda name: trained.parent)
    monkeypatch.chdir(tmp_path)
    before = sorted(trained.rglob("*"))
    flags = ["--num-examples", 1, "--no-latents", "--set", "eval.lpips=false", "--set", "eval.num_pictures=0"]
    status, printed, _ = script("--pretrained", trained.name, *flags)
    assert status == 0
    assert f"results in {trained.name}-evaluation; " in printed
    assert (tmp_path / f"{trained.name}-evaluation" / "report.html").exists()
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eval-seq-len", 4], "error: --eval-seq-len 4 leaves nothing to predict after 4 context frames"),
        (["--eval-seq-len", 9, "--horizon", 5], "not allowed with argument"),
        (["--set", "model.levels=3"], "error: --set model.levels=3: after training only eval.* and data.* can change"),
        (["--set", "eval.horizn=3"], "error: eval: unknown key 'horizn'; did you mean 'horizon'?"),
        (["--set", "data.num_digit=3"], "error: data: unknown key 'num_digit'; did you mean 'num_digits'?"),
        (["--checkpoint", "9"], "error: no checkpoint 9 in"),
        (["--checkpoint", "newest"], "error: no checkpoint 'newest' in"),
        (["--num-examples", 2000], "error: num_examples is 2000, but there are only 1000 clips"),
    ],
)
def test_the_script_names_what_is_wrong(trained, arguments, message):
    status, _, line = script("--logdir", trained, *arguments)
    assert status == 2
    assert message in line


def test_the_script_names_a_folder_that_is_no_run():
    status, _, line = script("--logdir", "nowhere/model")
    assert (status, line.split(";")[0]) == (
        2,
        "error: nowhere/model is not a run folder: nowhere/config.yml is missing",
    )
