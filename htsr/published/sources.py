"""The published code that weights can come from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from htsr.published import (
    clockwork,
    cms_lstm,
    crevnet,
    ddpae,
    fc_lstm,
    gmg,
    lmc_memory,
    openstl,
    pde_driven,
    phydnet,
    simvp,
    st_resnet,
    swin_lstm,
    wast,
)
from htsr.published.layouts import Pairs
from htsr.published.readers.state_dict import read_state_dict
from htsr.published.readers.tensors import Contents
from htsr.published.readers.tf1 import read_checkpoint

Settings = Mapping[str, Any]


def _nothing(contents: Contents, certain: Settings) -> dict[str, Any]:
    del contents, certain
    return {}


class Source(NamedTuple):
    """One of them.

    Attributes:
        what: in words, for the card.
        model: the name of our model.
        read: reads a file: from its path, ``signature`` and the source's name.
        signature: names that all of its weights have.
        pairs: our variables and how they are made.
        infer: the model's arguments that weights settle, given those that were set.
        published: arguments of the model as published, which weights do not show; ``cell.<key>`` is one of its cell.
        training: ``batch_size``, ``learning_rate``, ``horizon`` as published, where ``published`` has the ``context``.
        fixed: keys of ``published`` without which the weights are another model's: nothing may contradict them.
        kept: keys of ``published`` that no config changes, only ``--set``: arithmetic of the released code.
        unread: pattern of names that are in the files and that nothing reads.
        guess: arguments of the model where all else is silent, given those that are certain.
        original_config: the original's own config in our words, by section.
        slots: whether the files may hold Adam's.
    """

    what: str
    model: str
    read: Callable[[Path, tuple[str, ...], str], Contents]
    signature: tuple[str, ...]
    pairs: Callable[[Any], Pairs]
    infer: Callable[[Contents, Settings], dict[str, Any]]
    published: Settings
    training: Settings
    fixed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unread: str = ""
    guess: Callable[[Contents, Settings], dict[str, Any]] = _nothing
    original_config: Callable[[Settings], dict[str, dict[str, Any]]] = lambda settings: {}
    slots: bool = False


def _clockwork(what: str, published: Settings, learning_rate: float) -> Source:
    training = {"batch_size": 50, "learning_rate": learning_rate, "context": 36, "horizon": 300, "epsilon": 1e-4}
    fixed, original = tuple(clockwork.CWVAE), clockwork.original_config
    return Source(
        what, "htsr", read_checkpoint, clockwork.SIGNATURE, clockwork.pairs, clockwork.infer, published, training,
        fixed, unread=clockwork.UNREAD, original_config=original, slots=True,
    )  # fmt: skip


def _recurrent(
    what: str, signature, pairs, published: Settings, rate: float, unread: str, infer=openstl.infer, guess=openstl.guess
) -> Source:
    training = {"batch_size": 16, "learning_rate": rate, "context": 10, "horizon": 10, "epsilon": 1e-8}
    kept = tuple(key for key in ("cell.offsets", "cell.trend_decay") if key in published)
    return Source(
        what, "recurrent", read_state_dict, signature, pairs, infer, published, training,
        ("cell", "embed", "patch_order"), kept, unread, guess,
    )  # fmt: skip


def _swin_lstm(form: str, signature: tuple[str, ...], pairs: Callable[[Any], Pairs]) -> Source:
    return Source(
        f"SwinLSTM-{form} (arXiv 2308.09891), the authors' code or OpenSTL's",
        "swin_lstm", read_state_dict, signature, pairs, swin_lstm.infer, swin_lstm.PUBLISHED,
        {"batch_size": 16, "learning_rate": 1e-4, "horizon": 10, "epsilon": 1e-8},
        unread=swin_lstm.UNREAD, guess=swin_lstm.guess,
    )  # fmt: skip


_HTSR = {name: "residual" if name == "posterior" else True for name in clockwork.CWVAE}
_OPENSTL = openstl.PUBLISHED

SOURCES: dict[str, Source] = {
    "htsr": _clockwork("HTSR, a checkpoint of the authors' program (TensorFlow 1)", _HTSR, 1e-4),
    "cwvae": _clockwork(
        "Clockwork VAE (arXiv 2102.09532), a checkpoint of the authors' program (TensorFlow 1)", clockwork.CWVAE, 3e-4
    ),
    "cms_lstm": _recurrent(
        "CMS-LSTM (arXiv 2102.03586), the authors' code",
        cms_lstm.SIGNATURE, cms_lstm.pairs, cms_lstm.PUBLISHED, 1e-3, cms_lstm.UNREAD, cms_lstm.infer,
        _nothing,
    ),
    "conv_lstm": _recurrent(
        "ConvLSTM (arXiv 1506.04214), OpenSTL's code",
        openstl.SIGNATURE, openstl.conv_lstm_pairs, {**_OPENSTL, "cell": "conv_lstm"}, 5e-4, openstl.CONVLSTM_UNREAD,
    ),
    "predrnn": _recurrent(
        "PredRNN (NeurIPS 2017), OpenSTL's code",
        openstl.PREDRNN_SIGNATURE, openstl.predrnn_pairs, {**_OPENSTL, "cell": "st_lstm"}, 5e-4, openstl.PREDRNN_UNREAD,
    ),
    "predrnnv2": _recurrent(
        "PredRNN-V2 (arXiv 2103.09504), OpenSTL's code",
        openstl.PREDRNNV2_SIGNATURE, openstl.predrnnv2_pairs, openstl.PREDRNNV2, 5e-4, "",
    ),
    "predrnnpp": _recurrent(
        "PredRNN++ (arXiv 1804.06300), OpenSTL's code",
        openstl.PREDRNNPP_SIGNATURE, openstl.predrnnpp_pairs, {**_OPENSTL, "cell": "causal_lstm"}, 1e-4,
        openstl.PREDRNNPP_UNREAD,
    ),
    "mim": _recurrent(
        "MIM (arXiv 1811.07490), OpenSTL's code",
        openstl.MIM_SIGNATURE, openstl.mim_pairs, openstl.MIM, 5e-4, openstl.MIM_UNREAD, openstl.infer_mim,
    ),
    "mau": _recurrent(
        "MAU (NeurIPS 2021), OpenSTL's code",
        openstl.MAU_SIGNATURE, openstl.mau_pairs, openstl.MAU, 1e-3, openstl.MAU_UNREAD, openstl.infer_mau, _nothing,
    ),
    "swin_lstm": _swin_lstm("D", swin_lstm.SIGNATURE, swin_lstm.pairs),
    "swin_lstm_b": _swin_lstm("B", swin_lstm.B_SIGNATURE, swin_lstm.b_pairs),
    "phydnet": Source(
        "PhyDNet (arXiv 2003.01460), the authors' code or OpenSTL's",
        "phydnet", read_state_dict, phydnet.SIGNATURE, phydnet.pairs, phydnet.infer, phydnet.PUBLISHED,
        {"batch_size": 16, "learning_rate": 1e-3, "horizon": 10, "epsilon": 1e-8},
        unread=phydnet.UNREAD, guess=phydnet.guess,
    ),
    "simvp": Source(
        "SimVP (arXiv 2206.05099) with any of its translators, such as TAU, OpenSTL's code",
        "simvp", read_state_dict, simvp.SIGNATURE, simvp.pairs, simvp.infer, {},
        {"batch_size": 16, "learning_rate": 1e-3, "horizon": 10, "epsilon": 1e-8},
        unread=simvp.UNREAD, guess=simvp.guess,
    ),
    "wast": Source(
        "WaST (AAAI 2024), OpenSTL's code",
        "wast", read_state_dict, wast.SIGNATURE, wast.pairs, wast.infer, {},
        {"batch_size": 16, "learning_rate": 1e-3, "horizon": 4, "epsilon": 1e-8},
        unread=wast.UNREAD, guess=wast.guess,
    ),
    "st_resnet": Source(
        "ST-ResNet (arXiv 1610.00081), in PyTorch",
        "st_resnet", read_state_dict, st_resnet.SIGNATURE, st_resnet.pairs, st_resnet.infer, st_resnet.PUBLISHED,
        {"batch_size": 32, "learning_rate": 2e-4, "context": 336, "horizon": 1, "epsilon": 1e-8},
    ),
    "ddpae": Source(
        "DDPAE (arXiv 1806.04166), the authors' code",
        "ddpae", read_state_dict, ddpae.SIGNATURE, ddpae.pairs, ddpae.infer, ddpae.PUBLISHED,
        {"batch_size": 64, "learning_rate": 1e-3, "horizon": 10, "epsilon": 1e-8}, unread=ddpae.UNREAD,
    ),
    "e3d_lstm": Source(
        "E3D-LSTM (ICLR 2019), OpenSTL's code",
        "e3d_lstm", read_state_dict, openstl.E3D_SIGNATURE, openstl.e3d_pairs, openstl.infer_e3d, openstl.E3D,
        {"batch_size": 16, "learning_rate": 1e-4, "horizon": 10, "epsilon": 1e-8},
        kept=("remember",), unread=openstl.E3D_UNREAD,
    ),
    "fc_lstm": Source(
        "FC-LSTM (arXiv 1502.04681), of PyTorch's LSTMs",
        "fc_lstm", read_state_dict, fc_lstm.SIGNATURE, fc_lstm.pairs, fc_lstm.infer, fc_lstm.PUBLISHED,
        {"batch_size": 80, "learning_rate": 1e-4, "horizon": 10, "epsilon": 1e-8}, guess=fc_lstm.guess,
    ),
    "crevnet": Source(
        "CrevNet (arXiv 1910.08853), the authors' code",
        "crevnet", read_state_dict, crevnet.SIGNATURE, crevnet.pairs, crevnet.infer, {},
        {"batch_size": 16, "learning_rate": 5e-4, "context": 8, "horizon": 10, "epsilon": 1e-8},
        unread=crevnet.UNREAD, guess=crevnet.guess,
    ),
    "pde_driven": Source(
        "PDE-driven disentanglement (arXiv 2008.01352), the authors' code",
        "pde_driven", read_state_dict, pde_driven.SIGNATURE, pde_driven.pairs, pde_driven.infer, pde_driven.PUBLISHED,
        {"batch_size": 128, "learning_rate": 4e-4, "horizon": 10, "epsilon": 1e-8},
        unread=pde_driven.UNREAD, guess=pde_driven.guess,
    ),
    "motionrnn": _recurrent(
        "MotionRNN (arXiv 2103.02243), the code of GMG", gmg.SIGNATURE, gmg.pairs, gmg.MOTIONRNN, 3e-4, ""
    ),
    "gmg": _recurrent(
        "GMG (arXiv 2503.11297), the authors' code",
        gmg.GMG_SIGNATURE, gmg.pairs, gmg.GMG, 3e-4, gmg.UNREAD_DECAY, gmg.infer,
    ),
    "lmc_memory": Source(
        "LMC-Memory (arXiv 2104.00924), the authors' code",
        "lmc_memory", read_state_dict, lmc_memory.SIGNATURE, lmc_memory.pairs, lmc_memory.infer, lmc_memory.PUBLISHED,
        {"batch_size": 8, "learning_rate": 2e-4, "context": 10, "horizon": 30, "epsilon": 1e-8},
        guess=lmc_memory.guess,
    ),
}  # fmt: skip
