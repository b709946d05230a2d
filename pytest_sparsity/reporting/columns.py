"""Tables of text: columns, as wide as a terminal is, or as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_GAP, _PADDING = 2, 2  # blanks that tabulate puts between columns and beside a header


@dataclass(frozen=True)
class Column:
    """One column: its header, its cells from top to bottom, ``left`` or ``right``."""

    header: str
    cells: tuple[str, ...]
    align: str = "right"

    @property
    def width(self) -> int:
        """Characters that tabulate needs; it never sets a header tighter than this."""
        return max(len(self.header) + _PADDING, *map(len, self.cells))


@dataclass(frozen=True)
class Table:
    """A titled table; the first column names the rows."""

    title: str
    columns: tuple[Column, ...]

    def fit(self, width: int) -> Iterator[Table]:
        """This table if it is at most ``width`` characters wide, else several, side by side."""
        names, *rest = self.columns
        title = self.title
        while rest:
            taken = [rest.pop(0)]  # one column at least, however wide
            while rest and _total([names, *taken, rest[0]]) <= width:
                taken.append(rest.pop(0))
            yield Table(title, (names, *taken))
            title = f"{self.title} (continued)"

    def text(self) -> str:
        """For the terminal."""
        return f"{self.title}\n{_tabulate(self.columns, 'simple')}"

    def markdown(self) -> str:
        """For GitHub: a heading of the third level and a table."""
        escaped = [
            replace(c, header=escape(c.header), cells=tuple(map(escape, c.cells)))
            for c in self.columns
        ]
        return f"### {escape(self.title)}\n\n{_tabulate(escaped, 'pipe')}"


def escape(text: str) -> str:
    """Text with what Markdown would take for markup escaped, for tables too."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*<|~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", flat)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _tabulate(columns: Sequence[Column], style: str) -> str:
    from tabulate import tabulate

    text: str = tabulate(
        list(zip(*(column.cells for column in columns), strict=True)),
        [column.header for column in columns],
        tablefmt=style,
        colalign=[column.align for column in columns],
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
