"""WaST against arrays computed by OpenSTL's code (tests/fixtures/README.md), and what they do not show."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import assert_step_of_adam, load, near

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.wast.wavelets import BANDS, haar, high_frequencies, high_frequency_loss, inverse_haar
from htsr.published.wast import named_parts

DATA = Path(__file__).parents[1] / "fixtures"
TINY = {"frame_shape": (8, 12, 1), "context": 2, "filters": 2, "depths": [1, 1, 1], "drop_path": 0.5, "drop_from": 3}


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "wast_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("wast", context=4, filters=3, depths=[1, 2, 1], drop_path=0.0)
    return model, load(model, "wast", arrays)


def frames(arrays, *keys):
    return tf.constant(np.concatenate([np.moveaxis(arrays[key], 2, -1) for key in keys], 1))


def channels_first(value):
    return np.moveaxis(value, -1, 1)


def test_wavelets(arrays):
    x = tf.constant(np.moveaxis(arrays["dwt3/x"], 1, -1))
    bands = haar(x)
    for name in BANDS:
        near(channels_first(bands[name]), arrays[f"dwt3/{name}"], name)
    near(channels_first(inverse_haar(bands)), arrays["dwt3/inverse"])
    near(inverse_haar(bands), x)


def test_blocks(loaded, arrays, monkeypatch):
    """And the frames after them."""
    model, _ = loaded
    values = {}

    def record(owner, attribute, name):
        original = getattr(owner, attribute)

        def recording(*args, **kwargs):
            values[name] = original(*args, **kwargs)
            return values[name]

        monkeypatch.setattr(owner, attribute, recording)

    for layer, name in named_parts(model):
        record(layer, "call", name)
    layers = {
        "conv_in": model.conv_in,
        "wavelet_embed1.conv_0": model.to_bands,
        "wavelet_embed1.conv_1": model.embed_maps,
    }
    layers |= {"wavelet_recon1.conv_0": model.from_low, "wavelet_recon1.conv_hi": model.from_high}
    block = model.before[0]
    layers |= {"translator1.blocks.0": block, "translator1.blocks.0.temporal_mixer": block.mixer}
    layers |= {f"translator1.blocks.0.{name}_frequency_attn": getattr(block, name) for name in ("low", "high")}
    layers |= {"bottleneck_translator.blocks.0": model.between[0], "bottleneck_translator": model.between[1]}
    layers |= {"translator2": model.after[0]}
    for name, layer in layers.items():
        record(layer, "call", name)
    record(model, "_embed", "wavelet_embed1")
    record(model, "_reconstruct", "wavelet_recon1")
    near(model.predict_block(frames(arrays, "x")), np.moveaxis(arrays["out"], 2, -1))
    values |= {f"wavelet_embed1/{i}": value for i, value in enumerate(values["wavelet_embed1"])}
    for key in [key for key in arrays if key.startswith("inter/")]:
        name = key.removeprefix("inter/")
        value = values[next(n for n in (name, f"{name}.2", f"{name}.1") if n in values)]  # the last of a sequence
        want = arrays[key]
        near(channels_first(value)[:1].reshape(1, *want.shape[1:-2], -1, want.shape[-1])[..., ::2, :], want, name)


def test_high_frequency_loss(arrays):
    np.testing.assert_array_equal(high_frequencies(16, 16), arrays["hffl_mask_16"])
    x, y = (np.moveaxis(arrays[key], 2, -1) for key in ("out", "y"))
    loss = high_frequency_loss(tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(1e-3 * np.mean(loss), arrays["hffl_of_eval_out"], rtol=1e-5)
    assert np.mean(high_frequency_loss(tf.constant(x), tf.constant(x))) == 0


def test_gradients_and_a_step_of_adam(loaded, arrays):
    model, found = loaded
    clip, before = frames(arrays, "x", "y"), model.get_weights()
    # Before one ReLU there is a number within 4e-7 of zero. It is below zero there.
    bias = model.after[0].mixer.norms[1].beta
    bias.assign(bias - 2e-6 * np.eye(48, dtype=np.float32)[19])
    trained = [(variable, recipe) for variable, recipe in found if variable.trainable]
    with tf.GradientTape() as tape:
        terms = model.loss_terms(clip, tf.constant(0), tf.constant(0))
        loss = model.total_loss({name: tf.reduce_mean(term) for name, term in terms.items()}, 8)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    # One scale of a block is two here.
    grads = {}
    for (_, recipe), grad in zip(trained, tape.gradient(loss, [v.value for v, _ in trained]), strict=True):
        name = recipe.names[0]
        grads[name] = grads.get(name, 0) + grad.numpy()
    alone = [(variable, recipe.names[0]) for variable, recipe in trained if len(recipe.names) == 1]
    adam = keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3))
    adam.apply([tf.constant(grads[name]) for _, name in alone], [variable for variable, _ in alone])
    noise = json.loads(str(arrays["config_json"]))["gradient_is_rounding_noise"]
    assert_step_of_adam([pair for pair in found if len(pair[1].names) == 1], grads, arrays, noise)
    model.set_weights(before)
    near(model.predict_block(clip[:, :4], training=True), np.moveaxis(arrays["out_train"], 2, -1))
    model.set_weights(before)


def test_paths_are_dropped_late_and_in_training_alone():
    model = build_model("wast", **TINY)
    np.testing.assert_allclose(model.drop_rates, [0, 0, 0.25, 0.25, 0.5, 0.5])
    x = tf.constant(np.random.default_rng(0).random((2, 4, *model.frame_shape), np.float32))

    def losses(step):
        before = model.get_weights()
        found = {float(model.loss_terms(x, tf.constant(seed), step)["l2"][0]) for seed in range(6)}
        model.set_weights(before)
        return len(found)

    assert [losses(step) for step in (None, tf.constant(2))] == [1, 1]
    assert losses(tf.constant(3)) > 1


def test_published_numbers_of_parameters():
    with keras.StatelessScope(initialize_variables=False):
        models = [build_model("wast"), build_model("wast", frame_shape=(64, 64, 1), context=10)]
    assert [sum(np.prod(v.shape) for v in model.trainable_variables) for model in models] == [5_132_822, 28_183_141]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": [1, 2]}, r"depths must be three numbers of at least 1, received \[1, 2\]"),
        ({"context": 3}, r"context, height and width must be even, received 3 and \(8, 12\)"),
        ({"frame_shape": (9, 8, 1)}, r"context, height and width must be even, received 2 and \(9, 8\)"),
        ({"drop_path": 1}, "drop_path must be at least 0 and below 1, received 1"),
        ({"filters": 0}, "filters must be a whole number of at least 1, not 0"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("wast", **{**TINY, **arguments})
