"""``python tests/families/table.py``: measure every architecture, and write what works on each.

It writes ``pytest_sparsity/models/families.json``, which the package ships, and the tables of
``docs/families.md``; with names of architectures it prints what it finds and writes nothing.
Two minutes on one core.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import transformers
from measured import ARCHITECTURES, measure

from pytest_sparsity.cli.models import table
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.models.families import FILE, Families, Family, read_families

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
_BEGIN, _END = "<!-- written by tests/families/table.py -->", "<!-- end -->"


def document(families: Sequence[Family]) -> str:
    """``families.json``: one line per architecture."""
    rows = ",\n".join(json.dumps(asdict(family)) for family in families)
    return f'{{"transformers": "{transformers.__version__}", "families": [\n{rows}\n]}}\n'


def page(families: Families, before: str) -> str:
    """The page with its tables written anew."""
    text = f"{_BEGIN}\n{families.summary}\n\n```\n{table(families)}\n```\n{_END}"
    return re.sub(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", lambda _: text, before, flags=re.S)


def main(names: Sequence[str]) -> None:
    """Measure these, or all and write."""
    found = []
    for name in names or ARCHITECTURES:
        found.append(measure(name))
        print(found[-1].status, name, found[-1].reason, *found[-1].faults, sep="; ", flush=True)
    if names:
        return
    atomic_write(FILE, document(found))
    atomic_write(PAGE, page(read_families(), PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
