"""One question with a right answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One question: the choice ``choices[gold]`` should be the likeliest after ``context``."""

    id: str
    context: str
    choices: tuple[str, ...]
    gold: int


def make_item(id: str, context: str, choices: Iterable[str], gold: int) -> Item:
    """An item whose context does not end in white space: that is moved to the choices.

    Tokenizers attach a space to the word after it, so it must be scored with that word.
    """
    bare = context.rstrip()
    return Item(id, bare, tuple(context[len(bare) :] + choice for choice in choices), gold)
