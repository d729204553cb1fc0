"""Names of CMS-LSTM's parameters in the authors' code."""

from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, bias, kernel, layer_pairs, norm_pairs, normalised_pairs
from htsr.published.patches import patching
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("lstm.0.SEBlock.conv_bn.0.weight", "output.weight")
UNREAD = r"lstm\.\d+\.SEBlock\.stages\.\d+\.gamma"
PUBLISHED = {
    "cell": "cms_lstm",
    "layer_norm": True,
    "embed": True,
    "patch_order": "channel_column_row",
    "context": 10,
    "loss": "l2",
    "scored_from": 2,
    "sampling": "scheduled",
    "sampling_steps": 200000,
    "time_reversed": True,
}


def pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of CMS-LSTM cells, and where they are."""
    found = [*layer_pairs(model.embed, "embed"), *layer_pairs(model.output_conv, "output")]
    for i, cell in enumerate(model.cells):
        found += normalised_pairs(cell.ce.inputs_gate, f"lstm.{i}.convQ")
        found += normalised_pairs(cell.ce.hidden_gate, f"lstm.{i}.convR")
        found += normalised_pairs(cell.cell.inputs_conv, f"lstm.{i}.conv_i2h")
        found += normalised_pairs(cell.cell.hidden_conv, f"lstm.{i}.conv_h2h")
        found += norm_pairs(cell.cell.norm, f"lstm.{i}.norm_cell")
        found += _expression_pairs(cell.se, f"lstm.{i}.SEBlock")
    return found


def _expression_pairs(layer, prefix: str) -> Pairs:
    """Of the spatiotemporal-expression block: queries, keys and values of its scales are one convolution here."""
    parts = [
        f"{prefix}.stages.{scale}.f_{part}" for scale in range(len(layer.scales)) for part in ("query", "key", "value")
    ]
    return [
        (layer.attention.kernel, kernel(*parts)),
        (layer.attention.bias, bias(*parts)),
        *normalised_pairs(layer.join_scales, f"{prefix}.conv_bn"),
        *layer_pairs(layer.join_halves, f"{prefix}.w_z"),
        *normalised_pairs(layer.update_hidden, f"{prefix}.w_h2h"),
        *normalised_pairs(layer.update_attended, f"{prefix}.w_z2h"),
        *norm_pairs(layer.norm, f"{prefix}.norm_mem"),
    ]


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; layer normalisation has the size of the frames."""
    tensors = contents.tensors
    layers = count_layers(tensors, "lstm.{}.conv_i2h.0.weight")
    grid = [axis(tensors, "lstm.0.norm_cell.weight", i) for i in (1, 2)]
    scales = count_layers(tensors, "lstm.0.SEBlock.stages.{}.f_query.weight")
    return {
        "filters": [axis(tensors, f"lstm.{i}.conv_h2h.0.weight", 1) for i in range(layers)],
        "kernel_size": axis(tensors, "lstm.0.conv_i2h.0.weight", -1),
        **({"cell.se": [1, 2, 4]} if scales == 3 else {}),
        **patching(axis(tensors, "output.weight", 0), grid, given),
    }
