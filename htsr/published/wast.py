"""Names of WaST's parameters in OpenSTL's code."""

import operator
from collections.abc import Mapping
from typing import Any

from htsr.published.layouts import Pairs, Recipe, same
from htsr.published.readers.tensors import Contents, axis, count_layers
from htsr.published.simvp import part_pairs

SIGNATURE = ("conv_in.0.weight", "wavelet_embed1.conv_emb.weight", "wavelet_recon1.conv_hi.0.weight")
UNREAD = r".*\.num_batches_tracked"

_BLOCKS = {
    "before": "translator1.blocks",
    "between": "bottleneck_translator.blocks",
    "after": "translator2.blocks",
}
_PARTS = {
    "conv_in.conv": "conv_in.0",
    "conv_in.norm": "conv_in.1",
    "embed_frames": "wavelet_embed1.conv_emb",
    "to_bands.conv": "wavelet_embed1.conv_0.0",
    "to_bands.norm": "wavelet_embed1.conv_0.1",
    "embed_maps.conv": "wavelet_embed1.conv_1.0",
    "embed_maps.norm": "wavelet_embed1.conv_1.1",
    "from_low.conv": "wavelet_recon1.conv_0.0",
    "from_low.norm": "wavelet_recon1.conv_0.1",
    "from_high.conv": "wavelet_recon1.conv_hi.0",
    "from_high.norm": "wavelet_recon1.conv_hi.1",
    "join": "translator2.concat_block",
    "norm_out": "conv_out.0",
    "conv_out": "conv_out.2",
}
_ATTENTION = {"narrow": "conv1", "norm": "bn1", "to_rows": "conv_h", "to_columns": "conv_w"}
_PARTS_OF_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    **{f"low.{ours}": f"low_frequency_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
    **{f"high.{ours}": f"high_frequency_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
    "mixer.widen": "temporal_mixer.conv_pw",
    "mixer.conv": "temporal_mixer.conv_dw",
    "mixer.squeeze": "temporal_mixer.se.conv_reduce",
    "mixer.excite": "temporal_mixer.se.conv_expand",
    "mixer.narrow": "temporal_mixer.conv_pwl",
}


def pairs(model) -> Pairs:
    """The variables of a ``WaST`` model, and where they are."""
    found = [pair for part, name in named_parts(model) for pair in part_pairs(part, name)]
    for name, block in _named_blocks(model):
        # Both branches have the first scale there; nothing reads the second one.
        scales = tuple(f"{name}.layer_scale_{i}" for i in (1, 2))
        found += [(block.scale1, same(scales[0])), (block.scale2, Recipe(scales, lambda a, b: a))]
    return found


def named_parts(model) -> list[tuple[Any, str]]:
    """Layers of a ``WaST`` model, and their names in the original."""
    found = [(operator.attrgetter(ours)(model), theirs) for ours, theirs in _PARTS.items()]
    for name, block in _named_blocks(model):
        found += [(operator.attrgetter(ours)(block), f"{name}.{theirs}") for ours, theirs in _PARTS_OF_BLOCK.items()]
        for place, conv, norm in zip(("lk1", "lk2", "sk"), block.convs, block.norms, strict=True):
            found += [(conv, f"{name}.{place}.0"), (norm, f"{name}.{place}.1")]
        found += [(norm, f"{name}.temporal_mixer.bn{i}") for i, norm in enumerate(block.mixer.norms, 1)]
    return found


def _named_blocks(model) -> list[tuple[str, Any]]:
    return [(f"{name}.{i}", block) for ours, name in _BLOCKS.items() for i, block in enumerate(getattr(model, ours))]


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model; of the frames they know the channels alone."""
    del given
    tensors = contents.tensors
    filters = axis(tensors, SIGNATURE[0], 0)
    return {
        "filters": filters,
        "context": axis(tensors, "translator1.blocks.0.layer_scale_1", 0) // filters,
        "depths": [count_layers(tensors, f"{name}.{{}}.layer_scale_1") for name in _BLOCKS.values()],
    }


def guess(contents: Contents, certain: Mapping[str, Any]) -> dict[str, Any]:
    """TaxiBJ, which it was published for, where there are as many channels and frames."""
    channels = axis(contents.tensors, SIGNATURE[0], 1)
    return {"frame_shape": [32, 32, 2]} if (channels, certain["context"]) == (2, 4) else {}
