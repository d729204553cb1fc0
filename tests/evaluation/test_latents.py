"""What the diagnostics say of tiny models, against direct computation and models of known emptiness."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from htsr import metrics
from htsr.data.clips import Clips
from htsr.data.sources import WindowSource
from htsr.errors import InputError
from htsr.evaluation import latents
from htsr.evaluation.evaluate import clip_seeds
from htsr.evaluation.latents import REDRAWS, diagnose
from htsr.models import build_model
from htsr.ops import noise
from htsr.report import plots
from htsr.report.latents import save_plot, warnings_of

pytestmark = pytest.mark.usefixtures("plain_graphs")
TINY = {"stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125, "temporal_factor": 2}
CONTEXT, HORIZON, EXAMPLES, SEED = 5, 6, 3, 7
FRAMES = CONTEXT + HORIZON


class Noise(WindowSource):
    """Clips that no two frames of are alike."""

    shape = (FRAMES + 1, 64, 64, 1)
    num_clips = 4
    note = "made of noise"

    def window(self, index, epoch):
        del epoch
        return np.random.default_rng(index).integers(0, 256, self.shape, dtype=np.uint8)


def tiny(**arguments):
    keras.utils.set_random_seed(1)
    return build_model("htsr", **{**TINY, **arguments})


def run(model, out, **arguments):
    settings = {"context": CONTEXT, "horizon": HORIZON, "num_examples": EXAMPLES, "batch_size": 2, "seed": SEED}
    return diagnose(model, Clips(Noise(), batch_size=4), out=out, **{**settings, **arguments})


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "latents"


@pytest.fixture(scope="module")
def report(model, out):
    """In batches of 2 and 1 clips and pieces of 4 and 2 frames, which the computations by hand know nothing of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "CHUNK", 4)
        return run(model, out)


@pytest.fixture(scope="module")
def clip():
    return np.stack([Noise().window(i, 0)[:FRAMES] / np.float32(255) for i in range(EXAMPLES)])


@pytest.fixture(scope="module")
def seeds():
    return clip_seeds(SEED, range(EXAMPLES))


@pytest.fixture(scope="module")
def filtered(model, clip, seeds):
    return model.observe(model.encode(tf.constant(clip)), noise.fold(seeds, 0), tf.constant(True))


def test_kl_is_that_of_the_loss(model, report, clip, seeds):
    terms = [model.loss_terms(tf.constant(clip[i : i + 1]), int(seed)) for i, seed in enumerate(seeds)]
    for level, found in enumerate(report["levels"]):
        expected = np.mean([term[f"kl_{level}"][0] for term in terms])
        np.testing.assert_allclose(found["kl_per_frame"], expected, rtol=1e-5)


def test_numbers_of_the_posteriors_by_hand(report, filtered):
    for found, level in zip(report["levels"], filtered, strict=True):
        (p, s), (m, q) = ((np.asarray(x, np.float64) for x in normal) for normal in level[:2])
        kl = np.log(s / q) + (q**2 + (m - p) ** 2) / (2 * s**2) - 0.5  # (clip, tick, unit)
        np.testing.assert_allclose(found["kl"], kl.sum(2).mean(0), rtol=1e-4)
        np.testing.assert_allclose(found["kl_per_unit"], kl.mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(found["kl_per_tick"], kl.sum(2).mean(), rtol=1e-4)
        assert found["ticks"] == kl.shape[1] == -(-FRAMES // found["period"])
        assert found["active_units"] == (kl.mean((0, 1)) > 0.01).sum()
        assert found["active_units_by_variance"] == (((m - p) / s).var((0, 1)) > 0.01).sum()
        np.testing.assert_allclose([found["prior_stddev"], found["posterior_stddev"]], [s.mean(), q.mean()], rtol=1e-5)
    assert [level["period"] for level in report["levels"]] == [1, 2, 4]


def test_psnr_is_of_reconstruction_and_rollouts(model, report, clip, seeds, filtered):
    context, future = clip[:, :CONTEXT], clip[:, CONTEXT:]
    frames = {
        "reconstruction": model.decode(filtered[0].states.output).numpy()[:, CONTEXT:],
        "rollout of means": model.rollout(context, HORIZON, seed=seeds, noise="mean")[0],
        "rollout of a sample": model.rollout(context, HORIZON, seed=seeds)[0],
    }
    values = {name: metrics.psnr(np.clip(prediction, 0, 1), future) for name, prediction in frames.items()}
    assert list(report["psnr"]) == list(values)
    for name, expected in values.items():
        np.testing.assert_allclose(report["psnr"][name]["mean"], expected.mean(0), rtol=1e-5)
    for name in ("rollout of means", "rollout of a sample"):
        gap = values["reconstruction"] - values[name]
        np.testing.assert_allclose(report["gap"][name]["mean"], gap.mean(0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(report["gap"][name]["low"], metrics.bootstrap_interval(gap, SEED)[0], 1e-3, 1e-5)


def test_a_scene_is_drawn_on_piece_by_piece(tmp_path, clip, seeds, monkeypatch):
    monkeypatch.setattr(latents, "CHUNK", 4)
    model = tiny(levels=2, imagine_from=4, layers=1)
    report = run(model, tmp_path)
    means = model.rollout(clip[:, :CONTEXT], HORIZON, seed=seeds, noise="mean")[0]
    expected = metrics.psnr(means.clip(0, 1), clip[:, CONTEXT:]).mean(0)
    np.testing.assert_allclose(report["psnr"]["rollout of means"]["mean"], expected, rtol=1e-4)


def test_seeds_by_level(model, clip):
    """All the same they are those of an ordinary rollout; the noise alone decides."""
    held = tf.constant([3, 4, 5])
    state = model.start(tf.constant(clip[:, :CONTEXT]), 1, held, tf.constant(True))
    expected = model.advance(state, HORIZON)[1].numpy()
    by_level = state._replace(seeds=tf.stack([held] * 3))
    for _ in range(2):
        np.testing.assert_array_equal(model.advance(by_level, HORIZON)[1], expected)
    redrawn = state._replace(seeds=tf.stack([held, held + 9, held]))
    assert np.abs(model.advance(redrawn, HORIZON)[1] - expected).max() > 1e-4
    filtered = [model.observe(model.encode(clip), s, tf.constant(True))[0].states.stoch for s in (held, by_level.seeds)]
    np.testing.assert_array_equal(*filtered)


def test_redraws_by_hand(model, report, clip, seeds):
    held = noise.fold(seeds, 0)
    state = model.start(tf.constant(clip[:, :CONTEXT]), 1, held, tf.constant(True))
    for level in (0, 1, 2, None):
        futures = []
        for redraw in range(1, REDRAWS + 1):
            fresh = noise.fold(seeds, redraw)
            by_level = [fresh if level in (None, other) else held for other in range(3)]
            futures.append(model.advance(state._replace(seeds=tf.stack(by_level)), HORIZON)[1])
        stddev = np.clip(futures, 0, 1).std(0, ddof=1).mean((2, 3, 4))
        found = report["redraw_stddev_all"] if level is None else report["levels"][level]["redraw_stddev"]
        np.testing.assert_allclose(found["mean"], stddev.mean(0), rtol=1e-3, atol=1e-8)
        np.testing.assert_allclose(found["low"], metrics.bootstrap_interval(stddev, SEED)[0], rtol=1e-3, atol=1e-8)


def test_a_level_changes_nothing_before_its_first_tick(report):
    for level, first in ((0, 5), (1, 6), (2, 8)):
        spread = report["levels"][level]["redraw_stddev"]["mean"]
        assert (spread[: first - CONTEXT] < 1e-9).all()  # rows that are computed together may round differently
        assert (spread[first - CONTEXT :] > 1e-6).all()
        share = report["levels"][level]["redraw_share"]
        np.testing.assert_allclose(share, spread / report["redraw_stddev_all"]["mean"])


def test_files(report, out):
    pictures = [f"level_{level}.{kind}" for level in range(3) for kind in ("gif", "png")]
    assert sorted(path.name for path in out.iterdir()) == ["latents.json", "latents.png", *pictures]
    content = json.loads((out / "latents.json").read_text())
    expected = {"context": CONTEXT, "horizon": HORIZON, "num_examples": EXAMPLES, "seed": SEED, "note": Noise.note}
    assert {key: content[key] for key in expected} == expected
    assert content["warnings"] == report["warnings"]
    np.testing.assert_array_equal(content["levels"][2]["kl"], report["levels"][2]["kl"])
    with Image.open(out / "level_2.gif") as animation:
        assert animation.n_frames == FRAMES
    with Image.open(out / "level_2.png") as strip:
        cells = np.asarray(strip.convert("L"))[:, -68 * FRAMES :]  # a frame with its border is 68 pixels and a gap
        assert strip.size[1] > (1 + REDRAWS) * 68
        assert cells.std() > 1


def test_steps_of_the_plot_are_the_ticks(report, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "finish", lambda figure, panels, path: drawn.extend(panels))
    save_plot(tmp_path, report)
    for panel, edges in zip(drawn, [range(-5, 7), [-5, -3, -1, 1, 3, 5, 6], [-5, -1, 3, 6]], strict=False):
        values, found, _ = panel.patches[0].get_data()
        np.testing.assert_array_equal(found, np.array(edges) + 0.5)  # frame 0 is the last one of the context
        np.testing.assert_array_equal(values, report["levels"][drawn.index(panel)]["kl"])
    units = drawn[3].patches[1].get_data().values
    np.testing.assert_array_equal(units, np.sort(np.maximum(report["levels"][1]["kl_per_unit"], 0.001))[::-1])
    spread = report["redraw_stddev_all"]["mean"]
    np.testing.assert_array_equal(drawn[-1].lines[-1].get_xydata(), np.stack([np.arange(1, HORIZON + 1), spread], 1))


def test_latents_that_tell_nothing(tmp_path, capsys):
    """The posterior of level 1 is its prior; that of level 0 is sharper than its prior, always by as much."""
    model = tiny(posterior="residual_scaled", levels=2, imagine_from=4)
    for cell in model.cells:
        for layer in (cell.post_mean, cell.post_stddev):
            layer.set_weights([0 * weights for weights in layer.get_weights()])
    model.cells[0].post_stddev.bias.assign([-1.0] * 4)
    report = run(model, tmp_path, num_examples=1)
    counts = [[level[name] for level in report["levels"]] for name in ("active_units", "active_units_by_variance")]
    assert counts == [[4, 0], [0, 0]]
    np.testing.assert_allclose(report["levels"][0]["kl_per_unit"], 1 + np.exp(-2) / 2 - 0.5, rtol=1e-5)
    assert report["levels"][1]["kl_per_frame"] == 0
    texts = [text for text in report["warnings"] if "redrawing" not in text]
    assert texts[0].startswith("trained with imagine_from=4")
    assert texts[1].startswith("level 0 carries 2.3 nats a frame, whatever the frames are")
    assert texts[2].startswith("level 1 carries 0 nats a frame: collapsed, its latents tell nothing")
    printed = capsys.readouterr().out
    assert f"warning: {texts[2]}" in printed
    assert "0 of 4" in printed
    content = json.loads((tmp_path / "latents.json").read_text())
    assert content["gap"]["rollout of means"]["low"] == [None] * HORIZON  # of one clip


def test_a_decoder_that_ignores_the_levels(tmp_path):
    model = tiny(posterior="independent", levels=2, temporal_factor=4)
    for variable in model.decoder.trainable_variables:
        variable.assign(0 * variable.value)
    report = run(model, tmp_path, horizon=3, num_examples=2)
    assert "redrawing level 0 changes nothing, nor does redrawing all levels" in report["warnings"]
    assert sum("level 1 does not tick before frame 8" in text for text in report["warnings"]) == 1
    content = json.loads((tmp_path / "latents.json").read_text())
    assert content["levels"][0]["redraw_share"] == [None] * 3
    assert content["redraw_stddev_all"]["mean"] == [0] * 3


def test_a_model_that_has_diverged_is_told(tmp_path):
    model = tiny(levels=1)
    model.cells[0].prior_mean.bias.assign([np.nan] * 4)
    assert "level 0 carries nan nats a frame: the model has diverged" in run(model, tmp_path)["warnings"]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, []),
        ({"redraw_share_mean": 0.019}, ["redrawing level 1 changes nothing (1.9% of what all do)"]),
        ({"active_units": 1}, ["level 1: only 1 of 4 units active"]),
        ({"kl_per_tick": 0.011}, []),
        ({"kl_per_tick": 0.009}, ["level 1 carries 0.25 nats a frame: collapsed, its latents tell nothing"]),
        (
            {"active_units_by_variance": 0},
            [
                "level 1 carries 0.25 nats a frame, whatever the frames are: they pay for less noise, its latents tell "
                "nothing"
            ],
        ),
    ],
)
def test_warnings(numbers, expected):
    other = {"period": 4, "units": 4, "active_units": 2, "active_units_by_variance": 1, "kl_per_tick": 1.0}
    other |= {"kl_per_frame": 0.25, "redraw_share_mean": 0.5}
    level = {**other, "level": 1, **numbers}
    report = {"context": 4, "horizon": HORIZON, "redraw_stddev_all": {"mean": np.full(HORIZON, 0.1)}}
    levels = [{**other, "level": 0}, level, {**other, "level": 2}]
    assert warnings_of({**report, "levels": levels}, imagine_from=None) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 8}, "clips have 12 frames, but context 5 and horizon 8 need 13"),
        ({"context": 0}, "context must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"num_examples": 5}, "num_examples is 5, but there are only 4 clips"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_refused_arguments(model, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        run(model, tmp_path / "new", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_refused_models(tmp_path):
    recurrent = build_model("recurrent", frame_shape=(64, 64, 1), patch_size=8, filters=[4], context=2)
    with pytest.raises(InputError, match=r"needs a model with levels of latents .* received Recurrent"):
        run(recurrent, tmp_path)
    with pytest.raises(InputError, match=r"predicts frames of \(64, 64, 3\), but the clips have \(64, 64, 1\)"):
        run(tiny(frame_shape=(64, 64, 3)), tmp_path)
