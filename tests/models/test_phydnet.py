"""PhyDNet against arrays computed by the original code (tests/fixtures/README.md), and what they do not show."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import load, near

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.phydnet.physics import moment_penalty

DATA = Path(__file__).parents[1] / "fixtures"
SIZES = {"frame_shape": (32, 32, 2), "filters": 32, "lstm_filters": [16, 16, 32], "context": 4}


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "phydnet_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("phydnet", **SIZES)
    return model, load(model, "phydnet", arrays)


def clip(arrays, *keys):
    return tf.constant(np.concatenate([np.moveaxis(arrays[key], 2, -1) for key in keys], 1))


def last(array):
    return np.moveaxis(array, 1, -1)


def test_steps(loaded, arrays):
    model, _ = loaded
    x = model.patches(clip(arrays, "x"))
    layers = model.initial_states(x[0])
    for step in range(2):
        layers, image = model.predict_next(layers, x[step])
        near(model.encoder(x[step]), last(arrays[f"inter/encoder.encoder_E#{step}"]))
        near(layers.physical, last(arrays[f"inter/phycell.cell_list.0#{step}"]))
        near(model.from_physical(layers.physical), last(arrays[f"inter/encoder.decoder_Dp#{step}"]))
        for i, state in enumerate(layers.lstm):
            for j, value in enumerate(state):
                near(value, last(arrays[f"inter/convcell.cell_list.{i}#{step}/{j}"]), f"{i} {j}")
        near(image, last(arrays[f"inter/step{step}/image"]))


def test_rollout(loaded, arrays):
    model, _ = loaded
    near(model.rollout(clip(arrays, "x"), 6)[0], np.moveaxis(arrays["out"], 2, -1))


def test_moments(loaded, arrays):
    model, _ = loaded
    np.testing.assert_allclose(moment_penalty(model.physical.derivatives.kernel), arrays["moment_loss"], rtol=1e-5)
    # Filters that are derivatives by finite differences: the second one along the columns, and none at all.
    kernel = np.zeros((7, 7, 1, 49), np.float32)
    kernel[3, 2:5, 0, 2], kernel[3, 3, 0, 0] = [1, -2, 1], 1
    missing = moment_penalty(np.where(np.arange(49) == 2, 0, kernel)) - moment_penalty(kernel)
    np.testing.assert_allclose(missing, (1 - 1 / 12**2 - (2 / 720) ** 2) / 49**2, rtol=1e-3)


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("true", [False, True])
def test_gradients_and_a_step_of_adam(loaded, arrays, true):
    model, pairs = loaded
    variables, x = [variable for variable, _ in pairs], clip(arrays, "x", "y")
    with tf.GradientTape() as tape:
        # Far in training the probability of true frames is 0, at its beginning 1.
        terms = model.loss_terms(x, tf.constant(0), tf.constant(0 if true else 10**6))
        loss = model.total_loss({name: tf.reduce_mean(term) for name, term in terms.items()}, 10) * 2 / (32 * 32 * 2)
    np.testing.assert_allclose(loss, arrays[f"train_loss_tf{int(true)}"], rtol=1e-5)
    if true:
        return
    before = model.get_weights()
    grads = tape.gradient(loss, [v.value for v in variables])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    for (variable, recipe), grad in zip(pairs, grads, strict=True):
        (name,) = recipe.names
        if f"grad/{name}" in arrays:
            near(grad, recipe(lambda key: arrays[f"grad/{key}"]), name, 1e-3)
        if f"adam1/{name}" in arrays:
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            there = np.abs(grad) > 1e-6 + 1e-4 * np.abs(grad).max()
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
    model.set_weights(before)


def test_a_batch_is_fed_alike():
    model = build_model("phydnet", **SIZES, sampling_steps=100)
    masks = [model.teacher_mask(5, 8, tf.constant(seed), tf.constant(50)).numpy() for seed in range(40)]
    assert all((mask == mask[0]).all() and mask[0, :4].all() and len(set(mask[0, 4:])) == 1 for mask in masks)
    assert 10 < sum(mask.all() for mask in masks) < 30
    assert not model.teacher_mask(5, 8, tf.constant(0), None)[:, 4:].numpy().any()


def test_published_numbers_of_parameters():
    shapes = {(64, 64, 1): 4, (32, 32, 2): 2, (32, 64, 1): 2, (128, 128, 3): 4}
    with keras.StatelessScope(initialize_variables=False):
        counts = [
            build_model("phydnet", frame_shape=shape, patch_size=size).count_params() for shape, size in shapes.items()
        ]
    assert counts == [3_091_732, 3_092_309, 3_091_732, 3_092_886]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 48}, "filters must be a multiple of 32, received 48"),
        ({"lstm_filters": [16]}, r"lstm_filters must be numbers of which the last is 32, received \[16\]"),
        ({"patch_size": 3}, "patch_size must be 2 or 4, received 3"),
        ({"frame_shape": (30, 32, 1)}, r"height and width must be multiples of 4, received \(30, 32\)"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("phydnet", **{**SIZES, **arguments})
