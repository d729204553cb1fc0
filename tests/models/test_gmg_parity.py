"""GMG and MotionRNN against arrays computed by the original code, repaired (tests/fixtures/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from htsr.models import build_model
from htsr.models.recurrent.blocks.attention import SelfAttentionMemory
from htsr.models.recurrent.blocks.focus import GlobalFocus
from htsr.models.recurrent.blocks.motion import MotionGuided, MotionState
from htsr.models.recurrent.blocks.warp import Warp
from htsr.models.recurrent.cells.gmg import GMGCell, GMGState
from htsr.models.recurrent.patches import to_patches
from htsr.published import gmg
from htsr.published.gmg import attention_pairs, cell_pairs, guided_pairs, summary_pairs, warp_pairs
from htsr.published.layouts import names_of

DATA = Path(__file__).parents[1] / "fixtures"
COMMON = {
    "kernel_size": 5,
    "layer_norm": False,
    "patch_order": "row_column_channel",
    "embed": False,
    "context": 3,
    "scored_from": 1,
    "time_reversed": False,
    "filters": [16] * 3,
}
MODELS = {
    "gmg_tiny": {"cell": {"name": "gmg", "key_filters": 4, "offsets": "published", "trend_decay": "batch"}}
    | {"frame_shape": (16, 24, 2), "patch_size": 2},
    "motionrnn_small": {
        "cell": {"name": "motionrnn", "offsets": "published"},
        "frame_shape": (32, 32, 1),
        "patch_size": 4,
    },
}


def model_pairs(model):
    pairs = gmg.pairs(model)
    assert {id(variable) for variable, _ in pairs} == {id(variable) for variable in model.weights}
    return pairs


def assign(pairs, arrays, prefix):
    for variable, recipe in pairs:
        variable.assign(recipe(lambda name: arrays[prefix + name]))


# ---- fixtures


@pytest.fixture(scope="module")
def files():
    return {name: dict(np.load(DATA / f"{name}.npz")) for name in MODELS}


@pytest.fixture(scope="module", params=MODELS)
def loaded(request, files):
    """A model with the original's weights, and the arrays."""
    arrays = files[request.param]
    model = build_model("recurrent", **{**COMMON, **MODELS[request.param]})
    pairs = model_pairs(model)
    assign(pairs, arrays, "sd/")
    assert set(names_of(pairs)) == {key.removeprefix("sd/") for key in arrays if key.startswith("sd/")}
    return model, arrays


def last(array):
    """Channels last, of a map with channels first."""
    return np.moveaxis(array, -3, -1)


def near(got, want, tolerance=1e-5, name=""):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(np.abs(want).max(), 1e-6), err_msg=name)


def clip(arrays, order=(0, 1)):
    return tf.constant(np.moveaxis(arrays["raw_frames_NTCHW"], 2, -1)[list(order)])


def outputs(model, unroll, x, bits=None):
    """Predictions in patches ``(batch, time, ...)``; ``bits (batch, 2)`` where the true frame is fed."""
    bits = np.zeros((len(x), 2)) if bits is None else bits
    mask = tf.constant(np.concatenate([np.ones((len(x), 3)), bits], 1) > 0.5)
    return tf.transpose(unroll(model.patches(x), mask)[0], [1, 0, 2, 3, 4]).numpy()


def test_outputs_and_losses(loaded, monkeypatch):
    model, arrays = loaded
    any_batch = [tf.TensorSpec([6, None, *model.grid]), tf.TensorSpec([None, 5], tf.bool)]
    unroll = tf.function(model.unroll, input_signature=any_batch)
    patches = arrays["frames_patched_NTHWC"]
    np.testing.assert_array_equal(to_patches(clip(arrays), model.patch_size, model.patch_order), patches)
    for clips, order in (([0], "b1_s0"), ([1], "b1_s1"), ([0, 1], "b2_order01"), ([1, 0], "b2_order10")):
        for bits, suffix in ((None, ""), (arrays["mask_mixed_bits"][clips], "_maskmixed")):
            if f"out_{order}{suffix}" in arrays:
                got = outputs(model, unroll, clip(arrays, clips), bits)
                near(got, arrays[f"out_{order}{suffix}"], name=order + suffix)
            if f"loss_{order}{suffix}" in arrays:
                loss = np.mean((got - patches[clips][:, 1:]) ** 2)
                np.testing.assert_allclose(loss, arrays[f"loss_{order}{suffix}"], rtol=1e-5)
    monkeypatch.setattr(model, "unroll", unroll)
    terms = model.loss_terms(clip(arrays), tf.constant(0))["l2"]
    np.testing.assert_allclose(2 * np.mean(terms) / patches[0, 1:].size, arrays["loss_b2_order01"], rtol=1e-5)
    predicted = model.rollout(clip(arrays, [0])[:, :3], 3)[0]
    near(predicted, np.moveaxis(arrays["pred_NTCHW_b1_s0"], 2, -1))


def test_outputs_from_other_initial_states(loaded, monkeypatch):
    """The original draws them in every forward pass, hidden the same as cell and offset the same as trend."""
    model, arrays = loaded
    states = []
    for i, cell in enumerate(model.cells):
        hidden, memory = last(arrays[f"init/hc_{i}"]), last(arrays["init/mem"])
        motion = ()
        if cell.motion is not None:
            offset = last(arrays[f"init/offsetmean_{i}"])
            motion = MotionState(offset, offset, np.zeros((1, 1, 1, 1), np.float32))
        states.append(GMGState(hidden, hidden, memory, memory, motion))
    monkeypatch.setattr(model, "initial_states", lambda inputs: tuple(states))
    near(outputs(model, model.unroll, clip(arrays, [0])), arrays["out_b1_s0_randinit"])


def test_gradients(loaded, monkeypatch):
    model, arrays = loaded
    mask = np.concatenate([np.ones((1, 3)), arrays["mask_mixed_bits"][:1]], 1) > 0.5
    monkeypatch.setattr(model, "teacher_mask", lambda *_: tf.constant(mask))
    pairs, x = model_pairs(model), clip(arrays, [0])
    with tf.GradientTape() as tape:
        loss = (
            2 * tf.reduce_mean(model.loss_terms(x, tf.constant(0), tf.constant(0))["l2"]) / (5 * np.prod(x.shape[2:]))
        )
    np.testing.assert_allclose(loss, arrays["grad_loss"], rtol=1e-5)
    norms = dict(zip(arrays["gradnorm_names"], arrays["gradnorm_values"], strict=True))
    grads = tape.gradient(loss, [variable.value for variable, _ in pairs])
    for (variable, recipe), grad in zip(pairs, map(np.asarray, grads), strict=True):
        want = recipe(lambda name: arrays[f"grad/{name}"])
        kept = grad[2:3] if grad.shape[:1] == (5,) and grad.ndim == 4 else grad  # of 5x5 kernels the middle row
        near(kept, want, 1e-4, variable.path)
        if not any("layer_m" in name for name in recipe.names):
            whole = np.linalg.norm([norms[name] for name in recipe.names])
            np.testing.assert_allclose(np.linalg.norm(grad), whole, rtol=1e-4, err_msg=variable.path)


def test_inner_values(loaded):
    """Every block of the model on what it was given there."""
    model, arrays = loaded
    calls = {key.rsplit("/", 1)[0] for key in arrays if key.startswith("act/")}
    assert len(calls) >= 7
    for call in sorted(calls):
        _, module, _ = call.split("/")
        inputs = [last(arrays[f"{call}/in{i}"]) for i in range(5) if f"{call}/in{i}" in arrays]
        want = [arrays[f"{call}/out{i}"] for i in range(4) if f"{call}/out{i}" in arrays]
        want = [last(array) if array.ndim == 4 else array for array in want]
        for got, array in zip(run_module(model, module, inputs), want, strict=True):
            near(got, array, name=call)


def run_module(model, module, inputs):
    """What the block of the original's name gives for these inputs."""
    if module == "conv_first_v":
        return [model.highway(*inputs)]
    kind, number, *part = module.split(".")
    cell, steps = model.cells[int(number)], np.zeros((1, 1, 1, 1), np.float32)
    block = cell.motion
    blocks = {
        "cell_list.attention_layer": lambda h, m: list(cell.attention(h, m)),
        "cell_list.conv_g": lambda x: [cell.multi_scale(x)],
        "cell_list.global_feature_extractor": lambda x: [cell.focus.summary(x)],
        "cell_list.gate": lambda x: [tf.sigmoid(cell.focus.gate(x))],
        "motion_list.warp": lambda x, offset: [block.guided.warp(x, offset)],
        "motion_list.global_growth_module": lambda trend, x: [trend * block.guided.growth(x, steps)],
        "enc_list": lambda x: [block.encode(x)],
        "dec_list": lambda x: [block.decode(x)],
        "gate_list": lambda x: [block.gate(x)],
    }
    name = ".".join([kind, *part])
    if name == "cell_list":
        motion = () if block is None else block.initial_state(inputs[1])
        _, state = cell(inputs[0], GMGState(*inputs[1:], motion))
        return [state.highway, state.cell, state.memory, state.highway]
    if name == "motion_list":
        x, state = block.guided(inputs[0], MotionState(*inputs[1:], steps))
        return [x, state.offset, state.trend]
    return blocks[name](*inputs)


# ---- blocks on their own


def block(arrays, prefix):
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", MODELS)
def test_warp(files, name):
    """Offsets of zero, whole numbers and 20 pixels among others; gradients of maps and offsets."""
    b = block(files[name], "blk/warp/")
    x, offset = tf.constant(last(b["x"])), tf.constant(last(b["offset"]))
    layer = Warp()
    layer.build(x.shape)
    assign(warp_pairs(layer, ""), b, "sd/")
    with tf.GradientTape() as tape:
        tape.watch([x, offset])
        y = layer(x, offset)
    near(y, last(b["y"]))
    for got, want in zip(tape.gradient(y, [x, offset], last(b["cotangent"])), ("dx", "doffset"), strict=True):
        near(got, last(b[want]), name=want)


def test_motion_guided_module(files):
    """The trend's decay over the batch, and without it, where every sample is as the first one of its batch."""
    b = block(files["gmg_tiny"], "blk/mg/")
    x, offset, trend = (last(b[name]) for name in ("x", "pre_offset", "mean"))
    state = MotionState(offset, trend, np.zeros((3, 1, 1, 1), np.float32))
    for decay, suffix in (("batch", ""), ("none", "_each_alone"), ("step", "_each_alone")):
        layer = MotionGuided("published", trend_decay=decay)
        layer.build(x.shape)
        assign(guided_pairs(layer, ""), b, "sd/")
        if decay == "batch":
            near(trend * layer.growth(x, state.steps), last(b["growth_adjusted_mean"]))
        got, new = layer(x, state)
        near(got, last(b[f"out_x{suffix}"]), name=decay)
        near(new.offset, last(b[f"out_offset{suffix}"]), name=decay)
        near(new.trend, last(b[f"out_mean{suffix}"]), name=decay)


def test_motion_gru(files):
    b = block(files["motionrnn_small"], "blk/mgru/")
    x, offset, trend = (last(b[name]) for name in ("x", "pre_offset", "mean"))
    layer = MotionGuided("published", growth=False)
    layer.build(x.shape)
    assign(guided_pairs(layer, ""), b, "sd/")
    got, new = layer(x, MotionState(offset, trend, np.zeros((2, 1, 1, 1), np.float32)))
    near(got, last(b["out_x"]))
    near(new.offset, last(b["out_offset"]))
    near(new.trend, last(b["out_mean"]))


def test_self_attention_memory(files):
    b = block(files["gmg_tiny"], "blk/sam/")
    layer, h, m = SelfAttentionMemory(4, attended_filters=32), last(b["h"]), last(b["m"])
    layer.build(h.shape)
    assign(attention_pairs(layer, ""), b, "sd/")
    for got, want in zip(layer(h, m), ("new_h", "new_m"), strict=True):
        near(got, last(b[want]), name=want)


def test_global_focus(files):
    b = block(files["gmg_tiny"], "blk/gfe/")
    layer, x = GlobalFocus(), last(b["x"])
    layer.build((*x.shape[:-1], 16), x.shape)
    assign(summary_pairs(layer, ""), b, "sd/")
    near(layer.summary(x), b["y"])


@pytest.mark.parametrize(
    ("name", "prefix", "options"),
    [
        ("gmg_tiny", "cell_ln0", {"key_filters": 4}),
        ("gmg_tiny", "cell_ln1", {"key_filters": 4, "layer_norm": True}),
        ("motionrnn_small", "cell", {"focus": False}),
    ],
)
def test_cell(files, name, prefix, options):
    b = {**block(files[name], "blk/cell_ln0/"), **block(files[name], f"blk/{prefix}/")}  # with the same kernels
    cell, x = GMGCell(16, 5, motion=False, **options), last(b["x"])
    states = GMGState(*(last(b[part]) for part in ("h", "c", "m", "highway")), ())
    cell.build(x.shape)
    assign(cell_pairs(cell, ""), b, "sd/")
    output, new = cell(x, states)
    near(output, last(b["h_new"]))
    for part, want in zip(new, ("h_new", "c_new", "m_new", "highway_new"), strict=False):
        near(part, last(b[want]), name=want)


# ---- sizes


@pytest.mark.parametrize(
    ("shape", "patch_size", "key_filters", "gmg", "motionrnn"),
    [
        ((64, 64, 1), 4, 32, 31_449_069, 26_911_553),
        ((32, 32, 2), 2, 32, 31_222_765, 26_730_305),
        ((32, 64, 1), 2, 64, 31_159_149, 26_639_681),
    ],
)
def test_number_of_parameters_of_the_published_setting(shape, patch_size, key_filters, gmg, motionrnn):
    common = {**COMMON, "filters": [128] * 4, "frame_shape": shape, "patch_size": patch_size}
    cell = {"name": "gmg", "key_filters": key_filters, "offsets": "published"}
    model = build_model("recurrent", cell={**cell, "trend_decay": "batch"}, **common)
    assert model.count_params() == gmg
    # Without decay nothing would read the 34 numbers of beta in each of three blocks.
    model = build_model("recurrent", cell=cell, **common)
    assert model.count_params() == gmg - 3 * 34
    assert build_model("recurrent", cell="motionrnn", **common).count_params() == motionrnn
