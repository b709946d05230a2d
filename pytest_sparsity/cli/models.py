"""``pytest-sparsity models``: which families of models work, and what on each."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict

from pytest_sparsity.cli.parser import Parser
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.models.families import (
    LEFT_OUT,
    MAPPED,
    REFUSED,
    Families,
    Family,
    read_families,
)

#: Of the document that --json prints.
SCHEMA = 1
SUMMARY = "list families of models, and what works on each"
_WIDTH = 80
_NOTES = (
    "* has experts. sites: whose inputs can be made sparse, in other words than transformers' for "
    "many. exempt: weights multiplied where no site is. SPON, kernels: of the sites, how many can "
    "have a spontaneous vector, and how many a kernel can compute in decoding. neurons: whether "
    "methods of neurons work.",
    "Models with a name are in `pytest-sparsity list models`; --sparsity-model=tiny:TYPE builds "
    "any of these in small, with random weights.",
)


def add_arguments(parser: Parser) -> None:
    """Add the options."""
    parser.add_argument(
        "--json",
        action="store_true",
        help=f'{{"schema": {SCHEMA}, "transformers": VERSION, "families": [...]}}',
    )


def run(given: argparse.Namespace) -> ExitCode:
    """Print the families."""
    families = read_families()
    if given.json:
        rows = [asdict(family) for family in families.all]
        document = {"schema": SCHEMA, "transformers": families.transformers, "families": rows}
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        print(_wrapped(families.summary), table(families), sep="\n\n")
    return ExitCode.OK


def table(families: Families) -> str:
    """All families in lines of 80 characters: what works, and below it what does not and why."""
    from tabulate import tabulate

    head = ["family", "sites", "exempt", "SPON", "neurons", "kernels"]
    rows = [_cells(family) for family in families.of(MAPPED)]
    parts = [
        tabulate([head, *rows], tablefmt="plain", disable_numparse=True),
        *map(_wrapped, _NOTES),
    ]
    if differs := [family.type for family in families.all if not family.cached]:
        parts.append(
            _wrapped(f"Greedy text of transformers differs with a cache: {', '.join(differs)}.")
        )
    for status, title in (
        (REFUSED, "Refused:"),
        (LEFT_OUT, "No decoder-only models, or not built:"),
    ):
        if found := families.of(status):
            parts.append("\n".join((title, *_by_reason(found))))
    return "\n\n".join(parts)


def _cells(family: Family) -> list[str]:
    return [
        f"{family.type}{' *' if family.experts else ''}",
        textwrap.fill(" ".join(family.kinds), 22),
        f"{family.exempt:.1%}" if family.exempt else "",
        f"{family.spon:.0%}",
        "yes" if family.neurons else "",
        f"{family.kernels:.0%}",
    ]


def _by_reason(families: Iterable[Family]) -> list[str]:
    """Names behind what they have in common."""
    groups: dict[str, list[str]] = {}
    for family in families:
        reason = family.reason.replace(family.name, "its class").replace(f"a {family.type}, ", "")
        groups.setdefault(reason, []).append(family.type)
    return [
        textwrap.fill(
            f"{', '.join(names)}: {reason}", _WIDTH, initial_indent="- ", subsequent_indent="  "
        )
        for reason, names in groups.items()
    ]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
