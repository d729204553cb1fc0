"""Names of PhyDNet's parameters in the authors' code and in OpenSTL's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from htsr.published.layouts import Pairs, Recipe, bias, layer_pairs, transposed_as_plain, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

SIGNATURE = ("encoder.encoder_E.c1.main.0.weight", "encoder.phycell.cell_list.0.F.conv1.weight")
UNREAD = r"(phycell|convcell)\..*"  # the same arrays by another name
PUBLISHED = {"context": 10}

_PHYSICS, _LSTM = "encoder.phycell.cell_list.0", "encoder.convcell.cell_list"


def pairs(model) -> Pairs:
    """The variables of a ``PhyDNet`` model, and where they are."""
    found = _stack_pairs(model.encoder, "encoder.encoder_E.c{}")
    found += _stack_pairs(model.to_physical, "encoder.encoder_Ep.c{}")
    found += _stack_pairs(model.to_lstm, "encoder.encoder_Er.c{}")
    found += _stack_pairs(model.from_physical, "encoder.decoder_Dp.upc{}", transposed=True)
    found += _stack_pairs(model.from_lstm, "encoder.decoder_Dr.upc{}", transposed=True)
    found += _stack_pairs(model.decoder, "encoder.decoder_D.upc{}", transposed=True)
    found += _transposed_pairs(model.output_conv, "encoder.decoder_D.upc3")
    found += layer_pairs(model.physical.derivatives, f"{_PHYSICS}.F.conv1")
    found += vector_norm_pairs(model.physical.norm, f"{_PHYSICS}.F.bn1")
    found += layer_pairs(model.physical.combine, f"{_PHYSICS}.F.conv2")
    found += layer_pairs(model.physical.gate, f"{_PHYSICS}.convgate")
    for i, cell in enumerate(model.cells):
        name, split = f"{_LSTM}.{i}.conv", cell.inputs_conv.conv.kernel.shape[2]
        found.append((cell.inputs_conv.conv.kernel, _gates(f"{name}.weight", slice(None, split))))
        found.append((cell.hidden_conv.conv.kernel, _gates(f"{name}.weight", slice(split, None))))
        found.append((cell.inputs_conv.conv.bias, Recipe((f"{name}.bias",), _reordered)))
    return found


def _stack_pairs(stack, name: str, transposed: bool = False) -> Pairs:
    found = []
    for i, (layer, norm) in enumerate(zip(stack.convs, stack.norms, strict=True), 1):
        place = f"{name.format(i)}.main"
        found += _transposed_pairs(layer, f"{place}.0") if transposed else layer_pairs(layer, f"{place}.0")
        found += vector_norm_pairs(norm, f"{place}.1")
    return found


def _transposed_pairs(layer, name: str) -> Pairs:
    """Of a transposed convolution, which is a plain one here where its stride is 1."""
    if layer.strides[0] > 1:
        return layer_pairs(layer, name)
    return [(layer.kernel, transposed_as_plain(name)), (layer.bias, bias(name))]


def _gates(name: str, of_inputs: slice) -> Recipe:
    """A part of a convolution of [x, h]."""
    return Recipe((name,), lambda a: _reordered(a.transpose(2, 3, 1, 0)[:, :, of_inputs]))


def _reordered(array: np.ndarray) -> np.ndarray:
    """Theirs are gates i, f, o, g, ours i, f, g, o."""
    i, f, o, g = np.split(array, 4, -1)
    return np.concatenate([i, f, g, o], -1)


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes say of the model; of the frames they know the channels alone, and nothing of the patches."""
    del given
    tensors = contents.tensors
    layers = count_layers(tensors, f"{_LSTM}.{{}}.conv.weight")
    return {
        "filters": axis(tensors, "encoder.encoder_Ep.c1.main.0.weight", 0),
        "lstm_filters": [axis(tensors, f"{_LSTM}.{i}.conv.weight", 0) // 4 for i in range(layers)],
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """Frames and patches it was published for with so many channels."""
    del certain
    shapes = {1: ([64, 64, 1], 4), 2: ([32, 32, 2], 2)}
    shape, patch = shapes.get(axis(contents.tensors, SIGNATURE[0], 1), (None, 4))
    return {"patch_size": patch, **({"frame_shape": shape} if shape else {})}
