"""ST-ResNet against arrays computed with PyTorch (tests/fixtures/README.md), and what they do not show."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import load

from htsr.errors import InputError
from htsr.models import build_model

DATA = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "stresnet_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("st_resnet", frame_shape=(16, 16, 2), day=5, week=7, filters=8, units=2, external=28)
    return model, load(model, "st_resnet", arrays)


def last(array):
    return np.moveaxis(array, 1, -1)


def context(arrays):
    """Seven frames, of which the branches read the last three, the fifth from the end and the first."""
    frames = np.zeros((3, 7, 16, 16, 2), np.float32)
    for back in (1, 2, 3):
        frames[:, -back] = last(arrays["closeness"][:, 2 * back - 2 : 2 * back])
    frames[:, -5], frames[:, -7] = last(arrays["period"]), last(arrays["trend"])
    return tf.constant(0.5 * (frames + 1))


def near(got, want, name="", tolerance=1e-5):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


def test_branches_and_prediction(loaded, arrays):
    model, _ = loaded
    for branch in model.branches:
        x = tf.constant(last(arrays[branch.name]))
        near(branch(x), last(arrays[f"inter/branch_{branch.name}"]), branch.name)
        if branch.name == "closeness":
            x = branch.conv_in(x)
            near(x, last(arrays["inter/closeness_conv1"]))
            first, second = branch.units[0]
            near(x + second(tf.nn.relu(first(tf.nn.relu(x)))), last(arrays["inter/closeness_unit0"]))
    external = tf.constant(arrays["external"])
    near(tf.reshape(model.expand(model.embed(external)), [3, 16, 16, 2]), last(arrays["inter/external"]))
    near(2 * model.predict_block(context(arrays), external)[:, 0] - 1, last(arrays["out"]))


def test_gradients_and_a_step_of_adam(loaded, arrays):
    model, pairs = loaded
    variables, before = [variable for variable, _ in pairs], model.get_weights()
    with tf.GradientTape() as tape:
        frame = 2 * model.predict_block(context(arrays), tf.constant(arrays["external"]))[:, 0] - 1
        loss = tf.reduce_mean(tf.square(frame - last(arrays["y"])))
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-6)
    grads = tape.gradient(loss, [variable.value for variable in variables])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    for (variable, recipe), grad in zip(pairs, grads, strict=True):
        norm = np.linalg.norm([arrays[f"grad_norm/{name}"] for name in recipe.names])
        np.testing.assert_allclose(np.linalg.norm(grad), norm, rtol=1e-4, err_msg=variable.path)
        near(grad, recipe(lambda name: arrays[f"grad/{name}"]), variable.path)
        there, want = np.abs(grad) > 1e-6, recipe(lambda name: arrays[f"adam1/{name}"])
        np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=variable.path)
    model.set_weights(before)


def test_loss(loaded, arrays):
    """A quarter of the published one, whose frames are in [-1, 1]; nothing but frames is known."""
    model, _ = loaded
    x, y = context(arrays), 0.5 * (last(arrays["y"]) + 1)
    error = model.predict_block(x, tf.zeros([3, 28]))[:, 0] - y
    terms = model.loss_terms(tf.concat([x, y[:, None]], 1), tf.constant(0), tf.constant(0))
    near(terms["l2"], np.square(error).mean((1, 2, 3)))


@pytest.mark.parametrize("arguments", [{"period": 0, "trend": 0}, {"period": 2, "day": 4, "trend": 0}])
def test_fewer_branches_read_no_more_than_they_need(arguments):
    model = build_model("st_resnet", frame_shape=(4, 6, 1), filters=2, units=0, **arguments)
    read = {1, 2, 3} | ({4, 8} if arguments["period"] else set())
    assert model.num_inputs == max(read)
    x = np.random.default_rng(0).random((1, 8, 4, 6, 1), np.float32)
    whole = model.rollout(x, 1)
    for back in range(1, 9):
        changed = x.copy()
        changed[:, -back] = 0
        assert (model.rollout(changed, 1) != whole).any() == (back in read), back


def test_published_numbers_of_parameters():
    with keras.StatelessScope(initialize_variables=False):
        counts = [build_model("st_resnet", units=units, external=28).count_params() for units in (2, 4, 12)]
    assert counts == [481_512, 924_648, 2_697_192]


@pytest.mark.parametrize("name", ["closeness", "day"])
def test_refused(name):
    with pytest.raises(InputError, match=f"{name} must be a whole number of at least 1, not 0"):
        build_model("st_resnet", **{name: 0})
