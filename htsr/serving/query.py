"""Arguments in an address: known names, once each, whole numbers in bounds or one of some words."""

from collections.abc import Iterable, Mapping
from typing import Any

from htsr.checks import did_you_mean
from htsr.serving.limits import Refusal


def read_query(
    items: Iterable[tuple[str, str]],
    numbers: Mapping[str, tuple[int, int, int | None]],
    words: Mapping[str, tuple[tuple[str, ...], str]],
) -> dict[str, Any]:
    """Check what was given; the rest is default.

    Args:
        items: names and values.
        numbers: name -> least, most, default.
        words: name -> choices, default.

    Raises:
        Refusal: 400, or 413 for a number that is too large.
    """
    values: dict[str, Any] = {name: last for name, (*_, last) in [*numbers.items(), *words.items()]}
    given = set()
    for name, text in items:
        if name not in values:
            raise Refusal(400, f"unknown argument {_shown(name)}; {did_you_mean(name, values, 'there are')}")
        if name in given:
            raise Refusal(400, f"{name} is given twice; give it once")
        given.add(name)
        values[name] = _number(name, text, *numbers[name][:2]) if name in numbers else _word(name, text, words[name][0])
    return values


def _number(name: str, text: str, least: int, most: int) -> int:
    whole = text.removeprefix("-")
    if not (whole.isascii() and whole.isdecimal()):
        raise Refusal(400, f"{name} must be a whole number, {least} to {most}, received {_shown(text)}")
    value = int(text) if len(text) < 20 else (-1 if text[0] == "-" else most + 1)
    if not least <= value <= most:
        raise Refusal(413 if value > most else 400, f"{name} must be {least} to {most}, received {_shown(text)}")
    return value


def _word(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise Refusal(400, f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, received {_shown(text)}")
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 50 else text[:50] + "...")
