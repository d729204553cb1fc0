"""Names of SwinLSTM's parameters in the authors' code and in OpenSTL's."""

from collections.abc import Mapping
from typing import Any

from htsr.errors import InputError
from htsr.published.layouts import Pairs, layer_pairs, same, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("Downsample.patch_embed.proj.weight", "Downsample.layers.0.STBs.0.attn.qkv.weight")
B_SIGNATURE = ("ST.patch_embed.proj.weight", "ST.layer.STBs.0.attn.qkv.weight")
UNREAD = r"Upsample\.patch_embed\..*|.*\.STBs\.\d*[13579]\.red\.(weight|bias)|.*\.(attn_mask|relative_position_index)"
PUBLISHED = {"context": 10}


def pairs(model) -> Pairs:
    """The variables of a ``SwinLSTM`` model of several sizes, and where they are."""
    found = layer_pairs(model.embed, "Downsample.patch_embed.proj")
    found += vector_norm_pairs(model.embed_norm, "Downsample.patch_embed.norm")
    found += layer_pairs(model.output_conv, "Upsample.Unembed.Conv")
    for i, (cell, layer) in enumerate(zip(model.down, model.merges, strict=True)):
        found += _cell_pairs(cell, f"Downsample.layers.{i}")
        found += layer_pairs(layer.dense, f"Downsample.downsample.{i}.reduction")
        found += vector_norm_pairs(layer.norm, f"Downsample.downsample.{i}.norm")
    for i, (cell, layer) in enumerate(zip(model.up, model.expands, strict=True)):
        found += _cell_pairs(cell, f"Upsample.layers.{i}")
        found += layer_pairs(layer.dense, f"Upsample.upsample.{i}.expand")
        found += vector_norm_pairs(layer.norm, f"Upsample.upsample.{i}.norm")
    return found


def b_pairs(model) -> Pairs:
    """The variables of a ``SwinLSTM`` model of one cell, and where they are."""
    return [
        *layer_pairs(model.embed, "ST.patch_embed.proj"),
        *vector_norm_pairs(model.embed_norm, "ST.patch_embed.norm"),
        *layer_pairs(model.output_conv, "ST.patch_inflated.Conv"),
        *_cell_pairs(model.down[0], "ST.layer"),
    ]


def _cell_pairs(cell, prefix: str) -> Pairs:
    found = []
    for i, block in enumerate(cell.blocks):
        name, attention = f"{prefix}.STBs.{i}", block.attention
        found += vector_norm_pairs(block.norm, f"{name}.norm1") + vector_norm_pairs(block.mlp_norm, f"{name}.norm2")
        found += layer_pairs(attention.qkv, f"{name}.attn.qkv") + layer_pairs(
            attention.output_layer, f"{name}.attn.proj"
        )
        found.append((attention.bias, same(f"{name}.attn.relative_position_bias_table")))
        found += layer_pairs(block.mlp_in, f"{name}.mlp.fc1") + layer_pairs(block.mlp_out, f"{name}.mlp.fc2")
        found += layer_pairs(block.join, f"{name}.red") if block.joined else []
    return found


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; of the frames they know the channels alone."""
    del given
    tensors = contents.tensors
    deep = SIGNATURE[0] in tensors
    cells = [f"Downsample.layers.{i}" for i in range(count_layers(tensors, "Downsample.layers.{}.STBs.0.norm1.weight"))]
    cells = cells if deep else ["ST.layer"]
    embed = f"{'Downsample' if deep else 'ST'}.patch_embed.proj.weight"
    if axis(tensors, embed, -1) != 2:
        raise InputError(f"{embed} has patches of {axis(tensors, embed, -1)} pixels; only those of 2 can be imported")
    table = "{}.STBs.0.attn.relative_position_bias_table"
    return {
        "filters": axis(tensors, embed, 0),
        "depths": [count_layers(tensors, f"{cell}.STBs.{{}}.norm1.weight") for cell in cells],
        "heads": [axis(tensors, table.format(cell), 1) for cell in cells],
        "window": (round(axis(tensors, table.format(cells[0]), 0) ** 0.5) + 1) // 2,
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """The frames it was published for with so many channels."""
    del certain
    name = SIGNATURE[0] if SIGNATURE[0] in contents.tensors else B_SIGNATURE[0]
    return {"frame_shape": [64, 64, 1]} if axis(contents.tensors, name, 1) == 1 else {}
