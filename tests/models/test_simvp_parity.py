"""SimVP with all translators against arrays computed by OpenSTL's code (tests/fixtures/README.md)."""

import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.models import build_model
from htsr.models.simvp.model import differential_divergence
from htsr.models.simvp.translators import TRANSLATORS
from htsr.published.layouts import names_of
from htsr.published.simvp import named_parts, names_of_block, pairs

DATA = Path(__file__).parents[1] / "fixtures"


@functools.cache
def load(name):
    with np.load(DATA / f"simvp_{name}.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module", params=TRANSLATORS)
def loaded(request):
    """A model with the fixture's weights, its pairs, and the fixture."""
    arrays = load(request.param)
    translator = {"name": request.param, "filters": 32, "depth": 3}
    model = build_model("simvp", frame_shape=(32, 32, 2), context=4, filters=4, translator=translator)
    model.divergence = 0.1 * (request.param == "tau")
    model.translator.drop_rates = np.zeros_like(model.translator.drop_rates)
    found = pairs(model)
    assert {id(variable) for variable, _ in found} == {id(variable) for variable in model.weights}
    assert set(names_of(found)) == {key.removeprefix("var/") for key in arrays if key.startswith("var/")}
    for variable, recipe in found:
        variable.assign(recipe(lambda name: arrays[f"var/{name}"]))
    return model, found, arrays


def last(array):
    return np.moveaxis(array, -3, -1) if array.ndim > 3 else array


def near(got, want, name="", tolerance=1e-4):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


def recorded(model, x):
    """Predict a block: the frames, and what layers gave, by their names in the original."""
    values = {}

    def record(layer, name):
        call = layer.call

        def recording(*args, **kwargs):
            values[name] = call(*args, **kwargs)
            return values[name]

        layer.call = recording
        return layer, call

    layers = [(part, name) for part, name in named_parts(model) if isinstance(part, keras.layers.Layer)]
    layers += [(stage, f"enc.enc.{i}") for i, stage in enumerate(model.encoder.stages)]
    layers += [(stage, f"dec.dec.{i}") for i, stage in enumerate(model.decoder.stages)]
    for i, block in enumerate(getattr(model.translator, "blocks", [])):
        parts = {ours.split(".")[0]: theirs.split(".")[0] for ours, theirs in names_of_block(block).items()}
        prefix = f"hid.enc.{i}.block"
        layers += [(block, prefix)]
        layers += [(getattr(block, ours), f"{prefix}.{theirs}") for ours, theirs in parts.items()]
    for i, block in enumerate(getattr(model.translator, "down", [])):
        layers.append((block, f"hid.enc.{i}"))
    for i, block in enumerate(getattr(model.translator, "up", [])):
        layers.append((block, f"hid.dec.{i}"))
    undo = [record(layer, name) for layer, name in layers if isinstance(layer, keras.layers.Layer)]
    frames = model.predict_block(x)
    for layer, call in reversed(undo):
        layer.call = call
    return frames, values


def test_blocks(loaded):
    """And the frames after them, of which a block and a half is predicted."""
    model, _, arrays = loaded
    frames, values = recorded(model, tf.constant(last(arrays["x"])))
    for key, want in arrays.items():
        name = key.removeprefix("inter/")
        theirs = next((n for n in (f"{name}.reduction", f"{name}.dwconv", name) if n in values), None)
        if key != name and theirs:
            value = np.reshape(values[theirs], [-1, *values[theirs].shape[1:]])[: len(want)]
            near(value, last(want) if want.ndim == value.ndim else want, name)
    near(tf.concat([frames, model.predict_block(frames)], 1)[:, :7], last(arrays["out_long"]))
    if "tau_reg_eval" in arrays:
        got = differential_divergence(frames, tf.constant(last(arrays["y"])))
        np.testing.assert_allclose(np.mean(got), arrays["tau_reg_eval"], rtol=1e-3)


def test_gradients_and_a_step_of_adam(loaded):
    model, found, arrays = loaded
    before = model.get_weights()
    clip = tf.constant(np.concatenate([last(arrays["x"]), last(arrays["y"])], 1))
    trained = [(variable, recipe) for variable, recipe in found if variable.trainable]
    variables = [variable for variable, _ in trained]

    with tf.GradientTape() as tape:
        terms = model.loss_terms(clip, tf.constant(0), tf.constant(0))
        loss = model.total_loss({name: tf.reduce_mean(term) for name, term in terms.items()}, 8)
    grads = tape.gradient(loss, [variable.value for variable in variables])
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    noise = json.loads(str(arrays["config_json"]))["gradient_is_rounding_noise"]
    grads = {variable.path: grad.numpy() for variable, grad in zip(variables, grads, strict=True)}
    for variable, recipe in found:
        (name,) = recipe.names
        grad = grads.get(variable.path)
        if grad is not None and name not in noise:
            np.testing.assert_allclose(np.linalg.norm(grad), arrays[f"grad_norm/{name}"], rtol=1e-3, err_msg=name)
            if f"grad/{name}" in arrays:
                near(grad, recipe(lambda key: arrays[f"grad/{key}"]), name, 1e-3)
        if f"adam1/{name}" in arrays and name not in noise:
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            there = True if grad is None else np.abs(grad) > 1e-6 + 1e-4 * np.abs(grad).max()
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
    model.set_weights(before)
    trained_on = model.predict_block(clip[:, :4], training=True)
    near(trained_on[: len(arrays["out_train"])], last(arrays["out_train"]))
    model.set_weights(before)
