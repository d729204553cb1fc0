"""SwinLSTM against arrays computed by the original code (tests/fixtures/README.md), and what they do not show."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import assert_step_of_adam, load, near

from htsr.errors import InputError
from htsr.models import build_model

DATA = Path(__file__).parents[1] / "fixtures"
SIZES = {"filters": 8, "depths": [2, 4], "heads": [2, 4], "context": 3}


def loaded(side, arrays):
    model = build_model("swin_lstm", frame_shape=(side, side, 1), **SIZES)
    return model, load(model, "swin_lstm", arrays)


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "swinlstm_small.npz"))


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("side", [64, 32])
def test_outputs(arrays, side):
    """At 32 pixels the smallest map is one window, which does not move."""
    model, _ = loaded(side, arrays)
    prefix = "" if side == 64 else "img32/"
    x, want = (np.moveaxis(arrays[f"{prefix}{key}"], 2, -1) for key in ("x", "out"))
    mask = model.teacher_mask(1, 5, 0, None)
    near(np.moveaxis(model.unroll(model.patches(tf.constant(x)), mask)[0].numpy(), 0, 1), want)
    if side == 64:
        near(model.rollout(x[:, :3], 7)[0], np.moveaxis(arrays["out_long"], 2, -1))


def test_states(arrays):
    model, _ = loaded(64, arrays)
    x = model.patches(tf.constant(np.moveaxis(arrays["x"], 2, -1)))
    layers = model.initial_states(x[0])
    for step in range(2):
        layers, _ = model.predict_next(layers, x[step])
        for path, states in zip(("Downsample", "Upsample"), layers, strict=True):
            for i, state in enumerate(states):
                for kind, value in zip("hc", state, strict=True):
                    key = f"inter/{path}.layers.{i}#{step}/{kind}"
                    if key in arrays:
                        near(np.reshape(value, arrays[key].shape), arrays[key], key)


@pytest.mark.usefixtures("plain_graphs")
def test_gradients_and_a_step_of_adam(arrays):
    model, pairs = loaded(64, arrays)
    x = tf.constant(np.moveaxis(arrays["x"], 2, -1))
    variables = [variable for variable, _ in pairs]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.loss_terms(x, tf.constant(0))["l2"]) * 2 / (5 * 64 * 64)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    grads = tape.gradient(loss, [v.value for v in variables])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    grads = {recipe.names[0]: grad.numpy() for (_, recipe), grad in zip(pairs, grads, strict=True)}
    assert_step_of_adam(pairs, grads, arrays)


def test_branches_dropped_in_training():
    model = build_model("swin_lstm", frame_shape=(16, 16, 1), **{**SIZES, "window": 2}, drop_path=0.5)
    (kept,) = model.step_noise(400, 3, tf.constant(1), tf.constant(0))
    rates = np.repeat([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0], 2)
    assert kept.shape == (3, 400, 24)
    np.testing.assert_allclose((kept.numpy() == 0).mean((0, 1)), rates, atol=0.07)
    np.testing.assert_allclose(kept.numpy().max((0, 1)), 1 / (1 - rates), rtol=1e-6)
    assert (kept[0].numpy() != kept[1].numpy()).any()
    assert model.step_noise(400, 3, tf.constant(1), None) == ()
    alone = build_model("swin_lstm", depths=[3], heads=[2], frame_shape=(16, 16, 1), filters=4, drop_path=0.5)
    np.testing.assert_allclose(alone.step_noise(1, 1, tf.constant(1), tf.constant(0))[0].numpy() % 2, 0)


def test_published_numbers_of_parameters():
    """Those that something reads."""
    with keras.StatelessScope(initialize_variables=False):
        assert build_model("swin_lstm").count_params() == 20_191_969 - 1_346_560
        b = {"depths": [12], "heads": [4]}
        assert build_model("swin_lstm", **b).count_params() == 2_778_417 - 197_376
        assert build_model("swin_lstm", frame_shape=(64, 64, 3), **b).count_params() == 2_781_747 - 197_376


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": []}, r"depths must be one number of at least 1 for every cell, received \[\]"),
        ({"heads": [4]}, r"heads must be one number of at least 1 for every cell, received \[4\]"),
        ({"heads": [3, 4]}, "heads must divide the 8 channels, received 3"),
        ({"window": 5}, "windows of 5 must divide maps of 16x16"),
        ({"frame_shape": (36, 32, 1)}, r"height and width must be multiples of 8, received \(36, 32\)"),
        ({"drop_path": 1}, "drop_path must be at least 0 and below 1, received 1"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("swin_lstm", **{"frame_shape": (32, 32, 1), **SIZES, **arguments})
