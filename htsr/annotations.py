"""Values of a config as the types that a signature asks for."""

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


class Mismatch(Exception):
    """The value is not of the annotated type."""


def convert(value: Any, annotation: Any) -> Any:
    """Return the value as the annotated type or raise ``Mismatch``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, inspect.Parameter.empty):
        return value
    if origin in (typing.Union, types.UnionType):
        for member in arguments:
            try:
                return convert(value, member)
            except Mismatch:
                continue
        raise Mismatch
    if origin is typing.Literal:
        return _require(any(value == choice and type(value) is type(choice) for choice in arguments), value)
    if annotation is float:
        return float(_require(isinstance(value, int | float) and not isinstance(value, bool), value))
    if annotation in (bool, int, str, types.NoneType):
        return _require(type(value) is annotation, value)
    return _convert_container(value, origin or annotation, arguments)


def _convert_container(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if kind is dict or kind is Mapping:
        _require(isinstance(value, dict), value)
        return {key: convert(item, arguments[1] if arguments else Any) for key, item in value.items()}
    if not (isinstance(kind, type) and issubclass(kind, Sequence)):
        raise TypeError(f"a config cannot supply a value of type {kind}")
    _require(isinstance(value, list | tuple), value)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        _require(len(value) == len(arguments), value)
        return tuple(convert(item, argument) for item, argument in zip(value, arguments, strict=True))
    items = [convert(item, arguments[0] if arguments else Any) for item in value]
    return items if kind is list else tuple(items)


def _require(condition: bool, value: Any) -> Any:
    if not condition:
        raise Mismatch
    return value


def describe(annotation: Any) -> str:
    """Return the annotation in words: ``float or None``, ``list of int``, ``one of 'a', 'b'``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return "null" if annotation is types.NoneType else annotation.__name__
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(member) for member in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: " + ", ".join(describe(item) for item in arguments)
    if issubclass(origin, Mapping):
        return f"a mapping to {describe(arguments[1])}"
    return f"a list of {describe(arguments[0])}"


def number_hint(value: Any, annotation: Any) -> str:
    """Return the way out where a number was written as text: quoted, or as 1e-4, which YAML 1.1 reads as text."""
    number = re.fullmatch(r"([+-]?\d+)(\.\d*)?(?:e([+-]?)(\d+))?", value.lower()) if isinstance(value, str) else None
    if not number:
        return ""
    whole, fraction, sign, exponent = number.groups()
    written = value if exponent is None else f"{whole}{fraction or '.0'}e{sign or '+'}{exponent}"
    written = re.sub(r"^([+-]?)0+(?=\d)", r"\1", written)
    try:
        convert(yaml.safe_load(written), annotation)
    except Mismatch:
        return ""
    if exponent is None and written != value:
        return f"; write {written}"
    return (
        f"; write {written} without quotes" if exponent is None else f"; write {written} (YAML reads {value} as text)"
    )


def text_hint(value: Any, annotation: Any) -> str:
    """Return the way out where a text was wanted and YAML read something else."""
    try:
        convert("", annotation)
    except Mismatch:
        return ""
    return "; write a text in quotes: 'text'" if not isinstance(value, str) else ""
