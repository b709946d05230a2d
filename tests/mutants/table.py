"""Runs the suite on every mutant and writes docs/mutants.md: ``python tests/mutants/table.py``.

With names of mutants it runs these only, and keeps what the page says of the others.

With ``--computed`` bounds computed from the definitions stand in place of those by hand, and the
part of docs/bounds.md that tells of mutants is written.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from classes import CLASSES
from corpus import MUTANTS
from mutation import Mutant

from pytest_sparsity.checking.api import _import
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.checking.runner import EXAMPLES, CheckResult
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.native.library import find_compiler
from pytest_sparsity.testing import KernelFailure, check_kernel

TARGET = Path(__file__).parents[2] / "docs" / "mutants.md"
BOUNDS = TARGET.with_name("bounds.md")
#: Imported where kernels are checked, it exchanges the bounds.
COMPUTED = Path(__file__).with_name("computed.py").resolve()

_TEXT = """\
# Mutants: what the kernel suite is proved to find

{count} kernels, each made of a right one by a single replacement in its source: one realistic bug.
The suite, with its checks in their order, {examples} examples per check and seed 0, finds all of
them.  Numbers of classes are those of published defects; the other classes are bugs of formats,
wrappers and compilers that kernels for sparse models are prone to.

Written by `python tests/mutants/table.py`, with {versions}.
`tests/mutants/` holds the replacements, and its tests repeat the proof.

A mutant is killed by the first check that fails, so that later checks, which find many of these
bugs too, appear only where they are needed:

| check | mutants killed | what it proves |
|---|---|---|
{checks}

Classes of published defects:

| class | what is wrong | mutants |
|---|---|---|
{classes}

The class 13 is not a bug of kernels but of their tests, which compare with tolerances that any
result is within, or compare nothing.  Its mutants are results that such tests let pass.  Kernels
in CUDA C++ are emulated on a CPU, threads one after another; their right ones beyond ours are in
`tests/mutants/cuda_right`.
"Examples" counts the cases of the check that killed, up to the one that failed.

| mutant | of | class | what is changed | killed by | examples | message |
|---|---|---|---|---|---|---|
{mutants}
"""

_HEADING = "## The same wrong kernels die"
_COMPUTED = """\
{heading}
Each of the {count} [mutants](mutants.md) was checked with the computed bound in place of the one by
hand, {examples} examples per check and seed 0; {dead} of them die, {same} by the check that kills
them with the bound by hand.

| op | mutants | die | by the same check |
|---|---|---|---|
{rows}

Written by `python tests/mutants/table.py --computed`, with {versions}.
"""


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Run the suite on every mutant.")
    parser.add_argument("names", nargs="*", help="of mutants to run, all by default")
    parser.add_argument("--computed", action="store_true", help="with computed bounds")
    chosen = parser.parse_args(given)
    if chosen.computed:
        _write_computed()
        return
    kept = _kept() if chosen.names else {}
    outcomes = {}
    for mutant in MUTANTS:
        if mutant.name in kept and mutant.name not in chosen.names:
            outcomes[mutant] = kept[mutant.name]
            continue
        outcome = outcomes[mutant] = _outcome(mutant)
        expected = "" if outcome.check == mutant.killer else f" (killer={mutant.killer})"
        print(f"{mutant.name}: {outcome.check}{expected}, {outcome.examples} examples", flush=True)
    atomic_write(TARGET, _written(outcomes))


def _kept() -> dict[str, CheckResult]:
    """What the page says now, by the name of the mutant."""
    rows = [line.strip("| ").split(" | ") for line in TARGET.read_text().splitlines()]
    return {
        row[0]: CheckResult(row[1], row[4], "failed", row[6].replace("\\|", "|"), None, int(row[5]))
        for row in rows
        if len(row) == 7 and row[5].isdigit()
    }


def _outcome(mutant: Mutant) -> CheckResult:
    try:
        report = check_kernel(mutant.id, module=mutant.module())
    except KernelFailure as failure:
        return failure.outcome
    sys.exit(f"{mutant.name} survives: the suite has a hole, or it is not wrong\n{report}")


def _write_computed() -> None:
    with Pool() as pool:
        killers = {mutant: _killer(pool, mutant) for mutant in MUTANTS}
    before = BOUNDS.read_text().partition(_HEADING)[0].rstrip()
    atomic_write(BOUNDS, f"{before}\n\n{_computed_part(killers)}")


def _killer(pool: Pool, mutant: Mutant) -> str | None:
    """The check that finds a mutant with computed bounds; that one first which does without."""
    module = mutant.module()
    _import(module)
    kernel = registry.kernel(mutant.id)
    for check in sorted(CHECKS, key=lambda check: check != mutant.killer):
        outcome = pool.run_check(kernel, check, EXAMPLES, 0, None, (str(COMPUTED), module))
        if outcome.status == "failed":
            print(f"{mutant.name}: {check}", flush=True)
            return check
    print(f"{mutant.name} survives", flush=True)
    return None


def _computed_part(killers: Mapping[Mutant, str | None]) -> str:
    rows = []
    for op in dict.fromkeys(mutant.op for mutant in killers):
        own = {mutant: killer for mutant, killer in killers.items() if mutant.op == op}
        rows.append(f"| `{op}` | {len(own)} | {_dead(own)} | {_same(own)} |")
    return _COMPUTED.format(
        heading=_HEADING,
        count=len(killers),
        examples=EXAMPLES,
        dead=_dead(killers),
        same=_same(killers),
        rows="\n".join(rows),
        versions=_versions(),
    )


def _dead(killers: Mapping[Mutant, str | None]) -> int:
    return sum(killer is not None for killer in killers.values())


def _same(killers: Mapping[Mutant, str | None]) -> int:
    return sum(killer == mutant.killer for mutant, killer in killers.items())


def _written(outcomes: dict[Mutant, CheckResult]) -> str:
    killers = Counter(outcome.check for outcome in outcomes.values())
    kinds = Counter(mutant.kind for mutant in outcomes)
    return _TEXT.format(
        count=len(outcomes),
        examples=EXAMPLES,
        versions=_versions(),
        checks="\n".join(
            f"| {name} | {killers[name]} | {check.proves} |" for name, check in CHECKS.items()
        ),
        classes="\n".join(f"| {n} | {what} | {kinds[n]} |" for n, what in CLASSES.items()),
        mutants="\n".join(_row(mutant, outcome) for mutant, outcome in outcomes.items()),
    )


def _row(mutant: Mutant, outcome: CheckResult) -> str:
    # Paths are this machine's, and say nothing.
    message = re.sub(r"/\S*/", "", outcome.message.splitlines()[0]).replace("|", "\\|")
    cells = (mutant.name, mutant.kernel, mutant.kind, mutant.what, outcome.check, outcome.examples)
    return f"| {' | '.join(map(str, cells))} | {message} |"


def _versions() -> str:
    compiler = find_compiler()
    assert compiler is not None
    told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)
    packages = [f"{name} {version(name)}" for name in ("torch", "triton", "numba")]
    return ", ".join([f"Python {platform.python_version()}", *packages, told.stdout.split("\n")[0]])


if __name__ == "__main__":
    main()
