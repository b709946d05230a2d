"""What a kind of things is to the list of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: One thing, as plain JSON.
Item = dict[str, Any]


def no_notes(items: Sequence[Item]) -> list[str]:
    """Nothing is said below the table."""
    return []


def by_hook(hook: str) -> str:
    """A note: where others come from, and why they are not in the list."""
    return (
        f"What plugins and conftest files offer by the hook {hook} is theirs to make in a session "
        "of pytest, and known there only."
    )


@dataclass(frozen=True)
class Kind:
    """A kind of things that a user chooses from.

    Attributes:
        items: all of them; the fields are a public format, so they are added to and not renamed.
        columns: head to cell of the table.
        notes: lines below the table.
    """

    items: Callable[[], list[Item]]
    columns: Mapping[str, Callable[[Item], str]]
    notes: Callable[[Sequence[Item]], list[str]] = no_notes


def megabytes(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e6:.0f} MB"


def yes(value: bool) -> str:
    """A flag for a person; what is not so is left empty."""
    return "yes" if value else ""


def first_sentence(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().partition("\n")[0].replace("``", "`")
