"""``pytest-sparsity history``: the series of a history file and where they changed, drawn too."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.reporting.history import MAGNITUDE, SIGNIFICANCE, WINDOW

if TYPE_CHECKING:
    from pytest_sparsity.reporting.history.series import Series

SUMMARY = "list what runs measured over time, machine by machine, and where it changed"


def add_arguments(parser: Parser) -> None:
    """The file, and what to show of it."""
    parser.epilog = (
        f"A change: t-test p < {SIGNIFICANCE}, at least {MAGNITUDE:.0%}, in windows of "
        f"{WINDOW} runs."
    )
    parser.add_argument("file", type=Path, help="written by pytest --sparsity-history=FILE")
    parser.add_argument("--png", type=Path, metavar="OUT", help="draw the series into this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="series whose name holds TEXT")
    parser.add_argument("--changed", action="store_true", help="list series that changed only")


def run(given: argparse.Namespace) -> ExitCode:
    """List and draw."""
    from pytest_sparsity.reporting.history.entries import read
    from pytest_sparsity.reporting.history.series import all_series

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SparsityWarning)
        try:
            entries = read(given.file)
        except SparsityError as error:
            raise SparsityError(str(error).replace("--sparsity-history", "FILE", 1)) from error
        series = all_series(entries, given.only)
    for warning in caught:
        print(f"WARNING: {warning.message}", file=sys.stderr)
    if not series:
        raise SparsityError(f"--only {given.only!r}: no series of {given.file} has it")
    print("\n".join(_listing(series, given.changed)))
    if given.png is not None:
        from pytest_sparsity.reporting.history.picture import draw

        with writing("--png", given.png):
            atomic_write(given.png, draw(series))
    return ExitCode.OK


def _listing(series: Sequence[Series], changed_only: bool) -> Iterator[str]:
    for (target, profile), group in groupby(series, key=lambda one: (one.target, one.profile)):
        machine = list(group)
        changed = sum(bool(one.changes) for one in machine)
        about = f"{machine[0].device} ({target}), {profile} profile"
        yield f"{about}: {len(machine)} series, {changed} changed"
        for one in machine:
            if one.changes or not changed_only:
                yield f"  {one.name}: {len(one.values)} runs, last {_value(one, one.values[-1])}"
            yield from _changes(one)


def _changes(series: Series) -> Iterator[str]:
    from pytest_sparsity.reporting.numbers import figure

    for change in series.changes:
        run = series.runs[change.index]
        commit = f", {run.revision[:12]}" if run.revision else ""
        yield (
            f"    {run.when}{commit}: {_value(series, change.before)} -> "
            f"{_value(series, change.after)} "
            f"({figure(100 * change.magnitude, sign='+')} %, p = {change.p_value:.1g}), "
            f"{'worse' if series.worse(change) else 'better'}"
        )


def _value(series: Series, value: float) -> str:
    if series.name.startswith("seconds"):
        return f"{value * 1e3:.4g} ms"
    return f"{value:.4g}"
