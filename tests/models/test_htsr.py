"""Behaviour of HTSR that no reference array shows: rollouts, causality, options, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.errors import InputError
from htsr.metrics import lpips
from htsr.models import build_model

pytestmark = pytest.mark.usefixtures("plain_graphs")
TINY = {"stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125, "temporal_factor": 2}


def tiny(**arguments):
    keras.utils.set_random_seed(1)
    return build_model("htsr", **{**TINY, **arguments})


def clips(batch=2, time=9, shape=(64, 64, 1), seed=0):
    return np.random.default_rng(seed).random((batch, time, *shape), np.float32)


@pytest.fixture(scope="module")
def model():
    return tiny()


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_the_last_latents_decide(model):
    """After 4 frames with factor 2 and 3 levels all windows are complete: observing equals the training unroll."""
    x = clips(time=4)
    seeds = tf.constant([3, 4])
    filtered = model.observe(model.encode(x), seeds, tf.constant(True))
    started = model.start(tf.constant(x), 1, seeds, tf.constant(True))
    for step, state in zip(filtered, started.levels, strict=True):
        close(step.states.stoch[:, -1], state.stoch)
        close(step.states.deter[:, -1], state.deter)


def test_open_windows_run_on_the_prior(model):
    """With 3 of 4 frames the slowest level has no complete window: its latents are those of a context it never saw."""
    seeds = tf.constant([3, 4])
    start = [model.start(tf.constant(clips(time=3, seed=s)), 1, seeds, tf.constant(True)) for s in (0, 1)]
    close(start[0].levels[2].stoch, start[1].levels[2].stoch)
    assert np.abs(start[0].levels[1].stoch - start[1].levels[1].stoch).max() > 2e-5
    assert np.abs(start[0].levels[0].stoch - start[1].levels[0].stoch).max() > 2e-5


def test_the_future_is_not_seen(model):
    x = clips(time=8)
    spoiled = x.copy()
    spoiled[:, 4:] = np.nan
    embeds = [model.encode(tf.constant(c)) for c in (x, spoiled)]
    for ours, theirs, ticks in zip(*embeds, (4, 2, 1), strict=True):
        close(ours[:, :ticks], theirs[:, :ticks])
        assert np.isnan(theirs[:, ticks:]).all()
    steps = [model.observe(e, tf.constant([1, 2]), tf.constant(True)) for e in embeds]
    for level, ticks in ((0, 4), (1, 2), (2, 1)):
        close(steps[0][level].posterior.mean[:, :ticks], steps[1][level].posterior.mean[:, :ticks])


def test_noise(model):
    x = clips(time=4)
    samples = model.rollout(x, 5, num_samples=3, seed=1)
    assert np.abs(samples[0] - samples[1]).max() > 1e-4
    assert np.abs(samples - model.rollout(x, 5, num_samples=3, seed=2)).max() > 1e-4
    means = model.rollout(x, 5, num_samples=2, seed=1, noise="mean")
    close(means[0], means[1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": 1},
        {"levels": 4},
        {"posterior": "residual_scaled"},
        {"posterior": "independent", "top_down_residual": False},
        {"dense_layers": 0, "dense_residual": False},
        {"encoder_residual": False, "decoder_residual": False},
        {"frame_shape": (64, 64, 3)},
        {"frame_shape": (128, 128, 1)},
        {"dtype": "mixed_bfloat16"},
        {"imagine_from": 4},
        {"imagine_from": 4, "decoded_frames": 3},
        {"kl_balance": 0.8, "free_nats": 1.0, "beta": [1.0, 0.5, 0.1]},
    ],
)
def test_every_variant_trains_and_predicts(arguments):
    model = tiny(**arguments)
    x = clips(shape=model.frame_shape)
    with tf.GradientTape() as tape:
        terms = model.loss_terms(tf.constant(x), 3)
        assert all(term.shape == (2,) and term.dtype == tf.float32 for term in terms.values())
        loss = model.total_loss({k: tf.reduce_mean(v) for k, v in terms.items()}, 9)
    grads = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, grad in zip(model.trainable_variables, grads, strict=True):
        assert grad is not None, variable.path
        assert np.isfinite(grad).all(), variable.path
    frames = model.rollout(x, 3)
    assert frames.shape == (1, 2, 3, *model.frame_shape)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


def test_scaled_posterior_can_be_sharper_than_the_prior():
    x = tf.constant(clips())
    for posterior, sharper in (("residual", False), ("residual_scaled", True)):
        model = tiny(posterior=posterior)
        model.cells[0].post_stddev.bias.assign([-3.0] * 4)
        step = model.observe(model.encode(x), tf.constant([0, 1]), tf.constant(True))[0]
        assert (step.posterior.stddev.numpy() < step.prior.stddev.numpy()).all() == sharper


def test_imagined_likelihood_is_that_of_the_rollout():
    model = tiny(imagine_from=4, frame_stddev=0.5)
    model._noise = lambda *args, keep=model._noise: 0.0 * keep(*args)
    x = clips()
    terms = model.loss_terms(tf.constant(x), 3)
    assert set(terms) == {"nll", "nll_imagined", "kl_0", "kl_1", "kl_2"}
    error = (model.rollout(x[:, :4], 5, noise="mean")[0] - x[:, 4:]) ** 2
    nll = (error / (2 * 0.25) + np.log(0.5) + 0.5 * np.log(2 * np.pi)).sum((2, 3, 4))
    near_first = np.average(nll, 1, [1, 2**-0.5, 3**-0.5, 4**-0.5, 5**-0.5])
    np.testing.assert_allclose(terms["nll_imagined"], near_first, rtol=1e-5)
    published = tiny(frame_stddev=0.5).loss_terms(tf.constant(x), 3)
    assert set(published) == {"nll", "kl_0", "kl_1", "kl_2"}
    with pytest.raises(InputError, match="imagine_from is 4, but clips have 4 frames"):
        model.loss_terms(tf.constant(x[:, :4]), 3)


def test_weight_of_the_imagined_likelihood_rises():
    terms = {"nll": 1.0, "nll_imagined": 100.0, "kl_0": 0.0, "kl_1": 0.0, "kl_2": 0.0}
    model = tiny(imagine_from=4, imagine_warmup_steps=10)
    losses = [float(model.total_loss(terms, 9, tf.constant(step))) for step in (0, 4, 10, 99)]
    assert losses == pytest.approx([1, 41, 101, 101])
    assert float(model.total_loss(terms, 9)) == 101  # outside of training
    assert float(tiny(imagine_from=4).total_loss(terms, 9, tf.constant(0))) == 101


def test_perceptual_adds_lpips_to_the_loss():
    clip = tf.constant(np.random.default_rng(0).random([2, 6, 64, 64, 1]), tf.float32)
    plain, model = (tiny(imagine_from=4, still=True, perceptual=weight) for weight in (0.0, 2.0))
    model.set_weights(plain.get_weights())
    terms, expected = (each.loss_terms(clip, tf.constant(0)) for each in (model, plain))
    found = {name: tf.reduce_mean(terms.pop(name)) for name in ("lpips", "lpips_imagined")}
    assert set(terms) == set(expected)
    parts = [model.total_loss({**terms, **found}, 6), plain.total_loss(expected, 6)]
    np.testing.assert_allclose(np.mean(parts[0] - parts[1]), 2.0 * sum(found.values()), rtol=1e-4)
    context, still = clip[:, :4].numpy(), np.median(clip[:, :4], 1, keepdims=True)
    np.testing.assert_allclose(found["lpips"], 64 * 64 * lpips(context, np.repeat(still, 4, 1)).mean(), rtol=0.2)


def test_perceptual_has_a_gradient_where_frames_are_black():
    model = tiny(imagine_from=4, still=True, perceptual=1.0)
    clip = tf.zeros([1, 6, 64, 64, 1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.loss_terms(clip, tf.constant(0))["lpips"])
    found = [x for x in tape.gradient(loss, model.trainable_variables) if x is not None]
    assert all(np.isfinite(x).all() for x in found)


def test_decoded_frames_give_the_same_loss_on_average():
    x = tf.constant(clips(batch=1))
    x = tf.repeat(x * tf.linspace(0.0, 1.0, 9)[None, :, None, None, None], 2000, 0)  # frames that cost differently

    def terms(decoded):
        model = tiny(imagine_from=4, decoded_frames=decoded)
        model.decode = lambda outputs, *_: tf.zeros([*outputs.shape[:2], 64, 64, 1])
        model.encode = lambda clip: [tf.zeros([2000, -(-clip.shape[1] // 2**level), 128]) for level in range(3)]
        return model.loss_terms(x, 3)

    every, some = terms(None), terms(2)
    for name in ("nll", "nll_imagined"):
        spread = np.std(some[name]) / np.sqrt(2000)
        assert spread > 0
        assert abs(np.mean(some[name]) - np.mean(every[name])) < 4 * spread


def test_accumulated_step_is_the_step_of_the_whole_batch():
    moved = []
    for parts in (1, 2):
        model = tiny()
        model._noise = lambda *args, keep=model._noise: 0.0 * keep(*args)
        model.compile(keras.optimizers.SGD(1e-3, name="sgd"), accumulate=parts)
        before = [v.numpy() for v in model.trainable_variables]
        logs = model.train_step(tf.constant(clips(batch=4)))
        moved.append([v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)])
        assert {"loss", "nll", "kl_0", "grad_norm"} <= set(logs)
    for a, b in zip(*moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max() + 1e-8)


def test_clip_norm_and_moving_average():
    model = tiny()
    model.compile(keras.optimizers.SGD(1.0, name="sgd"), clip_norm=0.5, ema_decay=0.9)
    before = [v.numpy() for v in model.trainable_variables]
    model.train_step(tf.constant(clips()))
    steps = [v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)]
    np.testing.assert_allclose(np.sqrt(sum((s**2).sum() for s in steps)), 0.5, rtol=1e-4)
    for average, old, step in zip(model.training_step.ema_variables, before, steps, strict=True):
        np.testing.assert_allclose(average, old + 0.9 * step, rtol=0, atol=1e-6)  # decay (1 + 0) / (10 + 0) at first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 0}, "levels must be a whole number of at least 1, not 0"),
        ({"posterior": "sharp"}, "posterior must be one of residual, residual_scaled, independent, received 'sharp'"),
        ({"frame_shape": (48, 48, 1)}, "frames must be 64x64 or 128x128 pixels, received 48"),
        ({"frame_shape": (64, 128, 1)}, "needs square frames, received 64x128"),
        ({"frame_shape": (64, 64, 2)}, "frames of 1 or 3 channels, received 2"),
        ({"beta": [1.0]}, "list of 3 such numbers"),
        ({"kl_balance": 1.5}, "kl_balance must lie in 0..1"),
        ({"imagine_from": 6}, "multiple of 4, received 6"),
        (
            {"imagine_from": 4, "imagine_warmup_steps": -1},
            "imagine_warmup_steps must be a whole number of at least 0, not -1",
        ),
        ({"imagine_warmup_steps": 9}, "imagine_warmup_steps is 9, but imagine_from is not set"),
        ({"decoded_frames": 0}, "decoded_frames must be a whole number of at least 1, not 0"),
        ({"channels_mult": 0.01}, "channels_mult must be at least 1/32"),
        ({"channels_mult": 0.04, "frame_shape": (128, 128, 1)}, "channels_mult must be at least 1/16"),
        ({"channels_mult": float("nan")}, "channels_mult must be at least 1/32, received nan"),
        ({"frame_stddev": 0.0}, "frame_stddev must be above 0"),
        ({"dtype": "bfloat16"}, "dtype must be float32, mixed_bfloat16 or mixed_float16, received 'bfloat16'"),
        ({"dense_units": 0}, "dense_units must be a whole number of at least 1, not 0"),
        ({"walls": False}, "walls=false is about the things of layers, but layers is 0; set layers, or walls=true"),
        ({"dense_layers": -1}, "free_nats and perceptual must be at least 0, received -1"),
        ({"perceptual": -1.0}, "perceptual must be at least 0, received .* and -1.0"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        tiny(**arguments)


@pytest.mark.parametrize(
    ("context", "arguments", "message"),
    [
        (clips()[0], {}, r"context must be \(batch, time, 64, 64, 1\)"),
        (clips()[:, :0], {}, "at least one clip and one frame"),
        ((clips() * 255).astype("uint8"), {}, "received uint8; divide bytes by 255"),
        (clips(), {"num_samples": 0}, "num_samples must be a whole number of at least 1"),
        (clips(), {"noise": "none"}, "noise must be 'sample' or 'mean', received 'none'"),
    ],
)
def test_refused_rollouts(model, context, arguments, message):
    with pytest.raises(InputError, match=message):
        model.rollout(context, 3, **arguments)


def test_unknown_model():
    with pytest.raises(InputError, match="did you mean 'htsr'"):
        build_model("hstr")
