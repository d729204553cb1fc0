"""Names of CrevNet's parameters in the authors' code, where encoder and predictor are saved together."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, Recipe, layer_pairs, same, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("encoder.stack.0.bottleneck_block.7.weight", "predictor.convlstm.0.remember_gate1.weight")
UNREAD = r".*\.num_batches_tracked"

_GATES = {
    "gates": ("remember_gate", "in_gate", "cell_gate"),
    "memory_gates": ("remember_gate1", "in_gate1", "cell_gate1"),
    "output_gate": ("out_gate",),
    "join": ("w1",),
}


def pairs(model) -> Pairs:
    """The variables of a ``CrevNet`` model, and where they are."""
    found = []
    for i, block in enumerate(model.autoencoder.blocks):
        first = 2 * (block.norms[0] is not None)  # a normalisation and a ReLU
        places = zip(block.convs, (first, first + 3, first + 7), block.norms, (0, first + 1, first + 5), strict=True)
        for conv, conv_place, norm, norm_place in places:
            name = f"encoder.stack.{i}.bottleneck_block."
            found += layer_pairs(conv, f"{name}{conv_place}")
            found += [] if norm is None else _norm_pairs(norm, f"{name}{norm_place}")
    for i, layer in enumerate(model.predictor):
        for ours, theirs in _GATES.items():
            found += layer_pairs(getattr(layer, ours), *(f"predictor.convlstm.{i}.{name}" for name in theirs))
        for j, part in enumerate(layer.attention):
            found += layer_pairs(part, f"predictor.att.{i}.{3 * j}")
        for j, norm in enumerate(layer.norms):
            found += vector_norm_pairs(norm, f"predictor.att.{i}.{3 * j + 1}")
    return [(variable, _of_one_frame(recipe) if _is_flat(variable) else recipe) for variable, recipe in found]


def _norm_pairs(norm, name: str) -> Pairs:
    averages = (("moving_mean", "running_mean"), ("moving_variance", "running_var"))
    found = [(getattr(norm, ours), same(f"{name}.{theirs}")) for ours, theirs in averages if hasattr(norm, ours)]
    return vector_norm_pairs(norm, name) + found


def _is_flat(variable) -> bool:
    """Whether it is a kernel of windows of one frame; 1x1 kernels over time are of either form."""
    return len(variable.shape) == 5 and variable.shape[0] == 1


def _of_one_frame(recipe: Recipe) -> Recipe:
    """A kernel over rows and columns, as one over one frame, too."""
    return Recipe(recipe.names, lambda *arrays: (found := recipe.convert(*arrays)).reshape(1, *found.shape[-4:]))


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; of the frames they know the channels alone."""
    del given
    tensors, widths = contents.tensors, []
    for i in range(count_layers(tensors, "encoder.stack.{}.bottleneck_block.7.weight")):
        widths.append(axis(tensors, f"encoder.stack.{i}.bottleneck_block.{9 if i else 7}.weight", 0))
    return {
        "window": 3 if len(tensors[SIGNATURE[0]].shape) == 5 else 1,
        "blocks": list(Counter(widths).values()),
        "layers": count_layers(tensors, "predictor.convlstm.{}.in_gate.weight"),
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """The frames it was published for with one channel."""
    del certain
    return {"frame_shape": [64, 64, 1]} if axis(contents.tensors, SIGNATURE[0], 0) == 2 else {}
