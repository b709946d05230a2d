"""One question with a right answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One question: ``choices[gold]`` is the answer.

    Attributes:
        id: unique in its task.
        context: the question, and any shots before it.
        choices: appended to the context (and chain) as they are.
        gold: index of the right one.
        chain: a reference chain of thought that leads from the context to the answer; empty
            for tasks without.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    gold: int
    chain: str = ""


def make_item(id: str, context: str, choices: Iterable[str], gold: int, chain: str = "") -> Item:
    """An item whose context and chain do not end in white space: that is moved to what follows.

    Tokenizers attach a space to the word after it, so it must be scored with that word.
    """
    bare = context.rstrip()
    following = context[len(bare) :]
    if not chain:
        return Item(id, bare, tuple(following + choice for choice in choices), gold)
    whole = following + chain
    thought = whole.rstrip()
    rest = whole[len(thought) :]
    return Item(id, bare, tuple(rest + choice for choice in choices), gold, thought)
