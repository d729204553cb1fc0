"""Names of ST-ResNet's parameters in PyTorch, as of the model the parity arrays are from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from htsr.published.layouts import Pairs, Recipe, layer_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("closeness.conv1.weight", "closeness.units.0.c1.weight", "w_closeness")
PUBLISHED = {"day": 48, "week": 336}

_BRANCHES = ("closeness", "period", "trend")


def pairs(model) -> Pairs:
    """The variables of a ``STResNet`` model, and where they are."""
    shares = tuple(f"w_{branch.name}" for branch in model.branches)
    found = [(model.shares, Recipe(shares, lambda *maps: np.stack([_last(a) for a in maps])))]
    for branch in model.branches:
        found += layer_pairs(branch.conv_in, f"{branch.name}.conv1") + layer_pairs(
            branch.conv_out, f"{branch.name}.conv2"
        )
        for i, unit in enumerate(branch.units):
            found += [
                pair for j, layer in enumerate(unit, 1) for pair in layer_pairs(layer, f"{branch.name}.units.{i}.c{j}")
            ]
    if model.external:
        height, width, channels = model.frame_shape

        def of_frames(array):
            """(units, numbers of a frame), the channels of the frame last."""
            return np.moveaxis(array.reshape(-1, channels, height, width), 1, -1).reshape(len(array), -1)

        found += layer_pairs(model.embed, "ext1")
        found.append((model.expand.kernel, Recipe(("ext2.weight",), lambda a: of_frames(a.T))))
        found.append((model.expand.bias, Recipe(("ext2.bias",), lambda a: of_frames(a[None])[0])))
    return found


def _last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 0, -1)


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model: all but the frames in a day and in a week."""
    del given
    tensors = contents.tensors
    channels, height, width = (axis(tensors, "w_closeness", i) for i in range(3))
    reads = {
        name: axis(tensors, f"{name}.conv1.weight", 1) // channels if f"{name}.conv1.weight" in tensors else 0
        for name in _BRANCHES
    }
    return {
        "frame_shape": [height, width, channels],
        **reads,
        "filters": axis(tensors, SIGNATURE[0], 0),
        "units": count_layers(tensors, "closeness.units.{}.c1.weight"),
        "external": axis(tensors, "ext1.weight", 1) if "ext1.weight" in tensors else 0,
    }
