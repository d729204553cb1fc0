"""The order of numbered pictures: of a folder, an archive, a radar sequence. Doubtful ones are refused by name.

A number may have a sign and a fraction (``step_-6``, ``u_0.25``, ``t_1e-05``) where all names read that way. Several
numbers count from the left, the first one slowest; where that decides anything, the remark shows the order.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import NamedTuple

_WHOLE = re.compile(r"(\d+)")
_DECIMAL = re.compile(
    r"((?<![\d.])\d+(?:\.\d+)?(?:e[-+]\d{1,3})?(?![\d.]*\d))"
)  # and no part of 2024.01.31 or 10.0.0.1
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}


class Doubtful(ValueError):
    """Names that no order can be read from; the message completes "the folder …"."""


class Order(NamedTuple):
    """Names in their order, their numbers where one alone tells it, and what is remarkable about it, or None."""

    names: list[str]
    numbers: list[Decimal] | None
    remark: str | None


def in_order(names: Sequence[str]) -> Order:
    """Return the names of pictures, ``frame_10`` after ``frame_9``.

    Raises:
        Doubtful: there are pictures of two kinds, names of two kinds, or two pictures of one number.
    """
    names = sorted(names)
    kinds: dict[str, str] = {}
    for name in names:
        suffix = PurePath(name).suffix.lower()
        kinds.setdefault(_SAME.get(suffix, suffix), name)
    if len(kinds) > 1:
        raise Doubtful(f"holds {_and(kinds)} files, such as {_and(kinds.values())}; put each kind into its own folder")
    stems = [PurePath(name).stem.lower() for name in names]
    if len(names) < 2 or not any(map(_WHOLE.search, stems)):
        return Order(names, None, _shown(names) if len(names) > 1 else None)
    read = _columns(stems, _DECIMAL) or _columns(stems, _WHOLE)
    if read is None:
        patterns: dict[str, str] = {}
        for name, stem in zip(names, stems, strict=True):
            patterns.setdefault(_WHOLE.sub("#", stem), name)
        pair = _and(list(patterns.values())[:2])
        raise Doubtful(f"holds names of {len(patterns)} kinds, such as {pair}; put each sequence into its own folder")
    rows, plain = read
    order = sorted(range(len(names)), key=rows.__getitem__)
    for one, other in itertools.pairwise(order):
        if rows[one] == rows[other]:
            raise Doubtful(f"has two files of the same number, {names[one]} and {names[other]}; rename or remove one")
    names, rows = [names[index] for index in order], [rows[index] for index in order]
    varying = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    if len(varying) > 1:
        together = all(list(column) == sorted(column) for column in varying)
        return Order(names, None, None if together and plain else _shown(names))
    remarks = [None if plain else _shown(names), _jumps(names, varying[0])]
    return Order(names, list(varying[0]), "; ".join(filter(None, remarks)) or None)


def _columns(stems: Sequence[str], number: re.Pattern[str]) -> tuple[list[tuple[Decimal, ...]], bool] | None:
    """The numbers of each name, and whether all are plain whole ones; None where the names are not of one kind."""
    parts = [number.split(stem) for stem in stems]
    if len({len(part) for part in parts}) > 1 or len({part[-1] for part in parts}) > 1:
        return None
    columns, plain = [], True
    for at in range(1, len(parts[0]), 2):
        texts, numbers = [part[at - 1] for part in parts], [part[at] for part in parts]
        signs = [""] * len(texts)
        if len(set(texts)) > 1:
            signs = [text[-1:] if text[-1:] in ("-", "+") else "" for text in texts]
            if len({text.removesuffix(sign) for text, sign in zip(texts, signs, strict=True)}) > 1:
                return None
        elif texts[0].endswith(("_-", "=-", "(-")) or (at == 1 and texts[0] == "-"):  # frame-1 has no sign
            signs = ["-"] * len(texts)
        fractions = {text.partition("e")[0].partition(".")[2] for text in numbers}
        if len({len(fraction) for fraction in fractions}) > 1 and any(f[1:].endswith("0") for f in fractions):
            return None  # 1.9 and 1.10: two whole numbers
        plain = plain and fractions == {""} and not any(signs)
        columns.append([Decimal(sign + text) for sign, text in zip(signs, numbers, strict=True)])
    return list(zip(*columns, strict=True)), plain


def _jumps(names: Sequence[str], numbers: Sequence[Decimal]) -> str | None:
    """Where numbers are missing, in words."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    usual, times = Counter(steps).most_common(1)[0]
    jumps = [number for number, step in enumerate(steps) if step > usual]
    if times <= len(steps) // 2 or not jumps:
        return None
    more = f", and {len(jumps) - 1} times more" if len(jumps) > 1 else ""
    return f"jumps from {names[jumps[0]]} to {names[jumps[0] + 1]}{more}"


def _shown(names: Sequence[str]) -> str:
    return (
        f"is in the order {names[0]}, {names[1]}, … {names[-1]}" if len(names) > 2 else f"is in the order {_and(names)}"
    )


def _and(words) -> str:
    return " and ".join(words)
