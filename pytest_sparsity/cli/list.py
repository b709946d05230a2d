"""``pytest-sparsity list``: what there is to choose from, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import import_module

from pytest_sparsity.cli.kinds.kind import Item, Kind
from pytest_sparsity.cli.parser import Parser
from pytest_sparsity.core.exit_codes import ExitCode

#: Of the document that --json prints.
SCHEMA = 1
KINDS = ("models", "methods", "tasks", "corpora", "kernels", "ops", "targets")
SUMMARY = f"list {', '.join(KINDS[:-1])} or {KINDS[-1]}"


def add_arguments(parser: Parser) -> None:
    """The kind, in a parser of its own each."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name in KINDS:
        own = kinds.add_parser(name, help=f"the {name}", description=f"List the {name}.")
        own.add_argument(
            "--json",
            action="store_true",
            help=f'{{"schema": {SCHEMA}, "kind": "{name}", "items": [...]}}; sizes in bytes',
        )


def run(given: argparse.Namespace) -> ExitCode:
    """Print the list."""
    kind: Kind = import_module(f"pytest_sparsity.cli.kinds.{given.kind}").KIND
    items = kind.items()
    if given.json:
        document = {"schema": SCHEMA, "kind": given.kind, "items": items}
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(_table(kind, items))
    return ExitCode.OK


def _table(kind: Kind, items: Sequence[Item]) -> str:
    from tabulate import tabulate

    rows = [[cell(item) for cell in kind.columns.values()] for item in items]
    table = tabulate(rows, list(kind.columns), disable_numparse=True)
    return "\n".join((table, "", *kind.below(items)))
