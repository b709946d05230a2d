"""From the text of an option to its value, or to the sentence that says what is wrong."""

from __future__ import annotations

import contextlib
import math

from pytest_sparsity.core.errors import SparsityError


def bad(name: str, value: object, fix: str) -> SparsityError:
    """The sentence for a value that an option cannot have."""
    return SparsityError(f"--sparsity-{name} {value!r}: {fix}")


def names(name: str, text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise bad(name, text, "give a comma-separated list without empty entries")
    return tuple(dict.fromkeys(parts))


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """``value``, which must be one of ``known``."""
    if value not in known:
        raise bad(name, value, f"use one of {', '.join(known)}")
    return value


def choices(name: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of a list that must be among ``known``, in the order of those."""
    chosen = tuple(one_of(name, part, known) for part in names(name, text))
    return tuple(part for part in known if part in chosen)


def levels(text: str) -> tuple[float, ...]:
    """The levels of ``--sparsity-levels``, ascending."""
    return tuple(sorted({parse_level(part) for part in names("levels", text)}))


def parse_level(text: str | float, where: str = "--sparsity-levels") -> float:
    """A level from text or number; ``where`` it was given is named in the message.

    Raises:
        SparsityError: it is not a number from 0 to 1.
    """
    try:
        level = float(text)
    except (TypeError, ValueError):
        level = math.nan
    if not 0 <= level <= 1:
        fix = "a level is a fraction from 0 to 1, such as 0.5"
        if text == "natural":
            fix += "; for the natural threshold of a method choose METHOD:natural"
        raise SparsityError(f"{where} {text!r}: {fix}")
    return level


def tolerance(text: str | None) -> float | None:
    """A fraction above 0 and below 1; None if it was not given."""
    if text is None:
        return None
    if text.strip().endswith("%"):
        number = text.strip().removesuffix("%")
        fix = "write a fraction, such as 0.08 for 8 %"
        with contextlib.suppress(ValueError):
            fix = f"write it as a fraction: {float(number) / 100:g}"
        raise bad("tolerance", text, fix)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise bad("tolerance", text, "use a fraction above 0 and below 1, such as 0.08 for 8 %")
    return value


def models(given: list[str]) -> tuple[str, ...]:
    """Names of models, each once."""
    if not all(name.strip() for name in given):
        raise bad("model", "", "name a model, a folder, a GGUF file or a hub id")
    return tuple(dict.fromkeys(name.strip() for name in given))


def layers(text: str) -> tuple[int, int] | None:
    """First and last layer; None for all."""
    if text == "all":
        return None
    first, _, last = text.partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise bad("spon-layers", text, "use all, one layer (7) or a range (0-14)")
    return int(first), int(last)


def whole(name: str, text: str, least: int) -> int:
    """A whole number of at least ``least``."""
    if not text.isdecimal() or int(text) < least:
        raise bad(name, text, f"use a whole number from {least}")
    return int(text)
