"""Runs the suite on every mutant and writes docs/mutants.md: ``python tests/mutants/table.py``."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from classes import CLASSES
from corpus import MUTANTS
from mutation import Mutant

from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.runner import EXAMPLES, CheckResult
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.kernels.native.library import find_compiler
from pytest_sparsity.testing import KernelFailure, check_kernel

TARGET = Path(__file__).parents[2] / "docs" / "mutants.md"

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
in CUDA C++ run here with their threads one after another on a CPU (`tests/kernels_cuda`).
"Examples" counts the cases of the check that killed, up to the one that failed.

| mutant | of | class | what is changed | killed by | examples | message |
|---|---|---|---|---|---|---|
{mutants}
"""


def main() -> None:
    outcomes = {}
    for mutant in MUTANTS:
        outcome = outcomes[mutant] = _outcome(mutant)
        expected = "" if outcome.check == mutant.killer else f" (killer={mutant.killer})"
        print(f"{mutant.name}: {outcome.check}{expected}, {outcome.examples} examples", flush=True)
    atomic_write(TARGET, _written(outcomes))


def _outcome(mutant: Mutant) -> CheckResult:
    try:
        report = check_kernel(mutant.id, module=mutant.module())
    except KernelFailure as failure:
        return failure.outcome
    sys.exit(f"{mutant.name} survives: the suite has a hole, or it is not wrong\n{report}")


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
