"""Names of HTSR's and Clockwork VAE's variables in checkpoints of the original programs (TensorFlow 1).

They are the automatic names of Keras layers, numbered in the order the original builds them: frame encoder, dense
stacks, cells from the slowest level down, frame decoder.
"""

import collections
import re
from collections.abc import Mapping
from typing import Any

from htsr.errors import InputError
from htsr.published.layouts import Pairs, same
from htsr.published.readers.tensors import Contents, Tensor, axis

SIGNATURE = ("encoder_convdense/conv2d/kernel", "decoder_conv/conv2d_transpose/kernel")
UNREAD = r"step|optimizer/.*"
CWVAE = {
    "encoder_residual": False,
    "decoder_residual": False,
    "dense_residual": False,
    "top_down_residual": False,
    "posterior": "independent",
}

# Keys of the original's config that are arguments of the model; null there is our default.
_ARGUMENTS = {
    "tmp_abs_factor": "temporal_factor",
    "dec_stddev": "frame_stddev",
    "cell_min_stddev": "min_stddev",
    "beta": "beta",
    "free_nats": "free_nats",
    "kl_grad_post_perc": "kl_balance",
}
_DATA = {"mmnist": "moving_mnist", "moving_mnist": "moving_mnist", "mazes": "mazes", "gqn_mazes": "mazes", "kth": "kth"}


def pairs(model) -> Pairs:
    """The variables of an ``HTSR`` model, and where they are."""
    counts: collections.Counter[str] = collections.Counter()
    found: Pairs = []

    def numbered(kind: str) -> str:
        counts[kind] += 1
        return kind if counts[kind] == 1 else f"{kind}_{counts[kind] - 1}"

    def add(scope: str, kind: str, *layers) -> None:
        for layer in layers:
            prefix = f"{scope}/{numbered(kind)}"
            found.extend((variable, same(f"{prefix}/{variable.name}")) for variable in layer.weights)

    def add_residual(scope: str, cell) -> None:
        for conv in (cell.conv_a, cell.conv_b):
            add(f"{scope}/{numbered('nvae_conv2d')}", "conv2d", conv)
        add(f"{scope}/{numbered('squeeze_excite_layer')}", "dense", cell.squeeze, cell.excite)

    encoder, decoder = model.encoder, model.decoder
    add("encoder_convdense", "conv2d", encoder.convs[0])
    if encoder.residual:
        add_residual("encoder_convdense/resdual_cell_encoder_0", encoder.residual_cell)
    add("encoder_convdense", "conv2d", *encoder.convs[1:])
    for stack in model.stacks:
        add("encoder_convdense", "dense", *stack)
    for i, level in enumerate(reversed(range(model.levels))):
        cell, scope = model.cells[level], f"scan{f'_{i}' if i else ''}/while/cell_{level}"
        if cell.top_down_layer is not None:
            add(scope, "dense", cell.top_down_layer)
        add(scope, "dense", cell.prior_in, cell.prior_hidden, cell.prior_mean, cell.prior_stddev)
        for name in ("kernel", "recurrent_kernel", "bias"):
            gru = f"{scope}/gru_cell{f'_{level}' if level else ''}"
            found.append((getattr(cell, f"gru_{name}"), same(f"{gru}/{name}")))
        add(f"{scope}_1", "dense", cell.post_in, cell.post_hidden, cell.post_mean, cell.post_stddev)
    add("decoder_conv", "dense", decoder.dense)
    add("decoder_conv", "conv2d_transpose", *decoder.convs)
    if decoder.residual:
        add_residual("decoder_conv/resdual_cell_decoder_0", decoder.residual_cell)
    return found


def slot_names(recipe) -> tuple[str, str]:
    """Adam's first and second moment of a variable."""
    (name,) = recipe.names
    return f"optimizer/Adam/{name}/m", f"optimizer/Adam/{name}/v"


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model."""
    del given
    tensors = contents.tensors
    if contents.settings.get("cell_reset_state"):
        raise InputError("cell_reset_state is on in the original's config; models that reset states are not supported")
    levels = len({match[1] for name in tensors if (match := re.match(r"scan(?:_\d+)?/while/cell_(\d+)_1/", name))})
    gru = f"scan{f'_{levels - 1}' if levels > 1 else ''}/while/cell_0/gru_cell"
    units, deter = axis(tensors, f"{gru}/kernel", 0), axis(tensors, f"{gru}/recurrent_kernel", 0)
    head = _denses(tensors, "decoder_conv")
    if len(head) != 1:
        raise InputError(f"decoder_conv has {len(head)} dense layers instead of one; check --from")
    stacks = _denses(tensors, "encoder_convdense")
    filters = axis(tensors, SIGNATURE[0], -1)
    multiplier = contents.settings.get("channels_mult")
    if not (isinstance(multiplier, int | float) and 0 <= 32 * multiplier - filters < 1):  # they are rounded down
        multiplier = filters / 32
    found = {
        "frame_shape": [64, 64, axis(tensors, SIGNATURE[0], 2)],
        "levels": levels,
        "stoch": axis(tensors, head[0], 0) - deter,
        "deter": deter,
        "units": units,
        "channels_mult": float(multiplier),
    }
    if levels > 1:
        found["dense_layers"] = len(stacks) // (levels - 1)
        if found["dense_layers"] > 1:
            found["dense_units"] = axis(tensors, stacks[0], 1)
    return found


def original_config(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The original's config in our words, as far as it has a meaning here."""
    kept = {ours: settings[theirs] for theirs, ours in _ARGUMENTS.items() if settings.get(theirs) is not None}
    dataset, context = settings.get("dataset"), settings.get("open_loop_ctx")
    total = settings.get("eval_seq_len")
    data = {"name": _DATA.get(dataset) if isinstance(dataset, str) else None}
    data |= {name: settings.get(name) for name in ("seq_len", "batch_size")}
    if data["name"] in ("kth", "mazes"):
        data["channels"] = settings.get("channels")
    train = {"learning_rate": settings.get("lr"), "clip_norm": settings.get("clip_grad_norm_by")}
    evaluation = {"context": context, "noise": "mean" if settings.get("cell_mean_only") else None}
    if type(total) is int and type(context) is int and total > context:
        evaluation["horizon"] = total - context
    sections = {"model": kept, "data": data, "train": train, "eval": evaluation}
    return {name: {k: v for k, v in values.items() if v is not None} for name, values in sections.items()}


def _denses(tensors: Mapping[str, Tensor], scope: str) -> list[str]:
    """Kernels of dense layers directly in a scope, in their order."""
    found = {
        int(m[1] or 0): m[0] for name in tensors if (m := re.fullmatch(rf"{scope}/dense(?:_(\d{{1,6}}))?/kernel", name))
    }
    return [found[number] for number in sorted(found)]
