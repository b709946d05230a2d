"""The ``kernel_check`` fixture: hold a kernel to its op, fail with the smallest counter-example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pytest_sparsity.checking.api import KernelFailure, Report, checks_named, report, run_apart
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.kernels.registry import Kernel, find
from pytest_sparsity.plugin.known_outcomes import KnownOutcomes
from pytest_sparsity.plugin.sent import CHECKED
from pytest_sparsity.settings.settings import Settings


class KernelCheck:
    """Runs checks in processes of their own: a crash or a hang is a failure of one test."""

    def __init__(self, settings: Settings, known: KnownOutcomes, item: pytest.Item) -> None:
        self._settings = settings
        self._known = known
        self._sent = item.stash[CHECKED] = []

    def __call__(
        self,
        kernel: str | Kernel | Callable[..., Any],
        checks: str | Iterable[str] | None = None,
        *,
        examples: int | None = None,
    ) -> Report:
        """Run ``checks`` on ``kernel``; the test fails at the first that fails.

        The test is skipped if no check can run here, for want of a device or a compiler.  In a
        sweep, what passed in an earlier run of the report folder is not run again while nothing
        has changed that it depends on.

        Args:
            kernel: ``"op/name"``, or the function that was registered.
            checks: names of checks; all by default.
            examples: cases that each check draws; as many as --sparsity-examples by default.

        Raises:
            SparsityError: there is no such kernel or check.
        """
        names, found = checks_named(checks), find(kernel)
        drawn = examples or self._settings.examples
        failure = ""
        try:
            outcomes = report(found, (self._outcome(found, name, drawn) for name in names))
        except KernelFailure as failed:
            failure = str(failed)
        if failure:  # out here, or pytest would show it twice
            pytest.fail(failure, pytrace=False)
        if all(outcome.status == "skipped" for outcome in outcomes.outcomes):
            pytest.skip(outcomes.outcomes[0].message)
        return outcomes

    def _outcome(self, kernel: Kernel, check: str, examples: int) -> CheckResult:
        key = self._known.key(kernel, examples)
        known = self._known.find(kernel, check, key)
        outcome = known or run_apart(kernel, check, examples, self._settings.seed)
        self._sent.append(self._known.sent(kernel, outcome, key, reused=known is not None))
        return outcome
