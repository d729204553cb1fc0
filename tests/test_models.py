"""What every model keeps to: a new one needs a row of tiny arguments here, and all of this runs for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.models import MODELS, build_model

RECURRENT = {"name": "recurrent", "frame_shape": (16, 24, 2), "patch_size": 2, "filters": [4, 4], "context": 3}
MOVING = {**RECURRENT, "embed": False, "layer_norm": False, "time_reversed": False}
ROWS = {
    "htsr": {"name": "htsr", "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125}
    | {"temporal_factor": 2, "frame_shape": (64, 64, 1)},
    "cms_lstm": {**RECURRENT, "cell": "cms_lstm"},
    "conv_lstm": {**RECURRENT, "cell": "conv_lstm", "embed": False, "layer_norm": False},
    "st_lstm": {**RECURRENT, "cell": "st_lstm", "ce": 2, "se": [2]},
    "mixed precision": {**RECURRENT, "cell": "cms_lstm", "filters": [4], "dtype": "mixed_bfloat16"},
    "sa_conv_lstm": {**RECURRENT, "cell": "sa_conv_lstm", "key_filters": 2, "se": [1]},
    "motionrnn": {**MOVING, "cell": "motionrnn"},
    "gmg": {**MOVING, "cell": "gmg", "key_filters": 2},
    "gmg with blocks": {**MOVING, "cell": "gmg", "trend_decay": "step", "ce": 1, "se": [2], "dtype": "mixed_bfloat16"},
}


def test_every_model_has_a_row():
    assert {row["name"] for row in ROWS.values()} == set(MODELS)


@pytest.fixture(scope="module", params=ROWS)
def model(request):
    keras.utils.set_random_seed(1)
    return build_model(**ROWS[request.param])


def clips(model, batch=2, time=9, seed=0):
    return np.random.default_rng(seed).random((batch, time, *model.frame_shape), np.float32)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)


@pytest.mark.parametrize("context", [1, 2, 3, 4])
def test_a_longer_rollout_begins_with_the_shorter_one(model, context):
    x = clips(model)[:, :context]
    whole = model.rollout(x, 11, num_samples=2, seed=5)
    assert whole.shape == (2, 2, 11, *model.frame_shape)
    close(model.rollout(x, 7, num_samples=2, seed=5), whole[:, :, :7])
    close(np.concatenate(list(model.rollout_chunks(x, 11, 2, 5, chunk=3)), 2), whole)
    close(np.concatenate(list(model.rollout_chunks(x, 11, 2, 5, chunk=1)), 2), whole)


def test_a_prediction_does_not_depend_on_batch_mates(model):
    x = clips(model, batch=3, time=5)
    together = model.rollout(x, 6, num_samples=2, seed=np.array([7, 8, 9]))
    alone = model.rollout(x[2:], 6, num_samples=2, seed=np.array([9]))
    close(alone[:, 0], together[:, 2])
    first = model.rollout(x[:1], 6, num_samples=1, seed=np.array([7]))
    close(first[0, 0], together[0, 0])
    assert model.rollout(x[:1], 6, seed=7).shape == first.shape  # one seed for all clips, after one for each


def test_a_prediction_depends_on_the_whole_context(model):
    x = clips(model, time=8)
    whole = model.rollout(x, 2, noise="mean")
    for t in range(8):
        changed = x.copy()
        changed[:, t] = 1 - changed[:, t]
        assert (model.rollout(changed, 2, noise="mean") != whole).any(), t


def test_loss_reaches_every_weight(model):
    x = tf.constant(clips(model))
    with tf.GradientTape() as tape:
        terms = model.loss_terms(x, tf.constant(3), tf.constant(10))
        loss = model.total_loss({name: tf.reduce_mean(term) for name, term in terms.items()}, 9)
    assert {term.shape.as_list()[0] for term in terms.values()} == {2}
    grads = tape.gradient(loss, [v.value for v in model.trainable_variables])
    missing = [v.path for v, g in zip(model.trainable_variables, grads, strict=True) if g is None]
    assert not missing
    assert all(np.isfinite(g).all() for g in grads)


def test_a_few_steps_lower_the_loss(model):
    weights = model.get_weights()
    model.compile(keras.optimizers.Adam(3e-3))
    x = tf.constant(clips(model))
    step = tf.function(model.train_step)
    losses = [float(step(x)["loss"]) for _ in range(12)]
    assert int(model.optimizer.iterations) == 12 * model.num_passes
    assert losses[-1] < losses[0]
    model.set_weights(weights)
