"""Names of the parameters of OpenSTL's recurrent models; MotionRNN and GMG have theirs from it."""

from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, Recipe, channels_last, layer_pairs, normalised_pairs
from htsr.published.patches import patching, published_frames
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("conv_last.weight", "cell_list.0.conv_x.0.weight", "cell_list.0.conv_h.0.weight")
PREDRNN_SIGNATURE = (*SIGNATURE, "cell_list.0.conv_m.0.weight")
CONVLSTM_UNREAD = r"cell_list\.\d+\.(conv_o\.[01]|conv_last)\.(weight|bias)"
PREDRNN_UNREAD = r"adapter\.weight"  # of PredRNN-V2, read by its loss alone
PREDRNNV2_SIGNATURE = (*PREDRNN_SIGNATURE, "adapter.weight")
PREDRNNPP_SIGNATURE = (*PREDRNN_SIGNATURE, "cell_list.0.conv_c2m.0.weight")
PREDRNNPP_UNREAD = r"cell_list\.\d+\.conv_o\.[01]\.(weight|bias)"
PUBLISHED = {
    "embed": False,
    "patch_order": "row_column_channel",
    "context": 10,
    "loss": "l2",
    "scored_from": 1,
    "sampling": "scheduled",
    "sampling_steps": 50000,
    "time_reversed": False,
}
MIM_SIGNATURE = ("conv_last.weight", "stlstm_layer.0.conv_x.0.weight", "stlstm_layer.1.ct_weight")
MIM_UNREAD = r"stlstm_layer_diff\.\d+\.conv_last\.weight"
MIM = {**PUBLISHED, "cell": "mim", "cell.truncated": True}
MAU_SIGNATURE = ("srcnn.0.weight", "cell_list.0.conv_t.0.weight", "cell_list.0.conv_t_next.0.weight")
MAU_UNREAD = r"(merge|conv_last_sr)\.(weight|bias)"
MAU = {**PUBLISHED, "cell": "mau", "embed": True, "cell.tau": 5}
E3D_SIGNATURE = ("conv_last.weight", "cell_list.0._norm_c_t.weight", "cell_list.0.conv_new_gm.0.conv3d.weight")
E3D_UNREAD = r"cell_list\.\d+\.conv_gm\.0\.conv3d\.weight"
E3D = {"context": 10, "remember": False, "loss": "l1_l2", "sampling": "scheduled", "sampling_steps": 50000}
PREDRNNV2 = {**PUBLISHED, "cell": "st_lstm", "sampling": "reverse", "decoupling": 0.1}

_PARTS = {"conv_x": "inputs_conv", "conv_h": "hidden_conv"}
_MEMORY_PARTS = {**_PARTS, "conv_m": "memory_conv", "conv_o": "output_conv"}
_CAUSAL_PARTS = {
    **_PARTS,
    "conv_c": "cell_conv",
    "conv_m": "memory_conv",
    "conv_c2m": "new_cell_conv",
    "conv_om": "new_memory_conv",
}
_MAU_PARTS = {
    "conv_t": "fused_conv", "conv_t_next": "temporal_conv", "conv_s": "inputs_conv", "conv_s_next": "spatial_conv",
}  # fmt: skip
_E3D_PARTS = {
    "conv_x.0": "inputs_conv", "conv_h.0": "hidden_conv", "conv_new_cell.0": "new_cell_conv",
    "conv_new_gm.0": "new_memory_conv", "conv_last": "join",
}  # fmt: skip
_MIM_PARTS = {"conv_x_cc": "inputs_conv", "conv_t_cc": "hidden_conv", "conv_s_cc": "memory_conv"}


def conv_lstm_pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of ConvLSTM cells, and where they are."""
    found = layer_pairs(model.output_conv, "conv_last")
    for i, cell in enumerate(model.cells):
        for theirs, ours in _PARTS.items():
            found += normalised_pairs(getattr(cell, ours), f"cell_list.{i}.{theirs}")
    return found


def predrnn_pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of spatiotemporal LSTM cells, and where they are."""
    found = layer_pairs(model.output_conv, "conv_last")
    for i, cell in enumerate(model.cells):
        found += st_lstm_pairs(cell, f"cell_list.{i}.")
    return found


def predrnnv2_pairs(model) -> Pairs:
    """The same of PredRNN-V2."""
    return [*predrnn_pairs(model), *layer_pairs(model.adapter, "adapter")]


def predrnnpp_pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of causal LSTM cells, and where they are."""
    highway = model.cells[1].gradient_highway
    found = layer_pairs(model.output_conv, "conv_last")
    for layer, theirs in zip(highway.convs, ("x_concat", "z_concat"), strict=True):
        found += layer_pairs(layer, f"gradient_highway.{theirs}.0")
    for i, cell in enumerate(model.cells):
        found += cell_pairs(cell, f"cell_list.{i}.", _CAUSAL_PARTS)
    return found


def mim_pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of MIM cells, and where they are."""
    found = layer_pairs(model.output_conv, "conv_last") + st_lstm_pairs(model.cells[0].lstm, "stlstm_layer.0.")
    for i, cell in enumerate(model.cells[1:]):
        found += cell_pairs(cell, f"stlstm_layer.{i + 1}.", _MIM_PARTS)
        found += _peephole_pairs(cell.of_trend, f"stlstm_layer.{i + 1}.")
        found += _peephole_pairs(cell.of_changes, f"stlstm_layer_diff.{i}.")
    return found


def mau_pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of MAU cells, and where they are."""
    encoder, decoder = model.embed.convs, model.output_conv.convs
    found = layer_pairs(model.output_conv.output_conv, "srcnn.0")
    for i, layer in enumerate(encoder):
        found += layer_pairs(layer, f"encoders.{i}.encoder_t{i - 1 if i else '_conv-1'}")
    for i, layer in enumerate(decoder):
        found += layer_pairs(layer, f"decoders.{i}.c_decoder{i}")
    for i, cell in enumerate(model.cells):
        for theirs, ours in _MAU_PARTS.items():
            found += normalised_pairs(getattr(cell, ours), f"cell_list.{i}.{theirs}")
    return found


def e3d_pairs(model) -> Pairs:
    """The variables of an ``E3DLSTM`` model, and where they are."""
    found = [(model.output_conv.kernel, _over_time("conv_last.weight"))]
    for i, cell in enumerate(model.cells):
        prefix = f"cell_list.{i}."
        parts = _E3D_PARTS | ({} if cell.memory_conv is None else {"conv_gm.0": "memory_conv"})
        for theirs, ours in parts.items():
            found.append((getattr(cell, ours).conv.kernel, _over_time(f"{prefix}{theirs}.conv3d.weight")))
        found.append((cell.norm.gamma, _moments(f"{prefix}_norm_c_t.weight")))
        found.append((cell.norm.beta, _moments(f"{prefix}_norm_c_t.bias")))
    return found


def _over_time(name: str) -> Recipe:
    """A kernel (out, in, time, row, column) as one of maps that have moments, then channels, side by side."""
    return Recipe((name,), lambda a: a.transpose(3, 4, 2, 1, 0).reshape(*a.shape[3:], -1, a.shape[0]))


def _moments(name: str) -> Recipe:
    """Weights (channel, time, row, column) of such a map."""
    return Recipe((name,), lambda a: a.transpose(2, 3, 1, 0).reshape(*a.shape[2:], -1))


def _peephole_pairs(layer, prefix: str) -> Pairs:
    return [
        *normalised_pairs(layer.inputs_conv, f"{prefix}conv_x_concat"),
        *normalised_pairs(layer.hidden_conv, f"{prefix}conv_h_concat"),
        (layer.old_cell, channels_last(f"{prefix}ct_weight")),
        (layer.new_cell, channels_last(f"{prefix}oc_weight")),
    ]


def st_lstm_pairs(cell, prefix: str) -> Pairs:
    """Of an ``STLSTMCell``."""
    return cell_pairs(cell, prefix, _MEMORY_PARTS)


def cell_pairs(cell, prefix: str, parts: Mapping[str, str]) -> Pairs:
    """Of a cell, given the convolutions it has beside the 1x1 one that joins its states."""
    found = layer_pairs(cell.join.conv, f"{prefix}conv_last")
    for theirs, ours in parts.items():
        found += normalised_pairs(getattr(cell, ours), f"{prefix}{theirs}")
    return found


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model: the size of the frames only where there is layer normalisation."""
    tensors = contents.tensors
    layers = count_layers(tensors, "cell_list.{}.conv_h.0.weight")
    norm = "cell_list.0.conv_x.1.weight"
    grid = [axis(tensors, norm, i) for i in (1, 2)] if norm in tensors else None
    return {
        "filters": [axis(tensors, f"cell_list.{i}.conv_h.0.weight", 1) for i in range(layers)],
        "kernel_size": axis(tensors, "cell_list.0.conv_x.0.weight", -1),
        "layer_norm": grid is not None,
        **patching(axis(tensors, "conv_last.weight", 0), grid, given),
    }


def infer_mim(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same of MIM, whose peepholes always tell the size of the frames."""
    tensors = contents.tensors
    layers = count_layers(tensors, "stlstm_layer.{}.conv_last.weight")
    grid = [axis(tensors, "stlstm_layer.1.ct_weight", i) for i in (1, 2)]
    return {
        "filters": [axis(tensors, f"stlstm_layer.{i}.conv_last.weight", 0) for i in range(layers)],
        "kernel_size": axis(tensors, "stlstm_layer.0.conv_x.0.weight", -1),
        "layer_norm": "stlstm_layer.0.conv_x.1.weight" in tensors,
        **patching(axis(tensors, "conv_last.weight", 0), grid, given),
    }


def infer_mau(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same of MAU: its normalisation tells the size of the maps, and its encoder how much smaller they are."""
    tensors = contents.tensors
    layers, reduction = (
        count_layers(tensors, "cell_list.{}.conv_t.0.weight"),
        2 ** count_layers(tensors, "decoders.{0}.c_decoder{0}.weight"),
    )
    grid = [reduction * axis(tensors, "cell_list.0.conv_t.1.weight", i) for i in (1, 2)]
    return {
        "filters": [axis(tensors, f"cell_list.{i}.conv_t_next.0.weight", 0) for i in range(layers)],
        "kernel_size": axis(tensors, "cell_list.0.conv_t.0.weight", -1),
        "layer_norm": True,
        "reduction": reduction,
        **patching(axis(tensors, "srcnn.0.weight", 0), grid, {"patch_size": 1, **given}),
    }


def infer_e3d(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same of E3D-LSTM, whose normalisation always tells the size of the frames."""
    tensors = contents.tensors
    layers = count_layers(tensors, "cell_list.{}.conv_last.conv3d.weight")
    grid = [axis(tensors, "cell_list.0._norm_c_t.weight", i) for i in (2, 3)]
    return {
        "filters": [axis(tensors, f"cell_list.{i}.conv_last.conv3d.weight", 0) for i in range(layers)],
        "kernel_size": axis(tensors, "cell_list.0.conv_x.0.conv3d.weight", -1),
        **patching(axis(tensors, "conv_last.weight", 0), grid, given),
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """What weights do not say, and what was published with such weights does."""
    return published_frames(axis(contents.tensors, "conv_last.weight", 0), certain["patch_size"])
