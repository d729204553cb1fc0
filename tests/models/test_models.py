"""What every model keeps to; all of this runs for every row of ``model_rows``."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.errors import InputError
from htsr.models import MODELS, build_model


def test_every_model_has_a_row():
    assert {row["name"] for row in ROWS.values()} == set(MODELS)


@pytest.fixture(scope="module", params=ROWS)
def model(request):
    keras.utils.set_random_seed(1)
    return build_model(**ROWS[request.param])


def clips(model, batch=2, time=12, seed=0):
    return np.random.default_rng(seed).random((batch, time, *model.frame_shape), np.float32)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)


@pytest.mark.parametrize("more", [0, 1, 2, 3])
def test_a_longer_rollout_begins_with_the_shorter_one(model, more):
    x = clips(model)[:, : model.min_context + more]
    whole = model.rollout(x, 11, num_samples=2, seed=5)
    assert whole.shape == (2, 2, 11, *model.frame_shape)
    close(model.rollout(x, 7, num_samples=2, seed=5), whole[:, :, :7])
    close(np.concatenate(list(model.rollout_chunks(x, 11, 2, 5, chunk=3)), 2), whole)
    close(np.concatenate(list(model.rollout_chunks(x, 11, 2, 5, chunk=1)), 2), whole)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_prediction_has_the_same_bits_in_any_batch(model, rows):
    """Of any size, beside whatever else, as the only sample or as one of several. Where rows are computed together, in
    one place among them: on processors without AVX-512 some kernels round the last rows differently."""
    x, seeds = clips(model, batch=5, time=model.min_context + 4), np.arange(7, 12)
    whole = model.rollout(x, 6, num_samples=2, seed=seeds, rows=rows)
    for batch in range(1, 5):
        np.testing.assert_array_equal(model.rollout(x[:batch], 6, seed=seeds[:batch], rows=rows)[0], whole[0, :batch])
    mates = np.concatenate([1 - x[:2], 0 * x[:1], x[3:4]])
    there = model.rollout(mates, 6, num_samples=3, seed=np.array([1, 2, 3, seeds[3]]), rows=rows)
    np.testing.assert_array_equal(there[0, 3], whole[0, 3])
    (np.testing.assert_array_equal if rows == 1 else close)(there[1, 3], whole[1, 3])
    broken = np.concatenate([x[:1], np.full_like(x[:1], np.nan)])
    np.testing.assert_array_equal(model.rollout(broken, 6, seed=np.array([seeds[0], 1]), rows=rows)[0, 0], whole[0, 0])
    assert model.rollout(x[:1], 6, seed=7, rows=rows).shape == (1, 1, *whole.shape[2:])  # one seed for all clips


def test_a_batch_predicted_together_is_the_same_to_rounding(model):
    """What rounding may do is told by a context that differs in the last digit."""
    x, seeds = clips(model, batch=3, time=model.min_context + 4), np.array([7, 8, 9])
    apart = model.rollout(x, 6, num_samples=2, seed=seeds, rows=1)
    digit = 2.0**-23 if model.compute_dtype == "float32" else 2.0**-8
    nudged = model.rollout(x * np.float32(1 + digit), 6, num_samples=2, seed=seeds, rows=1)
    largest, allowed = np.abs(apart).max(), 5 * np.abs(nudged - apart).max()
    assert allowed < 0.01 * largest or model.compute_dtype != "float32"
    allowed += 5e-6 * largest
    np.testing.assert_allclose(model.rollout(x, 6, num_samples=2, seed=seeds, rows=4), apart, rtol=0, atol=allowed)
    np.testing.assert_allclose(model.rollout(x, 6, num_samples=2, seed=seeds), apart, rtol=0, atol=allowed)


def test_a_prediction_depends_on_the_whole_context(model):
    x = clips(model, time=max(8, model.min_context))
    whole = model.rollout(x, 2, noise="mean")
    for t in range(x.shape[1]):
        changed = x.copy()
        changed[:, t] = 1 - changed[:, t]
        assert (model.rollout(changed, 2, noise="mean") != whole).any(), t


def test_a_shorter_context_than_a_model_can_read_is_refused(model):
    with pytest.raises(
        InputError, match=f"at least {model.min_context} frames" if model.min_context > 1 else "context"
    ):
        model.rollout(clips(model, time=model.min_context - 1), 2)


def test_loss_reaches_every_weight(model):
    """In every training pass those that are not frozen, and each weight in some pass."""
    x, reached = tf.constant(clips(model)), set()
    for part in model.training_passes(x):
        with tf.GradientTape() as tape:
            terms = model.loss_terms(part.clip, tf.constant(3), tf.constant(10), **part.arguments)
            loss = model.total_loss({name: tf.reduce_mean(term) for name, term in terms.items()}, x.shape[1])
        assert {term.shape.as_list()[0] for term in terms.values()} == {2}
        frozen = {v.path for v in part.frozen}
        variables = [v for v in model.trainable_variables if v.path not in frozen]
        grads = tape.gradient(loss, [v.value for v in variables])
        missing = [v.path for v, g in zip(variables, grads, strict=True) if g is None]
        assert not missing
        assert all(np.isfinite(g).all() for g in grads)
        reached |= {v.path for v in variables}
    assert reached == {v.path for v in model.trainable_variables}


@pytest.mark.usefixtures("plain_graphs")
def test_a_few_steps_lower_the_loss(model):
    weights = model.get_weights()
    model.compile(keras.optimizers.Adam(3e-3))
    x = tf.constant(clips(model))
    losses = [float(model.train_step(x)["loss"]) for _ in range(6)]
    assert int(model.optimizer.iterations) == 6 * model.num_passes
    assert losses[-1] < losses[0]
    model.set_weights(weights)


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("row", ["wast", "st_resnet", "ddpae", "simvp"])
def test_in_bfloat16(row):
    """Nearly the same frames, in float32; and it trains."""
    model, other = build_model(**ROWS[row]), build_model(**ROWS[row], dtype="mixed_bfloat16")
    other.set_weights(model.get_weights())
    x = clips(model, time=9)
    want, got = model.rollout(x, 3, noise="mean"), other.rollout(x, 3, noise="mean")
    assert got.dtype == np.float32
    assert np.square(got - want).mean() < 1e-3 * np.square(want).mean()
    other.compile(keras.optimizers.Adam(1e-3))
    assert np.isfinite([float(value) for value in other.train_step(tf.constant(x)).values()]).all()
