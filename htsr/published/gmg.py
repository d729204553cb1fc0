"""Names of GMG's and MotionRNN's parameters in the released code of GMG."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from htsr.published import openstl
from htsr.published.layouts import Pairs, Recipe, bias, kernel, layer_pairs, norm_pairs, scalars, transposed_as_plain
from htsr.published.openstl import st_lstm_pairs
from htsr.published.readers.tensors import Contents, axis

SIGNATURE = ("conv_first_v.weight", "conv_last.weight", "cell_list.0.conv_x.0.weight", "motion_list.0.update.weight")
GMG_SIGNATURE = (*SIGNATURE, "cell_list.0.attention_layer.layer_q.weight")
UNREAD_DECAY = r"motion_list\.\d+\.global_growth_module\.beta_.*"  # read only where the trend decays
MOTIONRNN = {**openstl.PUBLISHED, "cell": "motionrnn", "cell.offsets": "published"}
GMG = {**openstl.PUBLISHED, "cell": "gmg", "cell.offsets": "published", "cell.trend_decay": "batch"}


def pairs(model) -> Pairs:
    """The variables of a ``RecurrentPredictor`` of GMG or MotionRNN cells, and where they are."""
    found = [*layer_pairs(model.highway, "conv_first_v"), *layer_pairs(model.output_conv, "conv_last")]
    for i, cell in enumerate(model.cells):
        found += cell_pairs(cell, f"cell_list.{i}.")
        if cell.motion is not None:
            found += guided_pairs(cell.motion.guided, f"motion_list.{i}.")
            found += layer_pairs(cell.motion.encoder, f"enc_list.{i}") + layer_pairs(cell.motion.gate, f"gate_list.{i}")
            decoder = cell.motion.decoder
            found += [(decoder.kernel, transposed_as_plain(f"dec_list.{i}")), (decoder.bias, bias(f"dec_list.{i}"))]
    return found


def cell_pairs(cell, prefix: str) -> Pairs:
    """Of a ``GMGCell``, all but the motion's."""
    found = st_lstm_pairs(cell.lstm, prefix)
    if cell.focus is None:
        return found
    for i, layer in enumerate(cell.multi_scale.convs):
        found += layer_pairs(layer, f"{prefix}conv_g.0.convs.{i}")
    if cell.multi_scale.norm is not None:
        found += norm_pairs(cell.multi_scale.norm, f"{prefix}conv_g.1")
    found += layer_pairs(cell.focus.gate, f"{prefix}gate.0")
    found += summary_pairs(cell.focus, f"{prefix}global_feature_extractor.")
    return found + attention_pairs(cell.attention, f"{prefix}attention_layer.")


def attention_pairs(layer, prefix: str) -> Pairs:
    """Of a ``SelfAttentionMemory``, whose convolution of Z and h together is two here."""
    filters = layer.update_hidden.conv.filters // 3
    names = {part: f"{prefix}layer_{part}" for part in ("q", "k", "v", "k2", "v2", "z", "m")}
    return [
        *layer_pairs(layer.from_hidden, names["q"], names["k"], names["v"]),
        *layer_pairs(layer.from_memory, names["k2"], names["v2"]),
        *layer_pairs(layer.join, names["z"]),
        (layer.update_attended.conv.kernel, _updating_kernel(names["m"], 0, 2 * filters)),
        (layer.update_hidden.conv.kernel, _updating_kernel(names["m"], 2 * filters, None)),
        (layer.update_attended.conv.bias, Recipe((f"{names['m']}.bias",), _reversed_thirds)),
    ]


def summary_pairs(layer, prefix: str) -> Pairs:
    """Of a ``GlobalFocus``, all but its gate."""
    return [*layer_pairs(layer.conv, f"{prefix}conv"), *layer_pairs(layer.dense, f"{prefix}fc")]


def warp_pairs(layer, prefix: str) -> Pairs:
    """Of a ``Warp``."""
    return [(layer.kernel, kernel(f"{prefix}conv")), *layer_pairs(layer.gate, f"{prefix}warp_gate")]


def guided_pairs(layer, prefix: str) -> Pairs:
    """Of a ``MotionGuided``."""
    found = [
        *layer_pairs(layer.gates, f"{prefix}update", f"{prefix}reset"),
        *layer_pairs(layer.candidate, f"{prefix}output"),
        *warp_pairs(layer.warp, f"{prefix}warp."),
    ]
    if layer.growth is None:
        return found
    growth, prefix = layer.growth, f"{prefix}global_growth_module."
    rates = ["alpha"] if growth.decay == "none" else ["alpha", "beta"]
    return [
        *found,
        (growth.kernel, kernel(f"{prefix}fc_global", *(f"{prefix}{rate}_fc" for rate in rates))),
        (growth.bias, bias(*(f"{prefix}{rate}_fc" for rate in rates))),
        (growth.start, scalars(*(f"{prefix}{rate}_default" for rate in rates))),
    ]


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of GMG: of its attention beside what they say of MotionRNN."""
    return {**openstl.infer(contents, given), "cell.key_filters": axis(contents.tensors, GMG_SIGNATURE[-1], 0)}


def _updating_kernel(name: str, begin: int, end: int | None) -> Recipe:
    """Of the attention's last convolution: theirs is of [Z, h] to o, g, i, ours of each alone to i, g, o."""
    return Recipe((f"{name}.weight",), lambda a: _reversed_thirds(a.transpose(2, 3, 1, 0)[:, :, begin:end]))


def _reversed_thirds(array: np.ndarray) -> np.ndarray:
    return np.concatenate(np.split(array, 3, -1)[::-1], -1)
