"""PDE-driven disentanglement against arrays computed by its authors' code (tests/fixtures/README.md), and what they do
not show."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import assert_step_of_adam, load, near

from htsr.errors import InputError
from htsr.models import build_model

DATA = Path(__file__).parents[1] / "fixtures"
SIZES = {"context": 3, "static_units": 8, "dynamic_units": 5, "hidden": 12}
KINDS = {
    "pde_driven": {"filters": 3},
    "pde_driven_skips": {"filters": 2, "skips": True, "reconstruct": False}
    | {"autoencoding": 1.0, "invariance": 1.0, "forecast": 1.0},
}
VGG = {"form": "vgg", "frame_shape": (8, 16, 2), "filters": 2, "skips": True, **SIZES}


@pytest.fixture(scope="module", params=KINDS)
def loaded(request):
    """A model with the fixture's weights, its pairs, and the fixture."""
    arrays = dict(np.load(DATA / f"{request.param}.npz"))
    model = build_model("pde_driven", **SIZES, **KINDS[request.param])
    return model, load(model, "pde_driven", arrays), arrays


def clip(arrays, *keys):
    return tf.constant(np.concatenate([np.moveaxis(arrays[key], 2, -1) for key in keys], 1))


def test_codes_and_frames(loaded):
    """From the first frame that is read, where the first code is its; then a clip with another one's motion."""
    model, _, arrays = loaded
    x, want = clip(arrays, "cond"), np.moveaxis(arrays["out_long"], 2, -1)
    static, code = model._static(x), model._dynamic(x)
    near(static.code, arrays["inter/s_code"])
    for i, maps in enumerate(static.maps):
        near(maps, np.moveaxis(arrays[f"inter/skip{i}"], 1, -1), str(i))
    near(code, arrays["inter/t_code0"])
    near(model.blocks[0](code), arrays["inter/t_residual0"])
    near(model._moved(code), arrays["inter/t_code1"])
    first = 3 if model.reconstruct else 0
    for step in range(first):
        near(code, arrays["inter/t_codes"][:, step])
        near(model._decoded(static, code)[:1], want[:, step])
        code = model._moved(code)
    state = model.start(x, 1, tf.zeros([3], tf.int32), tf.constant(True))
    near(state.dynamic, code)
    near(model.advance(state, want.shape[1] - first)[1][:1], want[:, first:])
    swapped = state._replace(dynamic=tf.roll(model._dynamic(x), -1, 0))
    near(model.advance(swapped, 3)[1][:1], np.moveaxis(arrays["out_content_swap_S0_T1"], 2, -1))


@pytest.mark.usefixtures("plain_graphs")
def test_gradients_and_a_step_of_adam(loaded):
    model, pairs, arrays = loaded
    before, x, about = model.get_weights(), clip(arrays, "cond", "target"), json.loads(str(arrays["config_json"]))
    seed = next(i for i in range(99) if model.end_of_part(x.shape[1], tf.constant(i)) == about["t_random"])
    trained = [(variable, recipe) for variable, recipe in pairs if variable.trainable]
    variables = [variable for variable, _ in trained]
    with tf.GradientTape() as tape:
        terms = model.loss_terms(x, tf.constant(seed), tf.constant(0))
        terms = {name: tf.reduce_mean(term) for name, term in terms.items()}
        loss = model.total_loss(terms, x.shape[1])
    parts = {"ae": "autoencoding", "s_invariance": "invariance", "forecast": "forecast", "t_reg": "regularisation"}
    for theirs, ours in parts.items():
        np.testing.assert_allclose(terms[ours], arrays[f"loss_part/{theirs}"], rtol=1e-5, err_msg=ours)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    grads = tape.gradient(loss, [variable.value for variable in variables])
    keras.optimizers.Adam(1e-3, epsilon=1e-8 * np.sqrt(1e-3)).apply(grads, variables)
    grads = {recipe.names[0]: grad.numpy() for (_, recipe), grad in zip(trained, grads, strict=True)}
    assert_step_of_adam(pairs, grads, arrays, about["gradient_is_rounding_noise"])
    model.set_weights(before)
    static, code = model._static(x[:, :3], True), model._dynamic(x[:, :3], True)
    for want in np.moveaxis(arrays["out_train"], 2, -1)[0]:
        near(model._decoded(static, code, True)[0], want)
        code = model._moved(code)
    model.set_weights(before)


def test_vgg():
    """Its maps, and what the decoder reads of them."""
    model = build_model("pde_driven", **VGG, sigmoid=False)
    for variable in model.trainable_variables:  # they begin so small that much of what comes out is rounded away
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=1))
    x = tf.constant(np.random.default_rng(0).random((2, 3, 8, 16, 2), np.float32))
    static, dynamic = model._static(x), model._dynamic(x)
    assert static.code.shape == (2, 8)
    assert [maps.shape[1:] for maps in static.maps] == [(1, 2, 16), (2, 4, 8), (4, 8, 4), (8, 16, 2)]
    frame = model._decoded(static, dynamic).numpy()
    assert frame.shape == (2, 8, 16, 2)
    for i in range(4):
        maps = tuple(-m if i == j else m for j, m in enumerate(static.maps))
        assert (model._decoded(static._replace(maps=maps), dynamic).numpy() != frame).any()


def test_parts_of_a_clip():
    """Any, but after the last one comes no frame, where the first code is that of the first frame to predict."""
    model = build_model("pde_driven", **VGG)
    for model.reconstruct, ends in ((True, {3, 4, 5}), (False, {3, 4})):
        assert {int(model.end_of_part(5, tf.constant(seed))) for seed in range(20)} == ends


def test_published_numbers_of_parameters():
    settings = [{}, {"form": "vgg", "frame_shape": (32, 32, 2), "context": 4}]
    with keras.StatelessScope(initialize_variables=False):
        models = [build_model("pde_driven", **arguments) for arguments in settings]
    counts = [sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) for model in models]
    assert counts == [10_985_833, 25_636_050]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "resnet"}, "form must be one of dcgan, vgg, received 'resnet'"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1, not 0"),
        ({"forecast": -1}, "forecast must be at least 0, received -1"),
        ({"frame_shape": (24, 32, 1)}, r"height and width must be multiples of 16, received \(24, 32\)"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("pde_driven", **{**SIZES, **arguments})


def test_clips_that_are_too_short():
    model = build_model("pde_driven", **VGG)
    with pytest.raises(InputError, match="reads 3 frames, but clips have 3; set"):
        model.loss_terms(tf.zeros([1, 3, 8, 16, 2]), tf.constant(0))
