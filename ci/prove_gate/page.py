"""docs/gate.md: the tables of what was measured, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from textwrap import fill
from typing import Any

from accuracy_page import accuracy_section
from speed import IDENTICAL
from tabulate import tabulate

from pytest_sparsity.core.statistics import proportion
from pytest_sparsity.reporting.numbers import percent
from pytest_sparsity.speed.gate import rules

Row = Mapping[str, Any]

#: Shares of decisions that the gate is to reach, by mode and kernel: at most of what is identical,
#: at least of what is slower.
GOALS: Mapping[str, Mapping[str, float]] = {
    "ab": {"plus_0": 0.01, "plus_5": 0.50, "plus_10": 0.90, "plus_20": 0.99},
    "stored": {"plus_0": 0.01, "plus_20": 0.99},
}

_TEXT = """\
# How often the gate is wrong

Written by `python ci/prove_gate`, which repeats all of it. Measured on {device}, {cores} cores, on
{when}, with {versions}.

## Speed
A kernel (`sparse_linear`, compiled by numba, 2048 channels of which half are active, 4096 outputs,
bfloat16) is gated against itself, and against itself with more active channels, so many more bytes
to read and products to add in the same loop that it takes 5, 10 and 20 % longer. It is the gate of
`pytest --sparsity-gate=fail` that decides, in processes of its own as always. Beside it another
process streams memory for a third of the time, in bouts of {bout:g} s on average.

The tables are of the rule for one kernel that is gated alone. In a run of more decisions a
regression must also be as unlikely by chance as it takes to hold among all of them
(`--sparsity-run-error`, 1 %): side by side by the exact sign test over blocks of five rounds, for
which the second look has 75 rounds at ten decisions and 95 at a hundred; against a stored run in 5
processes at ten decisions and 6 at a hundred, all slower, where one process is taken to be so by
chance in at most a fifth of cases (13 of 102 below). What is less sure is suspect, and no failure:
more decisions make false alarms no more frequent. Since the tables were measured ok, which may be
said at either look, is held to an interval of 97.06 %, at which both looks hold together at 95 %;
regressed is said at the second look alone, by the rule that was measured.

### Side by side with a git revision
{rule_ab}

{ab}

The other rules saw the samples of our first look: the {first} rounds of one process of each side,
interleaved, as a benchmark of two functions gives them. On runs that were made one after the other,
which is what they are mostly given, they would do worse:

{ab_rivals}

### Against a stored run
{rule_stored}

{stored}

The other rules compared the same samples of one process each, as one run of theirs is:

{stored_rivals}

{times}

{accuracy}
"""

_RULE_AB = """\
{first} rounds in {processes} processes of each side; unless these are clearly fine, {second} fresh
ones in as many fresh processes, which decide alone. Of each round counts the fastest process.
Regressed is what takes more than {tolerance:g} % longer by the least of each five rounds, with an
interval that is all slower; ok is only what has no part of its interval beyond {tolerance:g} %.
Where the median round takes more than {noisiest:g} times the fastest, nothing is called slower or
faster by less than that."""

_RULE_STORED = """\
Stored are {second} rounds of each of {stored} processes, one after the other. Compared is the best
of {first} rounds; what is slower is timed again in fresh processes with {second} rounds each, until
one is not slower or {confirm} were. Slower is beyond {tolerance:g} %, or beyond three times the
spread of the stored processes if that is more."""


def page(machine: Mapping[str, Any], speed: Sequence[Row], accuracy: Sequence[Row]) -> str:
    """The page as Markdown.

    Args:
        machine: what it was measured on.
        speed: decisions of the speed gate.
        accuracy: results of the accuracy gate.
    """
    from neighbour import BOUT

    versions = machine["versions"]
    text = _TEXT.format(
        device=machine["device"],
        cores=machine["cores"],
        when=machine["when"],
        versions=", ".join(f"{name} {version}" for name, version in versions.items() if version),
        bout=BOUT,
        first=rules.FIRST_ROUNDS,
        rule_ab=_RULE_AB.format(
            first=rules.FIRST_ROUNDS,
            second=rules.SECOND_ROUNDS,
            processes=rules.PROCESSES,
            tolerance=100 * rules.TOLERANCE_CPU,
            noisiest=rules.NOISIEST,
        ),
        rule_stored=_RULE_STORED.format(
            first=rules.FIRST_ROUNDS,
            second=rules.SECOND_ROUNDS,
            stored=rules.STORED_PROCESSES,
            confirm=rules.PROCESSES,
            tolerance=100 * rules.TOLERANCE_STORED,
        ),
        ab=_decisions(speed, "ab"),
        ab_rivals=_rivals(speed, "ab"),
        stored=_decisions(speed, "stored"),
        stored_rivals=_rivals(speed, "stored"),
        times=_times(speed),
        accuracy=accuracy_section(accuracy),
    )
    return "\n\n".join(map(_filled, text.rstrip().split("\n\n"))) + "\n"


def _filled(block: str) -> str:
    """A paragraph in lines of 100 characters, after its heading; a table as it is."""
    heading, _, rest = block.partition("\n") if block.startswith("#") else ("", "", block)
    if not rest.startswith("|"):
        rest = fill(rest, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(part for part in (heading, rest) if part)


def _decisions(rows: Sequence[Row], mode: str) -> str:
    table = []
    for kernel, goal in GOALS[mode].items():
        found = [row for row in rows if row["mode"] == mode and row["kernel"] == kernel]
        count = {
            decision: sum(row["decision"] == decision for row in found)
            for decision in ("regressed", "inconclusive", "improved", "ok")
        }
        share = proportion(count["regressed"], len(found))
        identical = kernel == IDENTICAL
        reached = share.estimate <= goal if identical else share.estimate >= goal
        table.append(
            {
                "slow-down": _slow_down(kernel),
                "seen, median": f"{median(row['stages'][-1][0] for row in found):.3f}",
                "decisions": len(found),
                "regressed": f"{percent(share.estimate)} "
                f"[{100 * share.low:.1f}, {100 * share.high:.1f}]",
                **{name: n for name, n in count.items() if name != "regressed"},
                "asked": f"{'at most' if identical else 'at least'} {100 * goal:g} %",
                "reached": "yes" if reached else "**no**",
            }
        )
    return str(tabulate(table, headers="keys", tablefmt="github", disable_numparse=True))


def _rivals(rows: Sequence[Row], mode: str) -> str:
    """Share of alarms of each rule, in percent, on what every one of them saw."""
    groups = {
        kernel: [row for row in rows if row["mode"] == mode and row["kernel"] == kernel]
        for kernel in GOALS[mode]
    }
    names = list(
        dict.fromkeys(name for row in rows if row["mode"] == mode for name in row["rivals"])
    )
    table = [
        ["**this gate**"]
        + [_share(row["decision"] == "regressed" for row in group) for group in groups.values()]
    ]
    table += [
        [name] + [_share(row["rivals"][name] for row in group) for group in groups.values()]
        for name in names
    ]
    headers = ["called slower, %", *map(_slow_down, groups)]
    return str(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))


def _share(alarms: Any) -> str:
    seen = list(alarms)
    return f"{100 * sum(seen) / len(seen):.0f}"


def _slow_down(kernel: str) -> str:
    return "none" if kernel == IDENTICAL else f"{kernel.removeprefix('plus_')} %"


def _times(rows: Sequence[Row]) -> str:
    """Seconds that decisions took."""
    looks = [
        [
            row["seconds"]
            for row in rows
            if row["mode"] == "ab" and (len(row["stages"]) > 1) == twice
        ]
        for twice in (False, True)
    ]
    once, twice = (median(seconds) for seconds in looks)
    return (
        f"A decision side by side took {once:.1f} s (median), {twice:.1f} s where a second look "
        f"was needed: ten kernels {10 * once / 60:.1f} to {10 * twice / 60:.1f} minutes."
    )
