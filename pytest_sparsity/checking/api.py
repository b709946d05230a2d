"""``check_kernel``: the whole suite, or a part of it, for one kernel."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.checking.runner import EXAMPLES, CheckResult, named, run
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel, find


class KernelFailure(AssertionError):
    """A kernel is wrong; the message says in which case and how to see it again.

    Attributes:
        outcome: of the check that it failed.
    """

    outcome: CheckResult

    def __init__(self, message: str, outcome: CheckResult) -> None:
        super().__init__(message, outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Report:
    """What :func:`check_kernel` ran.

    Attributes:
        kernel: id of the kernel.
        outcomes: one per check, passed or skipped.
    """

    kernel: str
    outcomes: tuple[CheckResult, ...]

    def __str__(self) -> str:
        return "\n".join([self.kernel, *map(_line, self.outcomes)])


def check_kernel(
    kernel: Kernel | str | Callable[..., Any],
    checks: str | Iterable[str] | None = None,
    *,
    examples: int = EXAMPLES,
    case: Case | str | None = None,
    after: Iterable[Case | str] = (),
    seed: int = 0,
    module: str | None = None,
    processes: bool = True,
) -> Report:
    """Hold a kernel to the definition of its op.

    Args:
        kernel: registered with ``@sparse_kernel``: itself, its id, or the decorated function.
        checks: names of checks, or one name; all by default.
        examples: cases that each check draws.
        case: check this one only, as printed by a failure.
        after: cases that run before it in the same process, whatever comes of them.
        seed: of the drawing; the same seed draws the same cases.
        module: file, or dotted name, of a module that registers the kernel when it is imported.
        processes: run in processes of their own, so that a crash or an endless loop is a
            failure of the kernel and not the end of this process.

    Raises:
        KernelFailure: the kernel fails a check.
        SparsityError: there is no such kernel or check, or the case is not one.
    """
    names = checks_named(checks)
    if module is not None:
        _import(module)
    found = find(kernel)
    drawn = None if case is None else _case(case)
    before = tuple(map(_case, after))
    if before and drawn is None:
        raise SparsityError("after= goes with case=: give the case that is to run after those")

    def one(name: str) -> CheckResult:
        if not processes:
            return run(found, name, examples, seed, case=drawn, after=before)
        # The processes may have been started in another folder than this one is in now.
        file = module is not None and module.endswith(".py")
        modules = () if module is None else (os.path.abspath(module) if file else module,)
        return run_apart(found, name, examples, seed, case=drawn, modules=modules, after=before)

    return report(found, map(one, names))


def report(kernel: Kernel, outcomes: Iterable[CheckResult]) -> Report:
    """What came of checks, one after another.

    Raises:
        KernelFailure: one failed; no outcome after that is asked for.
    """
    found = []
    for outcome in outcomes:
        if outcome.status == "failed":
            raise KernelFailure(told(kernel, outcome), outcome)
        found.append(outcome)
    return Report(kernel.id, tuple(found))


def run_apart(kernel: Kernel, check: str, examples: int, seed: int, **more: Any) -> CheckResult:
    """One check in a process of its own; see :meth:`Pool.run_check`."""
    return _pool().run_check(kernel, check, examples, seed, **more)


def told(kernel: Kernel, outcome: CheckResult) -> str:
    """A failure as it is shown: what is wrong, the smallest case, the line that shows it again."""
    lines = [f"{kernel.id} fails the check {outcome.check!r}: {outcome.message}"]
    if outcome.element is not None:
        lines.append(f"  worst      {outcome.element}")
    if outcome.case is not None:
        lines += [f"  after      {case}" for case in outcome.after]
        lines.append(f"  case       {outcome.case}")
        line = reproduction(kernel, outcome.check, outcome.case, outcome.after)
        lines.append(f"  reproduce  {line}")
    return "\n".join(lines)


def reproduction(kernel: Kernel, check: str, case: Case, after: Sequence[Case] = ()) -> str:
    """One line of Python that checks this kernel on this case, after others."""
    module = _module(kernel)
    place = "" if module is None else f", module={module!r}"
    before = f", after={[str(each) for each in after]}" if after else ""
    return (
        "from pytest_sparsity.testing import check_kernel; "
        f'check_kernel("{kernel.id}", "{check}", case="{case}"{before}{place})'
    )


def _case(given: Case | str) -> Case:
    return Case.parse(given) if isinstance(given, str) else given


def checks_named(checks: str | Iterable[str] | None) -> Sequence[str]:
    """The checks that were asked for; None asks for all.

    Raises:
        SparsityError: there is no such check, or none is asked for.
    """
    names = [checks] if isinstance(checks, str) else list(CHECKS if checks is None else checks)
    for name in names:
        named(name)
    if not names:
        raise SparsityError("checks is empty: name at least one check, or leave it out for all")
    return names


def _import(module: str) -> None:
    """Import a module by name or file."""
    if not module.endswith(".py"):
        importlib.import_module(module)
        return
    spec = importlib.util.spec_from_file_location(Path(module).stem, module)
    if spec is None or spec.loader is None or not os.path.isfile(module):
        raise SparsityError(f"module={module!r}: there is no such file")
    loaded = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles in it look their module up; conftest files share a name.
    sys.modules.setdefault(spec.name, loaded)
    # What is beside the file is found, as pytest has it; for this time and last of all, or a folder
    # that is called like a library would be taken for it.
    folder = str(Path(module).resolve().parent)
    sys.path.append(folder)
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(folder)


def _module(kernel: Kernel) -> str | None:
    """What to import so that the kernel is registered; None if it always is."""
    if kernel.module.startswith("pytest_sparsity."):
        return None
    # A file outside of packages can be imported by its path from everywhere.
    if "." in kernel.module and _importable(kernel.module, kernel.file):
        return kernel.module
    path = os.path.relpath(kernel.file)
    return kernel.file if path.startswith(os.pardir) else path


def _importable(name: str, file: str) -> bool:
    """Whether a new process that imports ``name`` gets ``file``."""
    origin, where, full = None, None, ""
    for part in name.split("."):
        full = f"{full}.{part}".lstrip(".")
        spec = PathFinder.find_spec(full, where)
        if spec is None:
            return False
        origin, where = spec.origin, spec.submodule_search_locations
    return origin is not None and os.path.realpath(origin) == os.path.realpath(file)


@functools.cache
def _pool() -> Pool:
    """The processes of this session; they cost seconds to start."""
    pool = Pool()
    atexit.register(pool.close)
    return pool


def _line(outcome: CheckResult) -> str:
    result = outcome.message
    if outcome.status == "passed":
        result = f"{outcome.examples} cases, tolerance used {outcome.tolerance:.0%}"
    return f"  {outcome.check:12}{outcome.status}: {result}"
