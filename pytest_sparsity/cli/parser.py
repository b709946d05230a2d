"""argparse, so that a mistake is one sentence and a description keeps its lines."""

from __future__ import annotations

import argparse
import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pytest_sparsity.core.errors import NotWritten, SparsityError


class Parser(argparse.ArgumentParser):
    """A parser that raises what others would print before they exit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Formatter, **kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Refuse the words.

        Raises:
            SparsityError: always.
        """
        raise SparsityError(f"{self.prog}: {message}; see `{self.prog} --help`")


class _Formatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves alone the lines that are indented."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def sentence(summary: str) -> str:
    """A summary as a description."""
    return f"{summary[0].upper()}{summary[1:]}."


def command_lines(table: Mapping[str, str]) -> str:
    """A table of two columns as lines of help."""
    left = max(map(len, table)) + 4
    return "\n".join(
        textwrap.fill(text, 96, initial_indent=f"  {key}".ljust(left), subsequent_indent=" " * left)
        for key, text in table.items()
    )


@contextlib.contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Name the option whose file or folder cannot be written inside."""
    try:
        yield
    except NotWritten as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else None
        raise NotWritten(
            f"{option} {path} cannot be written ({reason or error}); free some space, fix its "
            "permissions, or name another place"
        ) from error


@contextlib.contextmanager
def own_options(*names: str) -> Iterator[None]:
    """Call options by their names here in complaints about pytest's of the same names."""
    try:
        yield
    except SparsityError as error:
        text = str(error)
        for name in names:
            text = text.replace(f"--sparsity-{name}", f"--{name}")
        raise type(error)(text) from error
