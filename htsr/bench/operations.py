"""Count the multiplications and additions of matrix products and convolutions, which models spend their time with."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import tensorflow as tf

CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
COUNTED = (*CONVOLUTIONS, "MatMul", "BatchMatMul")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def counted(function: Callable[..., Any], *tensors: tf.Tensor) -> dict[str, int]:
    """Trace a function of tensors of static shapes, and count what running it computes.

    Loops count as often as they run, of two branches the costlier one.

    Returns:
        Floating-point operations of ``products`` of matrices and of ``convolutions``, a multiplication and an addition
        being two; nothing where shapes or lengths of loops are not known before it runs.
    """
    graph = tf.function(function, autograph=False).get_concrete_function(*tensors).graph
    try:
        return {"products": 0, "convolutions": 0, **_of_graph(graph)}
    except _Unknown:
        return {}


class _Unknown(Exception):
    """A shape or a length is not known."""


def _of_graph(graph) -> Counter:
    total: Counter = Counter()
    for operation in graph.get_operations():
        kind = operation.type.removeprefix("Stateless")
        tensors = [*operation.inputs, *operation.outputs] if kind.startswith(COUNTED) else []
        if not all(tensor.shape.is_fully_defined() for tensor in tensors):
            raise _Unknown
        if kind.startswith(CONVOLUTIONS):
            total["convolutions"] += 2 * _of_convolution(operation)
        elif kind == "MatMul" or kind.startswith("BatchMatMul"):
            turned = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
            summed = operation.inputs[0].shape[-2 if turned else -1]
            total["products"] += 2 * math.prod(operation.outputs[0].shape) * summed
        elif kind == "While" and (body := _of_function(operation, "body")):
            times = _times(operation)
            total.update({name: times * number for name, number in body.items()})
        elif kind == "If":
            branches = [_of_function(operation, name) for name in ("then_branch", "else_branch")]
            total.update(max(branches, key=Counter.total))
        elif kind in _CALLS:
            total.update(_of_function(operation, "f"))
    return total


def _of_convolution(operation) -> int:
    """Every value of the map is a sum of as many products as the filters have weights for it; so are both gradients."""
    given, made = ([tensor.shape for tensor in tensors] for tensors in (operation.inputs, operation.outputs))
    filters = made[0] if "BackpropFilter" in operation.type else given[1]
    values = given[2] if "Backprop" in operation.type else made[0]
    maps = filters[-1] * (filters[-2] if operation.type.startswith("Depthwise") else 1)
    return math.prod(filters) * math.prod(values) // maps


def _of_function(operation, attribute: str) -> Counter:
    return _of_graph(operation.graph._get_function(operation.get_attr(attribute).name).graph)


def _times(loop) -> int:
    """Return how often a loop runs: as its maximum says; that of a gradient is the count of the loop it goes back."""
    most = loop.inputs[1]
    if most.op.type.endswith("While"):
        return _times(most.op)
    times = tf.get_static_value(most)
    if times is None or times < 0:
        raise _Unknown
    return int(times)
