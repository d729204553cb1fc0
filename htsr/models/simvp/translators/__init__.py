"""The translators of SimVP by name."""

from collections.abc import Mapping
from typing import Any

from htsr.checks import did_you_mean, require_choice
from htsr.errors import InputError
from htsr.models.simvp.translators.block import Block, Chain
from htsr.models.simvp.translators.convolutional import ConvMixer, ConvNeXt, HorNet, PoolFormer
from htsr.models.simvp.translators.inception import IncepU
from htsr.models.simvp.translators.moganet import MogaNet
from htsr.models.simvp.translators.transformers import MLPMixer, Swin, UniFormer, ViT
from htsr.models.simvp.translators.visual_attention import GSTA, TAU, VAN

BLOCKS: dict[str, type[Block]] = {
    "conv_mixer": ConvMixer,
    "conv_next": ConvNeXt,
    "gsta": GSTA,
    "hornet": HorNet,
    "mlp_mixer": MLPMixer,
    "moganet": MogaNet,
    "poolformer": PoolFormer,
    "swin": Swin,
    "tau": TAU,
    "uniformer": UniFormer,
    "van": VAN,
    "vit": ViT,
}
TRANSLATORS = ("incep_u", *BLOCKS)


def make_translator(translator: str | Mapping[str, Any], channels: int, dtype) -> Chain | IncepU:
    """Return a translator of maps.

    Args:
        translator: a name of ``TRANSLATORS``, or a mapping of ``name`` and arguments: ``filters`` and ``depth``, and
            ``mlp_ratio`` and ``drop_path`` of those whose blocks have MLPs, as in ``Chain`` and ``IncepU``.
        channels: of the maps.
        dtype: of the layers.

    Raises:
        InputError: an unknown name or argument, or a refused value.
    """
    own = {"name": translator} if isinstance(translator, str) else dict(translator)
    name = own.pop("name", None)
    require_choice("translator", name, TRANSLATORS)
    block = BLOCKS.get(name)
    known = ["filters", "depth", *(["mlp_ratio", "drop_path"] if block is not None and block.branches else [])]
    for key in own:
        if key not in known:
            raise InputError(f"translator {name} has no argument {key!r}; {did_you_mean(key, known, 'it takes')}")
    common = {"name": "translator", "dtype": dtype}
    try:
        return IncepU(channels, **own, **common) if block is None else Chain(block, channels, **own, **common)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"translator {name} cannot be made with {own}: {str(error).splitlines()[0]}") from None
