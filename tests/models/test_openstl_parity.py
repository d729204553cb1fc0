"""Recurrent models of OpenSTL against arrays computed by its code (tests/fixtures/README.md)."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.models import build_model
from htsr.published.layouts import names_of
from htsr.published.sources import SOURCES

DATA = Path(__file__).parents[1] / "fixtures"
# The source, and arguments beside those it publishes; outputs within a share of their largest (PredRNN++'s own float32
# and float64 runs differ by 3e-4).
CASES = {
    "predrnnpp": ({"filters": [8, 8, 8]}, 5e-4),
    "predrnnv2": ({"filters": [8, 8]}, 1e-4),
    "mim": ({"filters": [8, 8, 8]}, 1e-4),
    "e3d_lstm": ({"filters": [8, 8], "history": 25}, 1e-4),
    "mau": ({"filters": [8, 8], "patch_size": 1, "reduction": 4}, 1e-4),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    name = request.param
    arrays, (own, tolerance) = dict(np.load(DATA / f"{name}_small.npz")), CASES[name]
    published = {key: value for key, value in SOURCES[name].published.items() if not key.startswith("cell.")}
    cell = {key.removeprefix("cell."): v for key, v in SOURCES[name].published.items() if key.startswith("cell.")}
    arguments = {"kernel_size": 5, **published, **own}
    if SOURCES[name].model == "recurrent":
        arguments |= {"layer_norm": name == "mau", "cell": {"name": arguments["cell"], **cell}}
    model = build_model(SOURCES[name].model, frame_shape=(32, 32, 1), **arguments)
    pairs = SOURCES[name].pairs(model)
    assert {id(variable) for variable, _ in pairs} == {id(variable) for variable in model.weights}
    assert set(names_of(pairs)) == {key.removeprefix("sd/") for key in arrays if key.startswith("sd/")}
    for variable, recipe in pairs:
        variable.assign(recipe(lambda n: arrays[f"sd/{n}"]))
    return name, model, arrays, pairs, tolerance


def frames(arrays):
    return tf.constant(np.moveaxis(arrays["x"], 2, -1))


def last(array):
    """Channels last, of maps (batch, ..., channel, row, column)."""
    return np.moveaxis(array, -3, -1)


def outputs_of(name, arrays, key):
    """Predictions ``(batch, time, ...)`` in patches."""
    return last(arrays[key]) if name == "mau" else arrays[key]


def masks(arrays):
    sampled = arrays["mask"] > 0.5
    context = np.ones((2, 10), bool)
    ss = np.concatenate([context[:, : 19 - sampled.shape[1]], sampled], 1)
    ar = np.concatenate([context, np.zeros((2, 9), bool)], 1)
    return {"tf": np.ones((2, 19), bool), "ar": ar, "ss": ss}


# Gradients are near within a share of their largest, and Adam's step is compared above another one: an absolute error
# has signs, and E3D-LSTM's own norms of gradients in float32 and float64 differ by 1e-3.
GRADIENTS = {"e3d_lstm": (4e-3, 3e-2)}


def near(got, want, tolerance, name=""):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


@pytest.mark.usefixtures("plain_graphs")
@pytest.mark.parametrize("mode", ["tf", "ar", "ss"])
def test_outputs(case, mode):
    name, model, arrays, _, tolerance = case
    x, want = frames(arrays), outputs_of(name, arrays, f"{mode}_out")
    got = tf.transpose(model.unroll(model.patches(x), tf.constant(masks(arrays)[mode]))[0], [1, 0, 2, 3, 4])
    near(got, want, tolerance)
    if mode == "ar":
        long = np.concatenate([want[:, 9:], outputs_of(name, arrays, "ar_out_long")], 1)
        rolled = model.rollout(x[:, :10], 16)[0]
        near(rolled, model.frames(np.moveaxis(long, 0, 1)), 2 * tolerance)


def test_states(case):
    name, model, arrays, _, tolerance = case
    x = model.patches(frames(arrays))
    layers = model.initial_states(x[0])
    for step in range(2):
        layers, _ = model.predict_next(layers, x[step])
    if name == "mau":  # what its second layer was given is what the first one gave
        near(layers[1].spatial[:, -1], last(arrays["state/step2/layer0/out1"]), tolerance)
        layers = [(state.temporal[:, -1],) for state in layers]
    if name == "e3d_lstm":  # of which both moments are kept side by side
        layers = layers[1]
        for i, state in enumerate(layers):
            for j, value in enumerate(state[:2]):
                want = np.moveaxis(arrays[f"state/step2/layer{i}/out{j}"], (1, 2), (4, 3))
                near(value, want.reshape(value.shape), tolerance, f"layer {i}, {j}")
        return
    for i, state in enumerate(layers):
        for j, value in enumerate(state[: 5 if name == "predrnnv2" else 3]):
            near(value, last(arrays[f"state/step2/layer{i}/out{j}"]), tolerance, f"layer {i}, {j}")


@pytest.mark.usefixtures("plain_graphs")
def test_gradients_and_a_step_of_adam(case):
    name, model, arrays, pairs, _ = case
    tolerance, above = GRADIENTS.get(name, (1e-3, 1e-4))
    model.teacher_mask = lambda *_: tf.constant(masks(arrays)["ss"])
    x = frames(arrays)
    with tf.GradientTape() as tape:
        terms = {key: tf.reduce_mean(term) for key, term in model.loss_terms(x, 0, tf.constant(0)).items()}
        loss = model.total_loss(terms, 20) * 2 / (19 * 32 * 32)  # half sums of squares: OpenSTL has their mean
    np.testing.assert_allclose(loss, arrays["ss_loss"], rtol=1e-5)
    before = [v.numpy() for v, _ in pairs]
    grads = tape.gradient(loss, [v.value for v, _ in pairs])
    norms = small = 0
    for (variable, recipe), grad in zip(pairs, grads, strict=True):
        (first, *others) = recipe.names
        if not others:
            np.testing.assert_allclose(np.linalg.norm(grad), arrays[f"grad_norm/{first}"], rtol=1e-3, err_msg=first)
            norms += 1
        if all(f"grad_ss/{key}" in arrays for key in recipe.names):
            near(grad, recipe(lambda key: arrays[f"grad_ss/{key}"]), tolerance, variable.path)
            small += 1
    assert norms > 0.7 * len(pairs)
    assert small
    # Keras's epsilon is outside the bias correction.
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, [v for v, _ in pairs])
    for (variable, recipe), grad, start in zip(pairs, grads, before, strict=True):
        if all(f"adam1/{key}" in arrays for key in recipe.names):
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            there = np.abs(grad) > 1e-6 + above * np.abs(grad).max()  # below, rounding decides
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=variable.path)
        variable.assign(start)
