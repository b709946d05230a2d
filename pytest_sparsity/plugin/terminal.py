"""What the process that owns the terminal says there, outside of pytest's own sections."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import pytest

from pytest_sparsity.core.errors import SparsityWarning


def say(config: pytest.Config, line: str, **colour: bool) -> None:
    """Write a line of its own; nothing without a terminal (``-p no:terminal``).

    Args:
        config: of the session.
        line: its text; may begin with an end of line.
        colour: as ``pytest.TerminalReporter.write_line`` takes it.
    """
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        terminal.write_line(line, **colour)


@contextlib.contextmanager
def showing_warnings(config: pytest.Config, before: str = "") -> Iterator[None]:
    """Show warnings about damaged files; pytest shows none when a session starts or ends.

    Args:
        config: of the session.
        before: text before each warning, such as an end of line after a line of dots.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SparsityWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, SparsityWarning):
            say(config, f"{before}WARNING: {warning.message}", yellow=True)
        else:
            warnings.showwarning(
                warning.message, warning.category, warning.filename, warning.lineno
            )
