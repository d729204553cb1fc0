"""Finding a model's weights in what a training program saved: among optimisers' states, below wrappers' prefixes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from htsr.checks import did_you_mean
from htsr.errors import InputError
from htsr.published.readers.safetensors_file import is_safetensors, read_safetensors
from htsr.published.readers.tensors import SAVE_AGAIN, Contents, Tensor, few
from htsr.published.readers.torch_file import read_torch

_COUNTERS = ("global_step", "step", "iteration", "iterations", "itr", "epoch")
_MAX_DICTS = 1000


def read_state_dict(path: Path, signature: Sequence[str], source: str, weights: str | None = None) -> Contents:
    """The weights of a model in a PyTorch or safetensors file.

    Weights are the tensors of a dict that hold the signature below one prefix: ``module.`` of ``DataParallel``,
    ``model.`` of Lightning, or whatever else. Of several sets, the first in the order of their names that is no average
    (``ema``) is taken, whatever their order in the file. What is beside them is left out.

    Args:
        path: the file.
        signature: names that every state dict of the source has.
        source: its name, for messages.
        weights: the name of the set to take, where there are several.

    Raises:
        InputError: the file is refused, holds no weights of the source, or none of that name.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of a weight file")
    tree = read_safetensors(path) if is_safetensors(path) else read_torch(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds no dict of tensors; {SAVE_AGAIN}")
    every: list[str] = []
    sets: dict[str, tuple[str, str, dict[str, Tensor]]] = {}
    for where, tensors in _dicts(tree):
        every += [f"{where}{name}" for name in tensors]
        for name in tensors:
            prefix = name.removesuffix(signature[0])
            if name.endswith(signature[0]) and all(prefix + other in tensors for other in signature):
                sets.setdefault((where + prefix).strip("/.") or "the outermost", (where, prefix, tensors))
    if not sets:
        raise InputError(
            f"{path} holds no weights of {source}: they have names such as {' and '.join(signature)}, and it has "
            f"{few(every) if every else 'no tensors'}; check --from"
        )
    if weights is not None and weights not in sets:
        raise InputError(f"{path} holds no set of weights {weights!r}; {did_you_mean(weights, list(sets))}")
    chosen = weights or min(sets, key=lambda name: ("ema" in name.lower() or "averag" in name.lower(), name))
    where, prefix, tensors = sets[chosen]
    found = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
    left_out = [f"{where}{key}" for key in tensors if not key.startswith(prefix)]
    others = sorted(name for name in sets if name != chosen)
    for name in others:
        place, start, beside = sets[name]
        left_out += [f"{place}{key}" for key in beside if key.startswith(start) and place != where]
    return Contents(found, left_out, _counters(tree), {}, [path], chosen if others else None, others)


def _dicts(tree: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors in each dict of a tree of dicts, outer ones first, with the path of the dict."""
    queue, seen = [("", tree)], {id(tree)}
    for where, node in queue:
        yield where, {key: value for key, value in node.items() if isinstance(key, str) and isinstance(value, Tensor)}
        for key, value in node.items():
            if isinstance(key, str) and isinstance(value, dict) and id(value) not in seen and len(seen) < _MAX_DICTS:
                seen.add(id(value))
                queue.append((f"{where}{key[:40]}/", value))


def _counters(tree: Mapping[Any, Any]) -> dict[str, int]:
    return {name: tree[name] for name in _COUNTERS if type(tree.get(name)) is int and 0 <= tree[name] < 2**53}
