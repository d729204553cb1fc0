"""The models by name."""

import htsr.keras_settings  # noqa: F401
from htsr.checks import did_you_mean
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.models.crevnet.model import CrevNet
from htsr.models.ddpae.model import DDPAE
from htsr.models.e3d_lstm.model import E3DLSTM
from htsr.models.fc_lstm import FCLSTM
from htsr.models.htsr.model import HTSR
from htsr.models.lmc_memory.model import LMCMemory
from htsr.models.pde_driven.model import PDEDriven
from htsr.models.phydnet.model import PhyDNet
from htsr.models.recurrent.model import RecurrentPredictor
from htsr.models.simvp.model import SimVP
from htsr.models.st_resnet import STResNet
from htsr.models.swin_lstm.model import SwinLSTM
from htsr.models.wast.model import WaST

MODELS: dict[str, type[VideoModel]] = {
    "htsr": HTSR,
    "recurrent": RecurrentPredictor,
    "lmc_memory": LMCMemory,
    "simvp": SimVP,
    "swin_lstm": SwinLSTM,
    "phydnet": PhyDNet,
    "e3d_lstm": E3DLSTM,
    "fc_lstm": FCLSTM,
    "wast": WaST,
    "st_resnet": STResNet,
    "ddpae": DDPAE,
    "crevnet": CrevNet,
    "pde_driven": PDEDriven,
}


def build_model(name: str, **arguments) -> VideoModel:
    """A model with fresh weights.

    Args:
        name: a key of ``MODELS``.
        **arguments: the constructor's.

    Raises:
        InputError: for an unknown name or a refused argument.
    """
    if name not in MODELS:
        raise InputError(f"model.name: no model is called {name!r}; {did_you_mean(name, MODELS)}")
    model = MODELS[name](**arguments)
    model.build((None, None, *model.frame_shape))
    return model
