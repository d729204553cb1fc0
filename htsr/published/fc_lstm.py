"""Names of FC-LSTM's parameters where both stacks are PyTorch's LSTMs."""

from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, Recipe, layer_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("encoder.weight_ih_l0", "decoder.weight_ih_l0", "readout.weight")
PUBLISHED = {"context": 10, "peepholes": False}


def pairs(model) -> Pairs:
    """The variables of an ``FCLSTM`` model, and where they are; PyTorch has two biases, which are summed."""
    found = layer_pairs(model.readout, "readout")
    for name, stack in (("encoder", model.encoder), ("decoder", model.predictor)):
        for i, cell in enumerate(stack):
            found += cell_pairs(cell, name, i)
    return found


def cell_pairs(cell, name: str, layer: int) -> Pairs:
    """Of a ``PeepholeCell`` without peepholes, which is a layer of PyTorch's LSTM; of two biases it has the sum."""
    inputs, hidden = (Recipe((f"{name}.weight_{kind}_l{layer}",), lambda a: a.T) for kind in ("ih", "hh"))
    bias = Recipe(tuple(f"{name}.bias_{kind}_l{layer}" for kind in ("ih", "hh")), lambda a, b: a + b)
    return [(cell.kernel, inputs), (cell.recurrent_kernel, hidden), (cell.bias, bias)]


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; of the frames only how many pixels they have."""
    del given
    layers = count_layers(contents.tensors, "encoder.weight_hh_l{}")
    return {"units": [axis(contents.tensors, f"encoder.weight_hh_l{i}", 1) for i in range(layers)]}


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """Moving MNIST, where they have as many."""
    del certain
    return {"frame_shape": [64, 64, 1]} if axis(contents.tensors, "readout.weight", 0) == 4096 else {}
