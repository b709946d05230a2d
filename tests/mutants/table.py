"""Writes docs/mutants.md from docs/mutants.json: ``python tests/mutants/table.py``.

Before, it runs what is missing there:

    --killers      of each mutant, checks until one kills it
    --matrix       all checks of each mutant, which takes hours; what is done is kept, and where it
                   was broken off it goes on
    --decisive     of mutants that are for a group of decisive cases, all checks without these
    --computed     checks until one kills, with bounds computed from the definitions in place of
                   those by hand, for docs/bounds.md

of all mutants, or of those that are named; ``--processes N`` runs so many at a time.  What is known
of a mutant is for its sources as they are: where they change, it is run again; where the checks
change, delete docs/mutants.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import page
from corpus import MUTANTS
from mutation import Mutant
from outcomes import COMPUTED, Outcomes, Row, run

_OPTIONS = ("killers", "matrix", "decisive", "computed")


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="of mutants to run, all by default")
    for option in _OPTIONS:
        parser.add_argument(f"--{option}", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args(given)
    unknown = set(chosen.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    among = [m for m in MUTANTS if not chosen.names or m.name in chosen.names]
    outcomes = Outcomes.read()
    if chosen.killers or chosen.matrix:
        _fill(outcomes, among, until_death=not chosen.matrix, processes=chosen.processes)
    if chosen.decisive:
        for group in dict.fromkeys(m.decisive for m in among if m.decisive):
            own = [m for m in among if m.decisive == group]
            _fill(outcomes, own, without=group, processes=chosen.processes)
    if chosen.computed:
        _fill(outcomes, among, until_death=True, without=COMPUTED, processes=chosen.processes)
        page.write_computed(outcomes, MUTANTS)
    page.write(outcomes, MUTANTS)


def _fill(
    outcomes: Outcomes,
    mutants: Sequence[Mutant],
    *,
    until_death: bool = False,
    without: str = "",
    processes: int = 1,
) -> None:
    """Run what is missing, and keep it mutant by mutant."""
    missing = [mutant for mutant in mutants if not _done(outcomes, mutant, until_death, without)]
    begun = time.monotonic()
    done = run(outcomes, missing, until_death=until_death, without=without, processes=processes)
    for count, (mutant, row) in enumerate(done, 1):
        outcomes.keep(MUTANTS, mutant, row, without)
        passed = time.monotonic() - begun
        left = passed / count * (len(missing) - count)
        print(
            f"{count}/{len(missing)}, {left / 60:.0f} min left: {_told(mutant, row, without)}",
            flush=True,
        )


def _done(outcomes: Outcomes, mutant: Mutant, until_death: bool, without: str) -> bool:
    if until_death and outcomes.killers(mutant, without):
        return True
    return outcomes.complete(mutant, without)


def _told(mutant: Mutant, row: Row, without: str) -> str:
    killers = [check for check, cell in row.items() if cell.killed]
    when = f" without {without}" if without else ""
    return f"{mutant.name}{when}: {', '.join(killers) or 'survives'}"


if __name__ == "__main__":
    main()
