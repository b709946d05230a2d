"""What a kind of things is to the list of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: One thing, as plain JSON.
Item = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of things that a user chooses from.

    Attributes:
        items: all of them; the fields are a public format, so they are added to and not renamed.
        columns: head to cell of the table.
        remarks: makes lines below the table from the items.
        notes: further lines below it.
        hook: by which plugins and conftest files offer more of them.
    """

    items: Callable[[], list[Item]]
    columns: Mapping[str, Callable[[Item], str]]
    remarks: Callable[[Sequence[Item]], list[str]] = lambda items: []
    notes: Sequence[str] = ()
    hook: str | None = None

    def below(self, items: Sequence[Item]) -> list[str]:
        """All lines below the table: also where others come from, and why they are not in it."""
        others = (
            f"What plugins and conftest files offer by the hook {self.hook} is theirs to make in a "
            "session of pytest, and known there only."
        )
        return [*self.remarks(items), *self.notes, *([others] if self.hook else [])]


def megabytes(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e6:.0f} MB"


def starred(item: Item) -> str:
    """The name of an item, with a star if it is the default."""
    return f"{item['name']} *" if item["default"] else str(item["name"])


def yes(value: bool) -> str:
    """A flag for a person; what is not so is left empty."""
    return "yes" if value else ""


def first_sentence(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().partition("\n")[0].replace("``", "`")
