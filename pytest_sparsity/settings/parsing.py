"""From the text of an option to its value, or to the sentence that says what is wrong."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError

#: Makes the value from the option's name and its text (the texts of one that is repeatable, the
#: path of a file or folder).
Parse = Callable[[str, Any], Any]


def bad(name: str, value: object, fix: str) -> SparsityError:
    """The sentence for a value that an option cannot have."""
    return SparsityError(f"--sparsity-{name} {value!r}: {fix}")


def as_given(name: str, value: Any) -> Any:
    """The value itself; what can be wrong with it is found where it is used."""
    return value


def names(name: str, text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise bad(name, text, "give a comma-separated list without empty entries")
    return tuple(dict.fromkeys(parts))


def names_or_none(name: str, text: str) -> tuple[str, ...]:
    """Like :func:`names`; ``none`` for no entries."""
    return () if text == "none" else names(name, text)


def one_of(known: tuple[str, ...]) -> Parse:
    """Takes a text that must be one of ``known``."""

    def parse(name: str, text: str) -> str:
        if text not in known:
            raise bad(name, text, f"use one of {', '.join(known)}")
        return text

    return parse


def some_of(known: tuple[str, ...]) -> Parse:
    """Takes a list of entries that must be among ``known``, and puts them in the order of those."""
    one = one_of(known)

    def parse(name: str, text: str) -> tuple[str, ...]:
        chosen = {one(name, part) for part in names(name, text)}
        return tuple(part for part in known if part in chosen)

    return parse


def whole(least: int) -> Parse:
    """Takes a whole number of at least ``least``."""

    def parse(name: str, text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise bad(name, text, f"use a whole number from {least}")
        return int(text)

    return parse


def methods(name: str, text: str) -> tuple[str, ...]:
    """Names of methods; the reference is always measured and no method of the grid."""
    return tuple(method for method in names(name, text) if method != "dense")


def levels(name: str, text: str) -> tuple[float, ...]:
    """Levels, ascending."""
    return tuple(sorted({parse_level(part, f"--sparsity-{name}") for part in names(name, text)}))


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


def fraction(name: str, text: str) -> float:
    """A fraction above 0 and below 1."""
    if text.strip().endswith("%"):
        number = text.strip().removesuffix("%")
        fix = "write a fraction, such as 0.08 for 8 %"
        with contextlib.suppress(ValueError):
            fix = f"write it as a fraction: {float(number) / 100:g}"
        raise bad(name, text, fix)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise bad(name, text, "use a fraction above 0 and below 1, such as 0.08 for 8 %")
    return value


def effect(name: str, text: str) -> float:
    """An effect to be found, above 0 and below 1; 0 where none is named."""
    if not text:
        return 0.0
    try:
        return fraction(name, text)
    except SparsityError:
        fix = (
            f"an effect is a fraction above 0 and below 1, as in --sparsity-{name}=0.01; without "
            "one put the option behind the paths"
        )
        raise bad(name, text, fix) from None


def models(name: str, given: list[str]) -> tuple[str, ...]:
    """Names of models, each once."""
    if not all(model.strip() for model in given):
        raise bad(name, "", "name a model, a folder, a GGUF file or a hub id")
    return tuple(dict.fromkeys(model.strip() for model in given))


def layers(name: str, text: str) -> tuple[int, int] | None:
    """First and last layer; None for all."""
    if text == "all":
        return None
    first, _, last = text.partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise bad(name, text, "use all, one layer (7) or a range (0-14)")
    return int(first), int(last)


def folder(name: str, path: Path | None) -> Path:
    """A folder that must be named."""
    if path is None:
        raise bad(name, "", "name a folder")
    return path


def path_text(name: str, path: Path | None) -> str | None:
    """A path as text, as it is kept in JSON."""
    return None if path is None else str(path)
