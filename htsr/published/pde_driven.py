"""Names of the parameters of PDE-driven disentanglement in its authors' code."""

from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, Recipe, bias, layer_pairs, same, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis, count_layers

_MLP = "t_resnet.blocks.{}.mlp.module"
SIGNATURE = (f"{_MLP.format(0)}.0.0.weight", f"{_MLP.format(0)}.2.1.weight")
UNREAD = r".*\.num_batches_tracked"
PUBLISHED = {"reconstruct": True}


def pairs(model) -> Pairs:
    """The variables of a ``PDEDriven`` model, and where they are."""
    found, decoder = [], model.decoder
    for encoder, name in ((model.static, "Es"), (model.dynamic, "Et")):
        found += _stage_pairs(encoder, f"{name}.conv", 1)
        if encoder.form == "vgg":
            found += _block_pairs(encoder.head, f"{name}.last_op.1")
        else:
            found += _whole_pairs(encoder.head.conv, f"{name}.last_op.1")
    deep = decoder.form == "vgg"
    found += _block_pairs(decoder.first, "decoder.first_upconv" + ".0" * deep)
    found += _stage_pairs(decoder, "decoder.conv", 0) + layer_pairs(decoder.last, "decoder.conv.3" + ".1" * deep)
    for i, block in enumerate(model.blocks):
        for layer, place in zip(block.layers, ("0.0", "1.1", "2.1"), strict=True):
            found += layer_pairs(layer, f"{_MLP.format(i)}.{place}")
    return found


def _stage_pairs(network, name: str, pooled: int) -> Pairs:
    """Of an encoder's or decoder's stages; ``pooled`` is 1 where all but VGG's first one begin with a maximum."""
    found = []
    for i, stage in enumerate(network.stages):
        for j, block in enumerate(stage):
            place = f"{name}.{i}.{j + pooled * (i > 0)}" if network.form == "vgg" else f"{name}.{i}"
            found += _block_pairs(block, place)
    return found


def _block_pairs(block, name: str) -> Pairs:
    found = layer_pairs(block.conv, f"{name}.0")
    if block.norm is not None:
        found += vector_norm_pairs(block.norm, f"{name}.1")
        found.append((block.norm.moving_mean, same(f"{name}.1.running_mean")))
        found.append((block.norm.moving_variance, same(f"{name}.1.running_var")))
    return found


def _whole_pairs(conv, name: str) -> Pairs:
    """Of a dense layer that is a convolution over whole maps here; its inputs are channels, rows, columns."""
    rows, columns, channels, units = conv.kernel.shape

    def convert(array):
        return array.reshape(units, channels, rows, columns).transpose(2, 3, 1, 0)

    return [(conv.kernel, Recipe((f"{name}.weight",), convert)), (conv.bias, bias(name))]


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model, which is all but what it does with its first code."""
    del given
    tensors = contents.tensors
    vgg = "Es.conv.0.0.0.weight" in tensors
    deep = ".0" * vgg
    first, channels = f"decoder.first_upconv{deep}.0.weight", axis(tensors, f"decoder.conv.3{'.1' * vgg}.weight", 1)
    wide = axis(tensors, f"decoder.conv.0{deep}.0.weight", 1 if vgg else 0)
    return {
        "form": "vgg" if vgg else "dcgan",
        "frame_shape": [*((8 if vgg else 16) * axis(tensors, first, i) for i in (2, 3)), channels],
        "context": axis(tensors, f"Es.conv.0{deep}.0.weight", 1) // channels,
        "filters": axis(tensors, f"Es.conv.0{deep}.0.weight", 0),
        "static_units": axis(tensors, f"Es.last_op.1{deep}.weight", 0),
        "dynamic_units": axis(tensors, SIGNATURE[0], 1),
        "hidden": axis(tensors, SIGNATURE[0], 0),
        "blocks": count_layers(tensors, f"{_MLP}.0.0.weight"),
        "skips": wide == 2 * axis(tensors, first, 1),
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """How frames end: VGG is published for TaxiBJ, which is not of pictures."""
    del contents
    return {"sigmoid": certain["form"] == "dcgan"}
