"""Names of LMC-Memory's parameters in the authors' code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from htsr.published.layouts import Pairs, Recipe, bias, kernel, layer_pairs, same
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("memory.memory_w", "convlstm_list.0.conv2d_x.weight")
PUBLISHED = {"context": 10, "long_frames": 30, "warmup_steps": 5000, "warmup_horizon": 10, "output": "linear"}

_MOTION_CONVS = (0, 3, 6, 8, 11, 13)  # places of the convolutions in a motion encoder


def pairs(model) -> Pairs:
    """The variables of an ``LMCMemory`` model, and where they are."""
    encoder, decoder, memory = model.encoder, model.decoder, model.memory
    layers = {f"encoder.{2 * i}": layer for i, layer in enumerate(_alternating(encoder.halvings, encoder.convs))}
    layers |= {f"decoder.{2 * i}": layer for i, layer in enumerate(_alternating(decoder.convs, decoder.doublings))}
    for kind, motion in (("matching", memory.matching_encoder), ("context", memory.context_encoder)):
        for place, layer in zip(_MOTION_CONVS, motion.convs, strict=True):
            layers[f"memory.motion_{kind}_encoder.{place}"] = layer
    layers |= {f"memory.embedder.{2 * i}": layer for i, layer in enumerate(memory.embedder)}
    layers |= {"attention_func.2": model.attention.squeeze, "attention_func.4": model.attention.excite}
    found = [(memory.slots, same("memory.memory_w"))]
    for name, layer in layers.items():
        found += layer_pairs(layer, name)
    for i, cell in enumerate(model.cells):
        for part, layer in (("conv2d_x", cell.inputs_conv.conv), ("conv2d_h", cell.hidden_conv.conv)):
            name = f"convlstm_list.{i}.{part}"
            found += [(layer.kernel, _gates(kernel(name))), (layer.bias, _gates(bias(name)))]
    return found


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; the size of the frames is in none of them."""
    del given
    tensors = contents.tensors
    return {
        "filters": axis(tensors, "convlstm_list.0.conv2d_x.weight", 1),
        "layers": count_layers(tensors, "convlstm_list.{}.conv2d_x.weight"),
        "slots": axis(tensors, "memory.memory_w", 0),
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """The frames of Moving MNIST, as weights do not say what size theirs were."""
    del certain
    return {"frame_shape": [64, 64, axis(contents.tensors, "encoder.0.weight", 1)]}


def _alternating(first, second) -> list:
    return [layer for both in zip(first, second, strict=True) for layer in both]


def _gates(recipe: Recipe) -> Recipe:
    """Theirs are in the order i, g, f, o, ours i, f, g, o."""

    def reordered(array: np.ndarray) -> np.ndarray:
        i, g, f, o = np.split(recipe.convert(array), 4, -1)
        return np.concatenate([i, f, g, o], -1)

    return Recipe(recipe.names, reordered)
