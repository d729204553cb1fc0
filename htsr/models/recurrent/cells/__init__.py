"""The cells of recurrent models by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from htsr.checks import did_you_mean, require_choice, require_int
from htsr.errors import InputError
from htsr.layers.conv_lstm import ConvLSTMCell
from htsr.models.recurrent.cells.causal_lstm import CausalLSTMCell
from htsr.models.recurrent.cells.cms_lstm import CMSLSTMCell
from htsr.models.recurrent.cells.gmg import GMGCell, motionrnn_cell
from htsr.models.recurrent.cells.mau import MAUCell
from htsr.models.recurrent.cells.mim import MIMCell
from htsr.models.recurrent.cells.sa_conv_lstm import SAConvLSTMCell
from htsr.models.recurrent.cells.st_lstm import STLSTMCell
from htsr.models.swin_lstm.cell import SwinLSTMCell

CELLS: dict[str, Callable[..., keras.layers.Layer]] = {
    "cms_lstm": CMSLSTMCell,
    "conv_lstm": ConvLSTMCell,
    "st_lstm": STLSTMCell,  # PredRNN
    "sa_conv_lstm": SAConvLSTMCell,
    "causal_lstm": CausalLSTMCell,  # PredRNN++
    "mim": MIMCell,
    "mau": MAUCell,
    "swin_lstm": SwinLSTMCell,
    "motionrnn": motionrnn_cell,
    "gmg": GMGCell,
}

# Arguments of cells that a layer's place in the stack decides: of its index, and how many layers there are.
_PLACES: dict[str, Callable[[int, int], bool]] = {
    "motion": lambda layer, layers: layer < layers - 1,  # it is between layers
    "highway": lambda layer, layers: layer == 1,
    "first": lambda layer, layers: layer == 0,
}
_SET_BY_MODEL = ("filters", "kernel_size", "layer_norm", *_PLACES, "decoupled", "focus", "cell", "kwargs")


def make_cells(
    cell: str | Mapping[str, Any],
    filters: Sequence[int],
    kernel_size: int,
    layer_norm: bool,
    dtype: str,
    decoupled: bool = False,
) -> list[keras.layers.Layer]:
    """Return the cells of a stack, one a layer.

    Args:
        cell: a name of ``CELLS``, or a mapping of ``name`` and arguments of that cell. ``ce``, the half-steps of a
            ``ContextEmbedding`` before it, and ``se``, the scales of a ``SpatiotemporalExpression`` behind it, are
            taken with any cell: 5 and [1, 2, 4] by default in ``cms_lstm``, 0 and [] (no block) in the others.
        filters: of the layers, first layer first.
        kernel_size, layer_norm: of blocks, and of cells that have such arguments.
        dtype: of cells and blocks.
        decoupled: of the cells, which must have such an argument.

    Raises:
        InputError: an unknown name or argument, a refused value, or layers that do not fit each other.
    """
    own = {"name": cell} if isinstance(cell, str) else dict(cell)
    name = own.pop("name", None)
    require_choice("cell", name, CELLS)
    parameters = inspect.signature(CELLS[name]).parameters
    known = [key for key in dict.fromkeys([*parameters, "ce", "se"]) if key not in _SET_BY_MODEL]
    for key in own:
        if key not in known:
            raise InputError(f"cell {name} has no argument {key!r}; {did_you_mean(key, known, 'it takes')}")
    require_int("ce", own.get("ce", 0), 0)
    placed = {key: place for key, place in _PLACES.items() if key in parameters}
    if placed and len(filters) < 2:
        raise InputError(f"{name} needs at least two layers, received filters {list(filters)}")
    if decoupled:
        if "decoupled" not in parameters:
            raise InputError(f"cell {name} has nothing to decouple; set model.decoupling to 0, or take st_lstm")
        own["decoupled"] = True
    blocks = {} if name == "cms_lstm" else {key: own.pop(key) for key in ("ce", "se") if key in own}
    common = {"kernel_size": kernel_size, "layer_norm": layer_norm, "dtype": dtype}
    cells = []
    for i, size in enumerate(filters):
        own |= {key: place(i, len(filters)) for key, place in placed.items()}
        try:
            given = {key: value for key, value in common.items() if key in (*parameters, "dtype")}
            made = CELLS[name](size, **own, **given, name=f"cell{i}")
            if any(blocks.values()):
                if not {"hidden", "cell"} <= set(made.state_type._fields):
                    raise InputError(f"cell {name} has no hidden and cell state for ce and se; leave them out")
                made = CMSLSTMCell(size, **{"ce": 0, "se": ()} | blocks, cell=made, **common, name=f"cell{i}_blocks")
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"cell {name} cannot be made with {own | blocks}: {str(error).splitlines()[0]}") from None
        cells.append(made)
    if cells[0].handed and len(set(filters)) > 1:
        raise InputError(
            f"{name} hands its memory from layer to layer; filters must be equal, received {list(filters)}"
        )
    return cells
