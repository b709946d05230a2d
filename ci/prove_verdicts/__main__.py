"""Simulate runs of the real model, and write docs/verdicts.md: ``python ci/prove_verdicts``.

Measures what is missing of ci/prove_verdicts/measured.jsonl (about an hour on two cores for all of
it), draws runs from it, decides them and writes the page.  What was interrupted goes on where it
ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "prove_gate"))

import measure
import scenarios
import values
import verdict_page

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.progress import on_stream

MEASURED = Path(__file__).parent / "measured.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
PARTS = ("measure", "simulate", "page")


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, then draw runs and write the page; the exit status."""
    parser = argparse.ArgumentParser(prog="ci/prove_verdicts", description=(__doc__ or "").strip())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="of models and calibrations")
    parser.add_argument("--measured", type=Path, default=MEASURED, metavar="FILE")
    parser.add_argument(
        "--results", type=Path, default=Path("sparsity-report/verdicts"), metavar="DIR"
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="that simulate")
    options = parser.parse_args(arguments)
    parts = options.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(PARTS)}")
    if "measure" in parts:
        measure.prove(options.measured, options.cache, on_stream(sys.stderr))
    simulated = options.results / "simulated.jsonl"
    if "simulate" in parts:
        scenarios.prove(options.measured, simulated, options.processes, on_stream(sys.stderr))
    if "page" in parts:
        known = values.read(options.measured)
        before = PAGE.read_text() if PAGE.exists() else ""
        text = verdict_page.page(known, scenarios.results(simulated), before)
        atomic_write(PAGE, text)
        print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
