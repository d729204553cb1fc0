"""Checks of arguments that every room makes."""

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from htsr.errors import InputError


def require_int(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse anything but an integer of ``least`` … ``most``, or 2**63 - 1, what NumPy holds."""
    highest = 2**63 - 1 if most is None else most
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= highest:
        bounds = f"at least {least}" if most is None else f"{least} … {most}"
        raise InputError(f"{name} must be a whole number of {bounds}, not {value!r}")


def require_choice(what: str, value: Any, known: Collection[str]) -> None:
    """Refuse a name that is not known, and name the nearest one that is."""
    if not isinstance(value, str) or value not in known:
        close = nearest(value, known)
        hint = f"did you mean {close!r}? " if close else ""
        raise InputError(f"unknown {what} {value!r}; {hint}known: {', '.join(known)}")


def did_you_mean(name: Any, known: Collection[str], otherwise: str = "choose one of") -> str:
    """Return the way out of an unknown name: the nearest known one, or all of them."""
    close = nearest(name, known)
    return f"did you mean {close!r}?" if close else f"{otherwise} {', '.join(known)}"


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``name``, or None where none is like it."""
    return next(iter(difflib.get_close_matches(str(name)[:100], list(known), 1, cutoff=0.5)), None)
