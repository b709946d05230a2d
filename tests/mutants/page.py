"""docs/mutants.md, and the part of docs/bounds.md about mutants, from what is known of them."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from classes import CLASSES
from mutation import Mutant
from outcomes import COMPUTED, Outcomes
from switched_off import GROUPS

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.runner import EXAMPLES
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.kernels.native.library import find_compiler

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
BOUNDS = PAGE.with_name("bounds.md")

_TEXT = """\
# Mutants: what the kernel suite is proved to find

{count} kernels, each made of a right one by a single replacement in its source: one realistic bug.
The suite, with {examples} examples per check and seed 0, finds all of them.  Numbers of classes are
those of published defects; the other classes are bugs of formats, wrappers and compilers that
kernels for sparse models are prone to.

Written by `python tests/mutants/table.py`, with {versions}, from what is kept in `mutants.json`;
with `--matrix` it runs what is missing there.  `tests/mutants/` holds the replacements, and its
tests repeat the proof.

## Checks

Most mutants die by several checks.  `edges` holds cases that somebody thought of for an op of ours;
an op without them, of somebody else, has the other checks.  So each of these has mutants that it
alone finds where `edges` is switched off:

| check | kills | alone, without edges | what it proves |
|---|---|---|---|
{checks}

{known}

## Decisive cases

Each group of cases finds a mutant that nothing else finds: with these cases switched off, all
checks pass.

| cases | mutants that survive without |
|---|---|
{groups}

## Classes of published defects

| class | what is wrong | mutants |
|---|---|---|
{classes}

The class 13 is not a bug of kernels but of their tests, which compare with tolerances that any
result is within, or compare nothing.  Its mutants are results that such tests let pass.  Kernels
in CUDA C++ are emulated on a CPU; their right ones beyond ours are in `tests/mutants/cuda_right`.

## Mutants

"Examples" counts the cases of the check that kills, up to the one that failed; other checks may
kill, too.

| mutant | of | class | what is changed | killed by | examples | message |
|---|---|---|---|---|---|---|
{mutants}

## Each check against each mutant

`x`: kills; `.`: passes; `-`: does not apply, or cannot run here; `?`: not run yet.

| mutant | {names} |
|---|{rules}|
{matrix}
"""

_HEADING = "## The same wrong kernels die"
_COMPUTED = """\
{heading}
{count} of the [mutants](mutants.md) were checked with the computed bound in place of the one by
hand, {examples} examples per check and seed 0; {dead} of them die, {same} by the check that kills
them with the bound by hand.

| op | mutants | die | by the same check |
|---|---|---|---|
{rows}

Written by `python tests/mutants/table.py --computed`, with {versions}.
"""


def write(outcomes: Outcomes, mutants: Sequence[Mutant]) -> None:
    """Write docs/mutants.md."""
    kinds = Counter(mutant.kind for mutant in mutants)
    complete = sum(outcomes.complete(mutant) for mutant in mutants)
    known = f"Of {complete} mutants it is known what every check makes of them."
    text = _TEXT.format(
        count=len(mutants),
        examples=EXAMPLES,
        versions=_versions(),
        checks="\n".join(_check(outcomes, mutants, check) for check in CHECKS),
        known="" if complete == len(mutants) else known,
        groups="\n".join(_group(outcomes, mutants, group) for group in GROUPS),
        classes="\n".join(f"| {n} | {what} | {kinds[n]} |" for n, what in CLASSES.items()),
        mutants="\n".join(_mutant(outcomes, mutant) for mutant in mutants),
        names=" | ".join(CHECKS),
        rules="|".join(["---"] * len(CHECKS)),
        matrix="\n".join(_row(outcomes, mutant) for mutant in mutants),
    )
    atomic_write(PAGE, text.replace("\n\n\n", "\n"))


def alone(outcomes: Outcomes, mutants: Sequence[Mutant], check: str) -> list[Mutant]:
    """The mutants that no other check kills, ``edges`` apart."""
    apart = {"edges"} - {check}
    return [
        mutant
        for mutant in mutants
        if outcomes.complete(mutant) and outcomes.killers(mutant) - apart == {check}
    ]


def survivors(outcomes: Outcomes, mutants: Sequence[Mutant], group: str) -> list[Mutant]:
    """The mutants that nothing kills where this group of cases is switched off."""
    return [
        mutant
        for mutant in mutants
        if outcomes.complete(mutant, group) and not outcomes.killers(mutant, group)
    ]


def _check(outcomes: Outcomes, mutants: Sequence[Mutant], check: str) -> str:
    kills = sum(check in outcomes.killers(mutant) for mutant in mutants)
    only = [f"`{mutant.name}`" for mutant in alone(outcomes, mutants, check)]
    told = ", ".join(only[:3]) + (f" and {len(only) - 3} more" if len(only) > 3 else "")
    return f"| {check} | {kills} | {told} | {CHECKS[check].proves} |"


def _group(outcomes: Outcomes, mutants: Sequence[Mutant], group: str) -> str:
    names = ", ".join(f"`{mutant.name}`" for mutant in survivors(outcomes, mutants, group))
    return f"| {GROUPS[group]} | {names} |"


def _mutant(outcomes: Outcomes, mutant: Mutant) -> str:
    cell = outcomes.row(mutant).get(mutant.killer)
    examples, message = (cell.examples, cell.message.replace("|", "\\|")) if cell else ("", "")
    cells = (mutant.name, mutant.kernel, mutant.kind, mutant.what, mutant.killer, examples)
    return f"| {' | '.join(map(str, cells))} | {message} |"


def _row(outcomes: Outcomes, mutant: Mutant) -> str:
    row = outcomes.row(mutant)
    signs = {"failed": "x", "passed": ".", "skipped": "-"}
    cells = [signs[row[check].status] if check in row else "?" for check in CHECKS]
    return f"| {mutant.name} | {' | '.join(cells)} |"


def write_computed(outcomes: Outcomes, mutants: Sequence[Mutant]) -> None:
    """Write the last part of docs/bounds.md."""
    known = [mutant for mutant in mutants if outcomes.row(mutant, COMPUTED)]

    def counts(among: Sequence[Mutant]) -> tuple[int, int, int]:
        dead = [mutant for mutant in among if outcomes.killers(mutant, COMPUTED)]
        same = [mutant for mutant in dead if mutant.killer in outcomes.killers(mutant, COMPUTED)]
        return len(among), len(dead), len(same)

    ops = {
        op: counts([m for m in known if m.op == op]) for op in dict.fromkeys(m.op for m in known)
    }
    count, dead, same = counts(known)
    text = _COMPUTED.format(
        heading=_HEADING,
        count=count,
        examples=EXAMPLES,
        dead=dead,
        same=same,
        rows="\n".join(f"| `{op}` | {a} | {b} | {c} |" for op, (a, b, c) in ops.items()),
        versions=_versions(),
    )
    before = BOUNDS.read_text().partition(_HEADING)[0].rstrip()
    atomic_write(BOUNDS, f"{before}\n\n{text}")


def _versions() -> str:
    compiler = find_compiler()
    assert compiler is not None
    told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)
    packages = [f"{name} {version(name)}" for name in ("torch", "triton", "numba")]
    return ", ".join([f"Python {platform.python_version()}", *packages, told.stdout.split("\n")[0]])
