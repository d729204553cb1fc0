"""Names of SimVP's parameters in OpenSTL's code, for all of its translators."""

import operator
from collections.abc import Mapping
from typing import Any

import keras

from htsr.errors import InputError
from htsr.models.simvp.translators.inception import IncepU
from htsr.published.layouts import Pairs, Recipe, kernel, same, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("enc.enc.0.conv.conv.weight", "dec.dec.0.conv.conv.0.weight", "dec.readout.weight")
UNREAD = r".*\.(num_batches_tracked|attn_mask|relative_position_index)"

_MLP = {"mlp.widen": "mlp.fc1", "mlp.narrow": "mlp.fc2"}
_ATTENTION = {"attention.qkv": "attn.qkv", "attention.output_layer": "attn.proj"}
_NORMS = {"norm1": "norm1", "norm2": "norm2"}
_UNIT = "attn.spatial_gating_unit"
_LARGE_KERNEL = {
    **_NORMS, **_MLP, "mlp.conv": "mlp.dwconv.dwconv", "scale1": "layer_scale_1", "scale2": "layer_scale_2",
    "attention.before": "attn.proj_1", "attention.after": "attn.proj_2", "attention.near": f"{_UNIT}.conv0",
    "attention.far": f"{_UNIT}.conv_spatial", "attention.mix": f"{_UNIT}.conv1",
}  # fmt: skip
# By the name of a block's class: attributes of the block, and names in the original.
BLOCKS: dict[str, dict[str, str]] = {
    "GSTA": _LARGE_KERNEL,
    "VAN": _LARGE_KERNEL,
    "TAU": {**_LARGE_KERNEL, "attention.squeeze": f"{_UNIT}.fc.0", "attention.excite": f"{_UNIT}.fc.2"},
    "ConvMixer": {"conv": "conv_dw", "mix": "conv_pw", "norm1": "norm_1", "norm2": "norm_2"},
    "ConvNeXt": {"conv": "conv_dw", "norm": "norm", "scale1": "gamma", **_MLP},
    "PoolFormer": {**_NORMS, **_MLP, "scale1": "layer_scale_1", "scale2": "layer_scale_2"},
    "HorNet": {
        **_NORMS, "before": "gnconv.proj_in", "conv": "gnconv.dwconv", "after": "gnconv.proj_out",
        **{f"orders{i}": f"gnconv.pws.{i}" for i in range(3)},
        "mlp.widen": "pwconv1", "mlp.narrow": "pwconv2", "scale1": "gamma1", "scale2": "gamma2",
    },
    "MLPMixer": {
        **_NORMS, "mix.widen": "mlp_tokens.fc1", "mix.narrow": "mlp_tokens.fc2",
        "mlp.widen": "mlp_channels.fc1", "mlp.narrow": "mlp_channels.fc2",
    },
    "MogaNet": {
        **_NORMS, **_MLP, "mlp.conv": "mlp.dwconv", "mlp.common": "mlp.decompose", "mlp.contrast": "mlp.sigma",
        "attention.before": "attn.proj_1", "attention.gate": "attn.gate", "attention.after": "attn.proj_2",
        "attention.contrast": "attn.sigma", "attention.mix": "attn.value.PW_conv",
        "attention.near": "attn.value.DW_conv0", "attention.wider": "attn.value.DW_conv1",
        "attention.widest": "attn.value.DW_conv2", "scale1": "layer_scale_1", "scale2": "layer_scale_2",
    },
    "ViT": {**_NORMS, **_MLP, **_ATTENTION},
    "Swin": {**_NORMS, **_MLP, **_ATTENTION, "attention.bias": "attn.relative_position_bias_table"},
    "UniFormer": {
        **_NORMS, **_MLP, **_ATTENTION, "position": "pos_embed", "scale1": "gamma_1", "scale2": "gamma_2",
    },
    "UniFormer.local": {
        **_NORMS, **_MLP, "position": "pos_embed", "before": "conv1", "conv": "attn", "after": "conv2",
    },
}  # fmt: skip
# A name that, of all first blocks, only those of this translator have, or the first one in this order.
_TELLING = {
    "incep_u": "conv1.weight",
    "tau": f"block.{_UNIT}.fc.0.weight",
    "van": f"block.{_UNIT}.conv1.weight",
    "conv_mixer": "block.conv_pw.weight",
    "conv_next": "block.conv_dw.weight",
    "hornet": "block.gnconv.proj_in.weight",
    "mlp_mixer": "block.mlp_tokens.fc1.weight",
    "moganet": "block.attn.gate.weight",
    "uniformer": "block.pos_embed.weight",
    "swin": "block.attn.relative_position_bias_table",
    "vit": "block.attn.qkv.weight",
    "poolformer": "block.layer_scale_1",
}
_FIRST_NORMS = ("norm1", "norm_1", "norm")
_WIDENING = ("mlp.fc1", "mlp_channels.fc1", "pwconv1")


def pairs(model) -> Pairs:
    """The variables of a ``SimVP`` model, and where they are."""
    return [pair for part, name in named_parts(model) for pair in part_pairs(part, name)]


def named_parts(model) -> list[tuple[Any, str]]:
    """Layers and variables of a ``SimVP`` model, and their names in the original."""
    found = [(model.decoder.output_layer, "dec.readout")]
    for stages, name in ((model.encoder.stages, "enc.enc"), (model.decoder.stages, "dec.dec")):
        for i, stage in enumerate(stages):
            conv = "conv.conv.0" if stage.resample == "double" else "conv.conv"
            found += [(stage.conv, f"{name}.{i}.{conv}"), (stage.norm, f"{name}.{i}.conv.norm")]
    if isinstance(model.translator, IncepU):
        return found + _incep_u_parts(model.translator)
    projections = iter(model.translator.projections)
    for i, block in enumerate(model.translator.blocks):
        for ours, theirs in names_of_block(block).items():
            found.append((operator.attrgetter(ours)(block), f"hid.enc.{i}.block.{theirs}"))
        if block.widens:
            found.append((next(projections), f"hid.enc.{i}.reduction"))
    return found


def names_of_block(block) -> dict[str, str]:
    """Attributes of a block, and their names in the original."""
    return BLOCKS[type(block).__name__ + (".local" if getattr(block, "local", False) else "")]


def _incep_u_parts(translator) -> list[tuple[Any, str]]:
    found = []
    for blocks, name in ((translator.down, "hid.enc"), (translator.up, "hid.dec")):
        for i, block in enumerate(blocks):
            found.append((block.narrow, f"{name}.{i}.conv1"))
            for j, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True)):
                found += [(conv, f"{name}.{i}.layers.{j}.conv"), (norm, f"{name}.{i}.layers.{j}.norm")]
    return found


def part_pairs(part, name: str) -> Pairs:
    """The variables of a layer, or a variable, and where they are."""
    if isinstance(part, keras.Variable):
        return [(part, Recipe((name,), lambda a: a.reshape(part.shape)))]
    if hasattr(part, "gamma"):
        averages = (("moving_mean", "running_mean"), ("moving_variance", "running_var"))
        found = [(getattr(part, ours), same(f"{name}.{theirs}")) for ours, theirs in averages if hasattr(part, ours)]
        return vector_norm_pairs(part, name) + found
    weight, bias = f"{name}.weight", f"{name}.bias"
    if name.endswith("conv.conv.0"):  # before a pixel shuffle, which has channels outermost
        return [
            (part.kernel, Recipe((weight,), lambda a: _shuffled(a.transpose(2, 3, 1, 0)))),
            (part.bias, Recipe((bias,), _shuffled)),
        ]
    if isinstance(part, keras.layers.DepthwiseConv2D):
        found = [(part.kernel, Recipe((weight,), lambda a: a.transpose(2, 3, 0, 1)))]
    elif isinstance(part, keras.layers.Dense):  # a linear layer, or a 1x1 convolution
        found = [(part.kernel, Recipe((weight,), lambda a: a.reshape(a.shape[:2]).T))]
    else:
        found = [(part.kernel, kernel(name))]
    return [*found, (part.bias, same(bias))] if part.use_bias else found


def _shuffled(array):
    """Channels (channel, row, column) of the last axis, in the order (row, column, channel)."""
    parts = array.reshape(*array.shape[:-1], -1, 4)
    return parts.swapaxes(-1, -2).reshape(array.shape)


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; of the frames they know the channels alone."""
    del given
    tensors = contents.tensors
    name = next((name for name, sign in _TELLING.items() if f"hid.enc.0.{sign}" in tensors), None)
    if name is None:
        raise InputError("hid.enc.0 has no parameters of a translator that can be imported; check --from")
    filters, found = axis(tensors, SIGNATURE[0], 0), {}
    if name == "incep_u":
        wide, norm = axis(tensors, "hid.enc.0.conv1.weight", 1), "layers.0.norm.weight"
        hidden = axis(tensors, "hid.enc.0.layers.0.conv.weight", 0)
    else:
        norm = next((f"block.{n}.weight" for n in _FIRST_NORMS if f"hid.enc.0.block.{n}.weight" in tensors), "block")
        wide, reduction = axis(tensors, f"hid.enc.0.{norm}", 0), "hid.enc.0.reduction.weight"
        hidden = axis(tensors, reduction, 0) if reduction in tensors else wide
        if name == "van" and axis(tensors, f"hid.enc.0.{_TELLING['van']}", 0) == 2 * wide:
            name = "gsta"
        for part in _WIDENING:
            if (weight := f"hid.enc.0.block.{part}.weight") in tensors:
                found["translator.mlp_ratio"] = axis(tensors, weight, 0) // axis(tensors, weight, 1)
    return {
        "filters": filters,
        "stages": count_layers(tensors, "enc.enc.{}.conv.conv.weight"),
        "context": wide // filters,
        "translator": name,
        "translator.filters": hidden,
        "translator.depth": count_layers(tensors, f"hid.enc.{{}}.{norm}"),
        **found,
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """The frames it was published for with so many channels and frames of context, and TAU's loss."""
    channels, deep = axis(contents.tensors, SIGNATURE[0], 1), certain["stages"] > 2
    shapes = {(1, 10): [64, 64, 1] if deep else [128, 128, 1], (2, 4): [32, 32, 2], (1, 12): [32, 64, 1]}
    shape = shapes.get((channels, certain["context"]))
    loss = {"divergence": 0.1} if certain["translator"] == "tau" else {}
    return loss | ({"frame_shape": shape} if shape else {})
