"""CrevNet against arrays computed by the original code (tests/fixtures/README.md), and what they do not show."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import load, near

from htsr.errors import InputError
from htsr.models import build_model

DATA = Path(__file__).parents[1] / "fixtures"
SIZES = {"frame_shape": (16, 16, 1), "blocks": [2, 2], "layers": 2}
OF_FRAMES = {"frame_shape": (8, 16, 3), "window": 1, "blocks": [2, 1], "layers": 2}


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "crevnet_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("crevnet", **SIZES)
    return model, load(model, "crevnet", arrays)


def clip(arrays):
    return tf.constant(np.moveaxis(arrays["frames"], 2, -1))


def last(array):
    return np.moveaxis(array, -4, -1)


def test_blocks(loaded, arrays):
    autoencoder, window = loaded[0].autoencoder, loaded[0].patches(clip(arrays))[0]
    halves = np.split(last(arrays["inter/psi2"]), 2, -1)
    for block, name in zip(autoencoder.blocks[:2], ("block0", "block1"), strict=True):
        halves = halves[1], halves[0] + block(halves[1])
        for half, i in zip(halves, (0, 1), strict=True):
            near(half, last(arrays[f"inter/{name}/{i}"]), name)
    kept = tf.nn.space_to_depth(tf.reshape(halves[1], [-1, 8, 8, 2]), 2)
    near(tf.reshape(kept, [2, 3, 4, 4, 8]), last(arrays["inter/block2_stride2/0"]))
    encoded = autoencoder.encode(window)
    for i in (0, 1):
        near(encoded[i], last(arrays[f"inter/enc/{i}"]))
    decoded = autoencoder.decode(*encoded)
    near(decoded, last(arrays["inter/enc_inverse"]))
    near(decoded, window, tolerance=1e-6)


def test_a_step_of_the_predictor(loaded, arrays):
    model, _ = loaded
    window = model.patches(clip(arrays))[0]
    layers, memory, maps = model._step(model.initial_states(window), model.autoencoder.encode(window))
    got = {"x1": maps[0], "x2": maps[1], "memo": memory, "h0": layers[0].hidden, "c0": layers[0].cell}
    for name, value in got.items():
        near(value, last(arrays[f"inter/pred0/{name}"]), name)


def test_predictions_of_true_windows(loaded, arrays):
    model, _ = loaded
    x = clip(arrays)
    windows, layers = model.patches(x), model.initial_states(x)
    for step in range(6):
        layers, predicted = model.predict_next(layers._replace(known=tf.constant(0)), windows[step])
        near(predicted, last(arrays["out_teacher_forced"][:, step]), str(step))
    loss = np.mean(model.loss_terms(x, tf.constant(0))["l2"])
    np.testing.assert_allclose(loss, arrays["loss_eval_mode_teacher_forced"], rtol=1e-5)


def test_rollout(loaded, arrays):
    """Of windows, the first two of which have frames of the context."""
    model, _ = loaded
    context = clip(arrays)[:, :6]
    layers, window = model.start(context, 1, tf.zeros([2], tf.int32), tf.constant(True))
    for step in range(3):
        layers, window = model.predict_next(layers, window)
        near(window, last(arrays["out_rollout_npast4"][:, step]), str(step))
    near(model.rollout(context, 3)[0], last(arrays["out_rollout_npast4"])[:, :, -1])


@pytest.mark.usefixtures("plain_graphs")
def test_gradients_and_a_step_of_adam(loaded, arrays):
    model, pairs = loaded
    before, x = model.get_weights(), clip(arrays)
    trained = [(variable, recipe) for variable, recipe in pairs if variable.trainable]
    variables = [variable for variable, _ in trained]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.loss_terms(x, tf.constant(0), tf.constant(0))["l2"])
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    grads = tape.gradient(loss, [variable.value for variable in variables])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    grads = {variable.path: grad.numpy() for variable, grad in zip(variables, grads, strict=True)}
    for variable, recipe in pairs:
        grad, name = grads.get(variable.path), variable.path
        if grad is not None:
            norms = [arrays[f"grad_norm/{part}"] for part in recipe.names]
            np.testing.assert_allclose(np.linalg.norm(grad), np.linalg.norm(norms), rtol=1e-3, err_msg=name)
            if all(f"grad/{part}" in arrays for part in recipe.names):
                near(grad, recipe(lambda key: arrays[f"grad/{key}"]), name, 1e-3)
        if all(f"adam1/{part}" in arrays for part in recipe.names):
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            there = True if grad is None else np.abs(grad) > 1e-6 + 1e-4 * np.abs(grad).max()
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
    model.set_weights(before)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_what_is_encoded_can_be_decoded(dtype):
    """By windows of one frame, too; halves have the numbers of the frames."""
    for sizes in (SIZES, OF_FRAMES):
        model = build_model("crevnet", **sizes, dtype=dtype)
        for variable in model.weights:
            noise = keras.random.normal(variable.shape, stddev=0.3, seed=1)
            variable.assign(tf.abs(noise) if variable.path.endswith("variance") else noise)
        x = np.random.default_rng(0).random((2, model.window, *model.frame_shape), np.float32)
        halves = model.autoencoder.encode(x)
        assert all(half.shape == (2, *model.maps) for half in halves)
        assert sum(tf.size(half) for half in halves) == x.size
        assert np.abs(halves[1]).max() > 1.5
        np.testing.assert_allclose(model.autoencoder.decode(*halves), x, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("plain_graphs")
def test_windows_of_one_frame():
    """Shapes; and normalisation is of a sample, in training as in predictions."""
    model = build_model("crevnet", **OF_FRAMES)
    assert model.maps == (1, 2, 4, 24)
    assert [block.convs[0].kernel.shape[:3] for block in model.autoencoder.blocks] == [(1, 3, 3)] * 3
    assert [block.convs[0].filters for block in model.autoencoder.blocks] == [1, 1, 6]
    assert [layer.kernel.shape[:3] for layer in model.predictor[0].attention] == [(1, 1, 1), (1, 3, 3), (1, 1, 1)]
    x = np.random.default_rng(0).random((2, 2, *model.frame_shape), np.float32)
    error = model.rollout(x[:, :1], 1)[0, :, 0] - x[:, 1]
    loss = model.loss_terms(x, tf.constant(0), tf.constant(0))["l2"]
    np.testing.assert_allclose(loss, (error**2).mean((1, 2, 3)), rtol=1e-5)


def test_published_number_of_parameters():
    with keras.StatelessScope(initialize_variables=False):
        model = build_model("crevnet")
    parts = [model.autoencoder.trainable_variables, [v for layer in model.predictor for v in layer.trainable_variables]]
    assert [sum(int(np.prod(variable.shape)) for variable in part) for part in parts] == [104_516, 4_892_928]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 2}, "window must be 3 or 1, received 2"),
        ({"blocks": []}, r"blocks must be one number of at least 1 for every stage, received \[\]"),
        ({"layers": 1}, "layers must be a whole number of at least 2, not 1"),
        ({"frame_shape": (18, 16, 1)}, r"height and width must be multiples of 4, received \(18, 16\)"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("crevnet", **{**SIZES, **arguments})


def test_clips_shorter_than_a_window_and_a_step():
    model = build_model("crevnet", **SIZES)
    with pytest.raises(InputError, match="reads windows of 3 frames, but clips have 3; set"):
        model.loss_terms(tf.zeros([1, 3, 16, 16, 1]), tf.constant(0))
