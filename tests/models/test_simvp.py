"""SimVP apart from its parity: dropped paths, long clips, averages, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.simvp.translators.block import draw_kept
from htsr.runs import checkpoints

TINY = {"name": "simvp", "frame_shape": (8, 8, 1), "context": 2, "filters": 4, "stages": 2}
CHAIN = {"filters": 16, "depth": 2, "mlp_ratio": 1}


def clip(model, time, batch=2):
    return tf.constant(np.random.default_rng(0).random((batch, time, *model.frame_shape), np.float32))


def test_paths_are_dropped_in_training_alone():
    model = build_model(**{**TINY, "translator": {"name": "vit", **CHAIN, "drop_path": 0.5}})
    np.testing.assert_allclose(model.translator.drop_rates, [0.01, 0.01, 0.5, 0.5])
    rates = model.translator.drop_rates
    kept = np.concatenate([draw_kept(rates, tf.zeros([500, 1]), seed, 0) for seed in range(4)])
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.99), np.float32(2)}
    np.testing.assert_allclose(kept.mean(0), 1, atol=0.07)
    assert (draw_kept(rates, tf.zeros([500, 1]), 0, 1) != kept[:500]).numpy().any()  # anew in the next block
    x = clip(model, 4)
    losses = {float(model.loss_terms(x, tf.constant(seed), None)["l2"][0]) for seed in range(6)}
    assert len(losses) == 1
    losses = {float(model.loss_terms(x, tf.constant(seed), tf.constant(0))["l2"][0]) for seed in range(6)}
    assert len(losses) > 1


def test_a_dropped_block_changes_nothing():
    model = build_model(**{**TINY, "translator": {"name": "vit", **CHAIN}})
    block = model.translator.blocks[0]
    x = tf.random.stateless_normal([2, 4, 4, 8], [0, 0])
    got = block(x, tf.constant([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(got[0], x[0])
    np.testing.assert_allclose(got[1], block(x)[1], rtol=1e-6)


def test_long_clips_train_on_the_models_own_frames():
    model = build_model(**{**TINY, "translator": {"name": "poolformer", **CHAIN}, "divergence": 0.1})
    model.translator.drop_rates[:] = 0
    x = clip(model, 7)
    frames = model.rollout(x[:, :2], 5)[0]
    for step in (None, tf.constant(3)):
        terms = model.loss_terms(x, tf.constant(0), step)
        np.testing.assert_allclose(terms["l2"], np.square(frames - x[:, 2:]).mean((1, 2, 3, 4)), rtol=1e-5)
    assert (terms["divergence"].numpy() > 0).all()
    assert (model.loss_terms(x[:, :4], tf.constant(0))["divergence"].numpy() == 0).all()  # of two frames
    with pytest.raises(InputError, match=r"simvp reads 2 frames, but clips have 2; set data.seq_len above it"):
        model.loss_terms(x[:, :2], tf.constant(0))


@pytest.mark.usefixtures("plain_graphs")
def test_averages_are_moved_by_training_and_saved(tmp_path):
    model = build_model(**ROWS["gsta"])
    model.compile(keras.optimizers.Adam(1e-3))
    before = [variable.numpy() for variable in model.non_trainable_variables]
    model.rollout(clip(model, 8).numpy(), 3)
    for variable, old in zip(model.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)
    tf.function(model.train_step, autograph=False)(clip(model, 12))
    for variable, old in zip(model.non_trainable_variables, before, strict=True):
        assert (variable.numpy() != old).any()
    checkpoints.save(tmp_path, 1, checkpoints.model_arrays(model))
    other = build_model(**ROWS["gsta"])
    checkpoints.assign_model(other, checkpoints.load(tmp_path)[1])
    for got, want in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["simvp", "gsta", "swin"])
def test_xla_computes_the_same(row):
    model = build_model(**{**ROWS[row], "dtype": "float32"})
    x = clip(model, 8)
    compiled = tf.function(model.predict_block, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(x), model.predict_block(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"translator": "gst"}, "unknown translator 'gst'; did you mean 'gsta'"),
        ({"translator": {"name": "incep_u", "drop_path": 0.1}}, "translator incep_u has no argument 'drop_path'"),
        ({"translator": {"name": "conv_mixer", "mlp_ratio": 2}}, "translator conv_mixer has no argument 'mlp_ratio'"),
        ({"translator": {"name": "gsta", "depth": 1}}, "translator depth must be a whole number of at least 2, not 1"),
        ({"translator": {"name": "gsta", "drop_path": 1}}, "drop_path must be at least 0 and below 1, received 1"),
        ({"translator": {"name": "vit", "filters": 12}}, "ViT needs channels that 8 divides, received 12"),
        ({"translator": {"name": "swin", **CHAIN}, "frame_shape": (16, 12, 1)}, "windows of 4 must divide maps of 8x6"),
        ({"stages": 3}, "stages must be even, received 3"),
        ({"filters": 5}, "filters must be even, received 5"),
        ({"divergence": -1}, "divergence must be at least 0, received -1"),
        ({"frame_shape": (9, 8, 1)}, r"height and width must be multiples of 2, received \(9, 8\)"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model(**{**TINY, "translator": {"name": "gsta", **CHAIN}, **arguments})
