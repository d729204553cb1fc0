"""DDPAE against arrays computed by the authors' networks (tests/fixtures/README.md), and what they do not show."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS
from parity import load

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.ddpae.frames import cut_out, place

DATA = Path(__file__).parents[1] / "fixtures"
SIZES = {"filters": 2, "frame_units": 12, "content_units": 6, "units": 8, "context": 3}


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "ddpae_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("ddpae", frame_shape=(32, 32, 1), **SIZES)
    return model, load(model, "ddpae", arrays)


def last(array):
    return np.moveaxis(array, -3, -1)


def clip(arrays):
    return tf.constant(np.concatenate([last(arrays["x"]), last(arrays["y"])], 1))


def near(got, want, name="", tolerance=1e-5):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


def by_clip(draws):
    """As there: clip by clip, then time, then component."""
    return np.transpose(draws, [1, 0, 2, 3]).reshape(-1, draws.shape[-1])


def test_cutting_out_and_placing(arrays):
    pose = tf.constant(arrays["stn/pose"])[None, :, None]
    objects = last(arrays["stn/object16"])
    near(cut_out(tf.constant(last(arrays["stn/image"]))[None], pose, 16)[0, :, 0], objects)
    near(place(tf.constant(objects)[:, None], pose, 32)[0], last(arrays["stn/back32"]))


def test_parts_and_frames(loaded, arrays):
    model, _ = loaded
    x = clip(arrays)[:, :3]
    state = model._first_state(x, tf.constant([0, 1]), tf.constant(0.0))
    state, poses, drawn = model._read(x, state, True)
    _, later, moves = model._predict(state, 4)
    near(by_clip(drawn["moves"].mean), arrays["inter/input_beta_mu"])
    near(by_clip(drawn["moves"].stddev), arrays["inter/input_beta_sigma"])
    near(by_clip(moves.mean), arrays["inter/pred_beta_mu"])
    near(by_clip(moves.stddev), arrays["inter/pred_beta_sigma"])
    near(by_clip(drawn["initial_pose"].mean), arrays["inter/initial_mu"])
    near(by_clip(drawn["initial_pose"].stddev), arrays["inter/initial_sigma"])
    poses = tf.concat([poses, later], 0)
    bounded = model._bounded(poses)
    near(tf.transpose(bounded, [1, 0, 2, 3]), arrays["inter/pose"])
    near(tf.repeat(tf.transpose(drawn["content"].mean, [1, 0, 2, 3]), 7, 1), arrays["inter/content"])
    looks = cut_out(tf.transpose(x, [1, 0, 2, 3, 4]), bounded[:3], 16)
    near(
        tf.reshape(tf.transpose(looks, [1, 0, 2, 3, 4, 5]), [12, 16, 16, 1]),
        last(arrays["inter/input_objects_cropped"]),
    )
    near(state.objects[0, 0], last(arrays["inter/objects_decoded"])[0])
    for i in range(2):
        part = place(state.objects[:, i : i + 1], bounded[:, :, i : i + 1], 32)
        near(tf.transpose(part, [1, 0, 2, 3, 4]), last(arrays["inter/components"])[:, :, i])
    near(model._frames(state.objects, poses), last(arrays["out"]))
    near(model.rollout(x, 4, noise="mean")[0], last(arrays["out"])[:, 3:])


@pytest.fixture
def given_noise(loaded, arrays, monkeypatch):
    """The fixture's noise in place of the model's own."""

    def noise(name):
        return tf.constant(arrays[f"noise/{name}"].reshape(2, -1, 2, arrays[f"noise/{name}"].shape[-1]).swapaxes(0, 1))

    drawn = {0: ["initial_pose"], 1: ["content"], 2: ["input_beta", "pred_beta"]}
    monkeypatch.setattr(loaded[0], "_noise", lambda seeds, stream, steps, size: noise(drawn[stream].pop(0)))


@pytest.mark.usefixtures("given_noise")
def test_bound_gradients_and_a_step_of_adam(loaded, arrays):
    model, pairs = loaded
    before, trained = model.get_weights(), [(v, recipe) for v, recipe in pairs if v.trainable]
    with tf.GradientTape() as tape:
        terms = model.loss_terms(clip(arrays), tf.constant(0), tf.constant(0))
        terms = {name: tf.reduce_sum(term) for name, term in terms.items()}
        loss = model.total_loss(terms, 7)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-6)
    np.testing.assert_allclose(terms["nll"], -arrays["logp/obs"], rtol=1e-6)
    for name, theirs in {
        "content": ["content"],
        "initial_pose": ["initial_pose"],
        "moves": ["input_beta", "pred_beta"],
    }.items():
        np.testing.assert_allclose(
            terms[name], sum(arrays[f"logq/{key}"] - arrays[f"logp/{key}"] for key in theirs), rtol=1e-5
        )
    grads = tape.gradient(loss, [variable.value for variable, _ in trained])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, [variable for variable, _ in trained])
    grads = {variable.path: grad for (variable, _), grad in zip(trained, grads, strict=True)}
    for variable, recipe in pairs:
        grad, (name, *others) = grads.get(variable.path), recipe.names
        if grad is not None:
            # Both biases of an LSTM have the gradient of their sum.
            near(grad, arrays[f"grad/{name}"] if "bias_ih" in name else recipe(lambda key: arrays[f"grad/{key}"]), name)
            if not others:
                np.testing.assert_allclose(np.linalg.norm(grad), arrays[f"grad_norm/{name}"], rtol=1e-4, err_msg=name)
        if "bias_ih" in name:
            continue
        want, there = recipe(lambda key: arrays[f"adam1/{key}"]), True if grad is None else np.abs(grad) > 1e-6
        if name.startswith("object_decoder") and name.endswith("running_var"):
            # There a look is decoded once for each of its 7 frames: unbiased variances of so many more numbers.
            pixels = 4 * {"object_decoder.main.1": 16, "object_decoder.main.4": 64}[name.removesuffix(".running_var")]
            kept = 0.9 * arrays[f"var/{name}"]
            want = kept + (want - kept) * (7 * pixels - 1) / (7 * pixels) * pixels / (pixels - 1)
        np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
    model.set_weights(before)


def test_futures_differ_and_their_mean_does_not():
    model = build_model(**ROWS["ddpae"])
    x = np.random.default_rng(0).random((2, 4, *model.frame_shape), np.float32)
    futures = model.rollout(x, 5, num_samples=2, seed=3)
    assert (futures[0] != futures[1]).any()
    means = model.rollout(x, 5, num_samples=2, seed=3, noise="mean")
    np.testing.assert_allclose(means[0], means[1], rtol=0, atol=1e-6)


def test_a_thousand_frames():
    model = build_model(**{**ROWS["ddpae"], "components": 1})
    frames = model.rollout(np.full((1, 3, *model.frame_shape), 0.5, np.float32), 1000)
    assert np.isfinite(frames).all()
    assert frames.max() <= 1


def test_published_number_of_parameters():
    with keras.StatelessScope(initialize_variables=False):
        model = build_model("ddpae")
    count = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    assert count == 706_364 - 4 * 4 * 64  # PyTorch's LSTMs have two biases


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"frame_shape": (32, 16, 1)},
            r"height and width must be the same power of 2, at least 16, received \(32, 16\)",
        ),
        ({"frame_shape": (48, 48, 1)}, r"the same power of 2, at least 16, received \(48, 48\)"),
        ({"components": 0}, "components must be a whole number of at least 1, not 0"),
        ({"scale": 1}, "scale must be above 1, received 1"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("ddpae", **{**SIZES, **arguments})


def test_clips_that_are_too_short_are_refused():
    model = build_model(**ROWS["ddpae"])
    with pytest.raises(InputError, match=r"context is 3, but clips have 3 frames; set data.seq_len above it"):
        model.loss_terms(tf.zeros([1, 3, 16, 16, 2]), tf.constant(0))
