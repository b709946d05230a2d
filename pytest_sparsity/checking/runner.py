"""Runs a check of a kernel in this process: draws cases, and shrinks one that fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.check import Check
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.consistency import check_record
from pytest_sparsity.checking.contracts import check_contract
from pytest_sparsity.checking.emulation import compiling, launching
from pytest_sparsity.checking.failure import CannotCheck, CheckFailure, Element
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel

#: Cases drawn unless told otherwise.
EXAMPLES = 100
#: Cases of a fixed list per drawn one: all of every list by default, a part of long ones in a
#: quick look.
_LISTED = 4
#: Seconds of processor time that shrinking may take: a busy machine does not end it earlier.
_SHRINKING = 20.0


@dataclass(frozen=True)
class CheckResult:
    """What came of one check of one kernel.

    Attributes:
        kernel: id of the kernel.
        check: name of the check.
        status: ``skipped`` if the check does not apply or the kernel cannot run here.
        message: what is wrong, or why it, or some of its cases, was skipped.
        case: the smallest case known to fail.
        examples: cases that were run, without those of shrinking.
        tolerance: the largest share of the error bound that a result took.
        element: the worst element of the failing result, if it is about values.
        figures: what was measured, case by case, by checks that measure.
        begun: the cases up to the first that failed.
        after: cases that must run in the same process before ``case`` fails.
        seconds: that it took, with what it had to start and compile; 0 where nothing was timed.
    """

    kernel: str
    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    case: Case | None = None
    examples: int = 0
    tolerance: float = 0.0
    element: Element | None = None
    figures: tuple[str, ...] = ()
    begun: tuple[Case, ...] = ()
    after: tuple[Case, ...] = ()
    seconds: float = 0.0


def run(
    kernel: Kernel,
    check: str,
    examples: int = EXAMPLES,
    seed: int = 0,
    *,
    case: Case | None = None,
    after: Sequence[Case] = (),
    on_case: Callable[[Case], None] = lambda case: None,
    device: str = "cpu",
    disposable: bool = False,
) -> CheckResult:
    """Check ``kernel``; the same seed draws the same cases.

    Args:
        kernel: to be checked.
        check: name in ``CHECKS``.
        examples: cases to draw, of a check that draws them; of a list at most four times as many.
        seed: of the drawing.
        case: check this one only.
        after: run these before it, whatever comes of them.
        on_case: called with each case before the kernel is.
        device: where operands are.
        disposable: a crash of this process does no harm; more is found then.

    Raises:
        SparsityError: there is no such check, the number of examples is not positive, or the
            case is not one for this check or op.
    """
    found = named(check)
    if examples < 1:
        raise SparsityError(f"examples={examples}: give at least 1")
    if case is not None and found.values not in ("", case.values):
        raise SparsityError(f"case: values={case.values}: {check} needs values={found.values}")
    reason = None if check == "compile" else _missing(kernel, device)
    if reason is None and not found.applies(kernel):
        reason = f"{check} is for {found.condition}"
    reason = reason or found.unavailable(device)
    if reason is not None:
        return CheckResult(kernel.id, check, "skipped", reason)
    check_record(kernel.op)
    check_contract(record(kernel.op), kernel)
    if case is not None:
        case = record(kernel.op).checked(case)
    attempts = _Attempts(
        found, on_case, lambda case: Trial(kernel, case, device=device, disposable=disposable)
    )
    for earlier in after:
        attempts.ignore(record(kernel.op).checked(earlier))
    own, cases = record(kernel.op), found.cases(kernel) if case is None else [case]
    # What a kernel does not take is for the check of its contract alone.
    bound = case is None and check != "contract"
    if isinstance(cases, Space):
        drawn = cases.strategy()
        drawn = drawn.map(lambda case: own.taken(case, kernel)) if bound else drawn
        attempts.draw(drawn, max(1, examples // found.cost), seed)
    else:
        listed = dict.fromkeys(own.taken(each, kernel) if bound else each for each in cases)
        attempts.go_through(_thinned(list(listed), _LISTED * examples))
    passed = CheckResult(
        kernel.id,
        check,
        "passed" if attempts.count or not attempts.skipped else "skipped",
        attempts.told_skipped(),
        examples=attempts.count,
        tolerance=attempts.tolerance,
        figures=tuple(attempts.figures),
    )
    if attempts.failure is None:
        return passed
    failing, finding = attempts.failure
    return replace(
        passed,
        status="failed",
        message=finding.what,
        case=failing,
        element=finding.element,
        begun=tuple(attempts.begun),
        after=tuple(after),
    )


def _missing(kernel: Kernel, device: str) -> str | None:
    """Why a kernel cannot run on this device, or in the emulation that stands for it."""
    if kernel.source is None or device != "cpu":
        return kernel.unavailable()
    return compiling.obstacle(kernel.source)


def _thinned(cases: Sequence[Case], most: int) -> Sequence[Case]:
    """At most so many of the list, evenly spread over it."""
    return cases[:: max(1, -(-len(cases) // most))]


def named(check: str) -> Check:
    """The check of that name.

    Raises:
        SparsityError: there is none.
    """
    if check not in CHECKS:
        raise SparsityError(f"there is no check {check!r}; use one of {', '.join(CHECKS)}")
    return CHECKS[check]


class _Attempts:
    """One check on case after case, until one fails."""

    def __init__(
        self, check: Check, on_case: Callable[[Case], None], trial: Callable[[Case], Trial]
    ) -> None:
        self.count = 0
        self.tolerance = 0.0
        self.failure: tuple[Case, CheckFailure] | None = None
        self.figures: list[str] = []
        self.begun: list[Case] = []
        #: Reasons why cases could not be checked, and how many.
        self.skipped: Counter[str] = Counter()
        self._check = check
        self._on_case = on_case
        self._trial = trial
        self._failures: dict[Case, CheckFailure] = {}
        self._deadline = 0.0

    def told_skipped(self) -> str:
        """How many cases were skipped and why; empty if none was."""
        if not self.skipped:
            return ""
        reason, _ = self.skipped.most_common(1)[0]
        skipped = self.skipped.total()
        most = "" if not self.count else f"{skipped} of {skipped + self.count} cases skipped: "
        return f"{most}{reason}"

    def go_through(self, cases: Iterable[Case]) -> None:
        """Try each."""
        for case in cases:
            finding = self._attempt(case)
            if finding is not None:
                self.failure = case, finding
                return

    def ignore(self, case: Case) -> None:
        """Try it, for what it leaves behind."""
        self._on_case(case)
        with suppress(CheckFailure, CannotCheck):
            self._check.run(self._trial(case))

    def draw(self, cases: st.SearchStrategy[Case], examples: int, seed: int) -> None:
        """Try that many, and shrink the first that fails."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=False,
            phases=(Phase.generate, Phase.shrink),
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @hypothesis.given(cases)
        def attempt(case: Case) -> None:
            finding = self._shrinking(case) if self._failures else self._attempt(case)
            if finding is not None:
                if not self._failures:
                    self._deadline = time.process_time() + _SHRINKING
                self._failures[case] = finding
                self.failure = case, finding
                # From here always: hypothesis shrinks failures that come from the same line.
                raise finding

        try:
            attempt()
        except CheckFailure:
            pass
        except Flaky:
            # A race: it was seen once, and not when the same was tried again.
            assert self.failure is not None
            case, finding = self.failure
            self.failure = (
                case,
                CheckFailure(f"{finding.what}, though not every time", finding.element),
            )

    def _shrinking(self, case: Case) -> CheckFailure | None:
        """As ``_attempt``, but what takes too long passes, except what is known to fail."""
        if time.process_time() > self._deadline:
            return self._failures.get(case)
        count = self.count
        finding = self._attempt(case)
        self.count = count
        return finding

    def _attempt(self, case: Case) -> CheckFailure | None:
        self.count += 1
        if not self._failures:
            self.begun.append(case)
        self._on_case(case)
        trial = self._trial(case)
        launching.begin(case.seed)
        try:
            used = self._check.run(trial)
        except CannotCheck as missing:
            self.count -= 1
            self.skipped[missing.reason] += 1
            return None
        except CheckFailure as finding:
            # Its cause and its frames hold operands, which may be large.
            found = finding.with_traceback(None)
            found.__cause__ = found.__context__ = None
            return found
        self.tolerance = max(self.tolerance, used)
        self.figures += [f"{case}: {figure}" for figure in trial.figures]
        return None
