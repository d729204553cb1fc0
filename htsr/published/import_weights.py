"""Weights of published code, read into ordinary run folders of ours.

A weight file is something from the internet. Nothing of it is run: pickles are read opcode by opcode and can make
numbers and texts only (``torch_pickle``). Names, shapes and sizes are held against the model that they imply, which
takes no memory, before an array is read; the model has no more numbers than the file.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from htsr import files
from htsr.config import save_config
from htsr.errors import InputError
from htsr.models import build_model
from htsr.published.clockwork import slot_names
from htsr.published.layouts import Pairs, Recipe, names_of
from htsr.published.readers.state_dict import read_state_dict
from htsr.published.readers.tensors import Contents, few, read_float32
from htsr.published.run_config import settle
from htsr.published.sources import SOURCES, Source
from htsr.runs import checkpoints, environment
from htsr.runs.card import IMPORTED, write_card
from htsr.runs.checkpoints import model_arrays, named_variables
from htsr.training.adam import Adam


def import_weights(
    source: str,
    file: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    overrides: Iterable[str] = (),
    weights: str | None = None,
) -> Path:
    """Read published weights into a run folder, which can be evaluated, predicted with, trained further and exported.

    The model's arguments are read off the weights' names and shapes as far as these settle them. Others are those of
    ``overrides``, ``config``, a config of the original beside the weights, and the published setting, in this order;
    GMG's and MotionRNN's offsets and decay are those of the released code whatever ``config`` says, and only
    ``overrides`` change them. ``imported.json`` in the folder says where each argument is from.

    Args:
        source: whose code wrote the weights, a key of ``htsr.published.sources.SOURCES``.
        file: a file of ``torch.save`` or safetensors; of ``htsr`` and ``cwvae`` the folder of a checkpoint of
            TensorFlow 1, or the path that its files have in common. The authors' ``config.yml`` is looked for above it.
        out: the run folder to create; it appears only when it is complete.
        config: a config of ours, for what the weights do not say and the sections ``data``, ``train`` and ``eval``;
            without one these are made up to fit the model.
        overrides: as ``"eval.horizon=20"``.
        weights: which set, of a PyTorch or safetensors file that holds several (``model``, ``model_ema``).

    Returns:
        The run folder. Its checkpoint is of the step that Adam had done where its slots are imported (``htsr`` and
        ``cwvae``); else of step 0, from which training starts with a new Adam.

    Raises:
        InputError: the file is damaged, hostile or of another model, a key is refused, or ``out`` exists.

    Example:
        ``model = htsr.load_model(htsr.import_weights("cms_lstm", "checkpoint.pth", "logs/imported"))``
    """
    if source not in SOURCES:
        raise InputError(f"source must be one of {', '.join(SOURCES)}, received {source!r}")
    path, out, about = Path(file), Path(out), SOURCES[source]
    if out.exists():
        raise InputError(f"{out} exists; choose another folder to import to, or remove it")
    if weights is not None and about.read is not read_state_dict:
        raise InputError(f"--weights {weights}: a checkpoint of TensorFlow 1 holds one set of weights; leave it out")
    contents = about.read(path, about.signature, source, *([weights] if weights is not None else []))
    if contents.others:
        print(
            f"{path} holds several sets of weights: {contents.chosen} is imported, {', '.join(contents.others)} not;"
            " --weights chooses",
            file=sys.stderr,
        )
    iterations = contents.counters.get("iterations", 0)
    settled = settle(source, about, contents, config, overrides, iterations)
    # Shapes alone: no variable has a value, or memory. StatelessScope is Keras's for functions without side effects.
    with keras.StatelessScope(initialize_variables=False):
        model = build_model(**settled.config["model"])
    recipes = {variable.path: recipe for variable, recipe in about.pairs(model)}
    named = {name: (variable, recipes[variable.path]) for name, variable in named_variables(model).items()}
    unread = _check(source, about, contents, list(named.values()))
    arrays = {name: _value(contents, *made) for name, made in named.items()}
    slots = _slots(settled.config, contents, recipes) if about.slots else {}
    if slots:
        unread = [name for name in unread if not name.endswith(("/m", "/v"))]
    record = {
        "source": source,
        "what": about.what,
        "weights": {"chosen": contents.chosen, "others": list(contents.others)},
        "files": [_file(Path(file)) for file in contents.files],
        "counters": dict(contents.counters),
        "types": sorted({contents.tensors[name].dtype for name in names_of(named.values())}),
        "arguments": settled.origins,
        "optimizer": f"Adam's slots after {iterations} updates" if slots else "not imported: Adam starts anew",
        "variables": {name: list(recipe.names) for name, (_, recipe) in named.items()},
        "unread": _some(unread),
        "left_out": _some(contents.left_out),
    }
    _write(out, settled.config, iterations if slots else 0, {**arrays, **slots}, record)
    return out


def _check(source: str, about: Source, contents: Contents, pairs: Pairs) -> list[str]:
    """Names that the file has and nothing reads, once it is certain that the others are those of the model."""
    tensors, needed = contents.tensors, names_of(pairs)
    missing = [name for name in needed if name not in tensors]
    beside = set(tensors).difference(needed)
    unread = sorted(name for name in beside if re.fullmatch(about.unread, name))
    unknown = sorted(beside.difference(unread))
    path = contents.files[0]
    problems = [f"{few(names)} {what}" for names, what in ((missing, "missing"), (unknown, "unknown")) if names]
    if problems:
        raise InputError(
            f"{path}: these are not the weights of {source} with this config: names {' and '.join(problems)}; check "
            "--from and the config"
        )
    numbers = sum(math.prod(variable.shape) for variable, _ in pairs)
    held = sum(math.prod(tensors[name].shape) for name in needed)
    if numbers > held:  # fewer where a recipe sums arrays; shapes are checked with the values
        raise InputError(
            f"{path}: {source} with this config has {numbers} parameters, but the file has {held} of these names; "
            "check the sizes in --config and --set, or leave them out"
        )
    claimed = sum(tensors[name].num_bytes for name in needed)
    size = sum(Path(file).stat().st_size for file in contents.files)
    if claimed > size:
        raise InputError(
            f"{path}: its tensors are said to have {claimed} bytes, but the file has {size}; it is hostile"
        )
    return unread


def _value(contents: Contents, variable: Any, recipe: Recipe) -> np.ndarray:
    """The value of a variable."""

    def array(name: str) -> np.ndarray:
        return read_float32(name, contents.tensors[name])

    shapes = ", ".join(f"{name} {list(contents.tensors[name].shape)}" for name in recipe.names[:3])
    refused = InputError(
        f"{contents.files[0]}: {shapes} cannot become {variable.path}, which has the shape {list(variable.shape)}; "
        "check --from and the config"
    )
    try:
        value = recipe(array)
    except InputError:
        raise
    except (ValueError, IndexError):  # too few axes, or parts that do not fit together
        raise refused from None
    if value.shape != tuple(variable.shape):
        raise refused
    return np.ascontiguousarray(value)


def _slots(config: Mapping[str, Any], contents: Contents, recipes: Mapping[str, Recipe]) -> dict[str, np.ndarray]:
    """Adam's state as training keeps it; nothing where the file has none, or a schedule keeps other things."""
    iterations = contents.counters.get("iterations", 0)
    wanted = [name for recipe in recipes.values() for name in slot_names(recipe)]
    schedule = (config["train"]["schedule"], config["train"]["warmup_steps"])
    if not iterations or schedule != ("constant", 0) or not all(name in contents.tensors for name in wanted):
        return {}
    model = build_model(**config["model"])
    adam = Adam(config["train"]["learning_rate"], model.frozen_in_passes, name="adam")
    adam.build(model.trainable_variables)
    found = model_arrays(adam, "optimizer")
    found["optimizer/iteration"] = np.asarray(iterations, found["optimizer/iteration"].dtype)
    for path, recipe in recipes.items():
        for name, kind in zip(slot_names(recipe), ("momentum", "velocity"), strict=True):
            slot = read_float32(name, contents.tensors[name])
            ours = f"optimizer/{path.replace('/', '_')}_{kind}"
            if slot.shape != found[ours].shape:
                raise InputError(
                    f"{contents.files[0]}: {name} has the shape {slot.shape} instead of {found[ours].shape}"
                )
            found[ours] = slot
    return found


def _file(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _some(names: Sequence[str]) -> dict[str, Any]:
    """Names of a file, which may be very many."""
    return {"count": len(names), "first": [name[:200] for name in names[:50]]}


def _write(out: Path, config, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """The run folder, whole or not at all."""
    with files.new_folder(out) as folder:
        save_config(config, folder / "config.yml")
        environment.save(folder / "environment.json")
        checkpoints.save(folder / "model", step, arrays)
        (folder / IMPORTED).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_card(folder, out.name)
