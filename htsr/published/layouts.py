"""Our variables as functions of arrays in the layout of the original code.

PyTorch puts channels first and kernels as (out, in, ...), transposed convolutions as (in, out, ...); ours are
(..., in, out) and (..., out, in).
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np


class Recipe(NamedTuple):
    """How a variable is made: of arrays of these names, converted together. Linear, so it holds for gradients too."""

    names: tuple[str, ...]
    convert: Callable[..., np.ndarray]

    def __call__(self, array: Callable[[str], np.ndarray]) -> np.ndarray:
        """The variable's value, given what finds an array by its name."""
        return self.convert(*(array(name) for name in self.names))


Pairs = list[tuple[Any, Recipe]]  # of variables and recipes


def same(name: str) -> Recipe:
    """The array as it is."""
    return Recipe((name,), lambda a: a)


def kernel(*names: str) -> Recipe:
    """Kernels of layers side by side: dense, of a convolution in two or three dimensions, or of a transposed one that
    stays one."""
    return Recipe(tuple(f"{n}.weight" for n in names), _side_by_side(_swapped))


def bias(*names: str) -> Recipe:
    """Biases of layers side by side."""
    return Recipe(tuple(f"{n}.bias" for n in names), _side_by_side(lambda a: a))


def transposed_as_plain(name: str) -> Recipe:
    """The kernel (in, out, height, width) of a transposed convolution, as that of a plain one."""
    return Recipe((f"{name}.weight",), lambda a: a.transpose(2, 3, 0, 1)[::-1, ::-1])


def channels_last(name: str) -> Recipe:
    """A weight for every element of a map (channel, row, column), as of a layer normalisation."""
    return Recipe((name,), lambda a: a.transpose(1, 2, 0))


def scalars(*names: str) -> Recipe:
    """Numbers as a vector."""
    return Recipe(names, lambda *arrays: np.stack([a.reshape(()) for a in arrays]))


def layer_pairs(layer, *names: str) -> Pairs:
    """Kernel and bias of a convolution or a dense layer that is several of the original's, side by side."""
    return [(layer.kernel, kernel(*names)), *([(layer.bias, bias(*names))] if layer.use_bias else [])]


def norm_pairs(layer, name: str) -> Pairs:
    """Of a ``MapNormalisation``."""
    return [(layer.gamma, channels_last(f"{name}.weight")), (layer.beta, channels_last(f"{name}.bias"))]


def vector_norm_pairs(layer, name: str) -> Pairs:
    """Of a normalisation with a weight and a bias per channel."""
    return [(layer.gamma, same(f"{name}.weight")), (layer.beta, same(f"{name}.bias"))]


def normalised_pairs(layer, name: str) -> Pairs:
    """Of a ``NormalisedConv``, in the original a sequence of a convolution and, where there is one, a normalisation."""
    pairs = layer_pairs(layer.conv, f"{name}.0")
    return pairs if layer.norm is None else pairs + norm_pairs(layer.norm, f"{name}.1")


def _swapped(array: np.ndarray) -> np.ndarray:
    """(a, b, ...) to (..., b, a)."""
    return array.transpose(*range(2, array.ndim), 1, 0)


def _side_by_side(convert: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda *arrays: np.concatenate([convert(a) for a in arrays], -1)


def names_of(pairs: Iterable[tuple[Any, Recipe]]) -> list[str]:
    """The names that recipes need, each once."""
    return list(dict.fromkeys(name for _, recipe in pairs for name in recipe.names))
