"""FC-LSTM against arrays computed with PyTorch's LSTM (tests/fixtures/README.md), and its peepholes against NumPy's."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import load

from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.fc_lstm import PeepholeCell

DATA = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "fclstm_small.npz"))


@pytest.fixture(scope="module")
def loaded(arrays):
    model = build_model("fc_lstm", frame_shape=(16, 16, 1), units=[24, 24], peepholes=False, context=4)
    return model, load(model, "fc_lstm", arrays)


def clip(arrays):
    return tf.constant(np.concatenate([arrays["x"], arrays["y"]], 1).reshape(2, 7, 16, 16, 1))


def close(got, want, name=""):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5, err_msg=name)


def test_outputs(loaded, arrays):
    model, _ = loaded
    x = clip(arrays)[:, :4]
    close(model.rollout(x, 3)[0].reshape(2, 3, 256), arrays["out_paper_free"])
    state = model.start(x, 1, None, None)
    for i, (hidden, cell) in enumerate(state.encoder):
        close(hidden, arrays["inter/encoder_h_final"][i])
        close(cell, arrays["inter/encoder_c_final"][i])


def test_loss_gradients_and_a_step_of_adam(loaded, arrays):
    """True frames are fed in training; PyTorch's second bias gets the same gradient as the first one."""
    model, pairs = loaded
    variables = [variable for variable, _ in pairs]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.loss_terms(clip(arrays), tf.constant(0), tf.constant(0))["cross_entropy"]) / (
            3 * 256
        )
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    grads = tape.gradient(loss, [v.value for v in variables])
    before = model.get_weights()
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    for (variable, recipe), grad in zip(pairs, grads, strict=True):
        name = recipe.names[0]
        np.testing.assert_allclose(np.linalg.norm(grad), arrays[f"grad_norm/{name}"], rtol=1e-3, err_msg=name)
        if len(recipe.names) == 1 and f"adam1/{name}" in arrays:
            there = np.abs(grad) > 1e-6
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
    model.set_weights(before)
    free = arrays["out_paper_free"]
    truth = arrays["y"]
    want = -(truth * np.log(free) + (1 - truth) * np.log1p(-free)).sum((1, 2))
    np.testing.assert_allclose(model.loss_terms(clip(arrays), tf.constant(0))["cross_entropy"], want, rtol=1e-4)


def test_peepholes(arrays):
    """Gates i, f, a, o there, in the same order here."""
    cell = PeepholeCell(5)
    cell.build((None, 6))
    cell.kernel.assign(arrays["peephole/Wx"].T)
    cell.recurrent_kernel.assign(arrays["peephole/Wh"].T)
    cell.bias.assign(arrays["peephole/b"])
    cell.seen.assign([arrays[f"peephole/w{name}"] for name in ("ci", "cf", "co")])
    states = cell.initial_state(tf.zeros([3, 6]))
    for x, h, c in zip(*(arrays[f"peephole/{name}"] for name in "xhc"), strict=True):
        _, states = cell(tf.constant(x, tf.float32), states)
        close(states[0], h)
        close(states[1], c)


def test_published_number_of_parameters():
    with keras.StatelessScope(initialize_variables=False):
        count = build_model("fc_lstm", peepholes=False).count_params()
    assert count == 176_230_400 - 4 * 4 * 2048  # PyTorch has two biases


def test_refused():
    with pytest.raises(InputError, match=r"units must be one number of at least 1 for every layer, received \[\]"):
        build_model("fc_lstm", units=[])
    model = build_model("fc_lstm", frame_shape=(2, 2, 1), units=[2], context=3)
    with pytest.raises(InputError, match="context is 3, but clips have 3 frames"):
        model.loss_terms(tf.zeros([1, 3, 2, 2, 1]), tf.constant(0))
