"""Names of the parameters of ConvLSTM and PredRNN as OpenSTL builds them; MotionRNN and GMG have theirs from it."""

from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, layer_pairs, normalised_pairs
from htsr.published.patches import patching, published_frames
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("conv_last.weight", "cell_list.0.conv_x.0.weight", "cell_list.0.conv_h.0.weight")
PREDRNN_SIGNATURE = (*SIGNATURE, "cell_list.0.conv_m.0.weight")
CONVLSTM_UNREAD = r"cell_list\.\d+\.(conv_o\.[01]|conv_last)\.(weight|bias)"
PREDRNN_UNREAD = r"adapter\.weight"  # of PredRNNv2, read by its loss alone
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

_PARTS = {"conv_x": "inputs_conv", "conv_h": "hidden_conv"}
_MEMORY_PARTS = {**_PARTS, "conv_m": "memory_conv", "conv_o": "output_conv"}


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


def st_lstm_pairs(cell, prefix: str) -> Pairs:
    """Of an ``STLSTMCell``."""
    found = []
    for theirs, ours in _MEMORY_PARTS.items():
        found += normalised_pairs(getattr(cell, ours), f"{prefix}{theirs}")
    return found + layer_pairs(cell.join.conv, f"{prefix}conv_last")


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


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """What weights do not say, and what was published with such weights does."""
    return published_frames(axis(contents.tensors, "conv_last.weight", 0), certain["patch_size"])
