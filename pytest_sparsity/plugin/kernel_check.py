"""The ``kernel_check`` fixture: hold a kernel to its op, fail with the smallest counter-example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import pytest

from pytest_sparsity.checking.api import KernelFailure, Report, check_kernel
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.plugin.sent import CHECKED
from pytest_sparsity.settings.settings import Settings


class KernelCheck:
    """Runs checks in processes of their own: a crash or a hang is a failure of one test."""

    def __init__(self, settings: Settings, item: pytest.Item) -> None:
        self._settings = settings
        self._sent = item.stash[CHECKED] = []

    def __call__(
        self,
        kernel: str | Kernel | Callable[..., Any],
        checks: str | Iterable[str] | None = None,
        *,
        examples: int | None = None,
    ) -> Report:
        """Run ``checks`` on ``kernel``; the test fails at the first that fails.

        The test is skipped if no check can run here, for want of a device or a compiler.

        Args:
            kernel: ``"op/name"``, or the function that was registered.
            checks: names of checks; all by default.
            examples: cases that each check draws; as many as --sparsity-examples by default.

        Raises:
            SparsityError: there is no such kernel or check.
        """
        settings = self._settings
        failed: KernelFailure | None = None
        try:
            report = check_kernel(
                kernel, checks, examples=examples or settings.examples, seed=settings.seed
            )
        except KernelFailure as failure:
            failed = failure
        if failed is not None:  # out here, or pytest would show it twice
            self._sent.append(_plain(failed.outcome))
            pytest.fail(str(failed), pytrace=False)
        self._sent.extend(_plain(outcome) for outcome in report.outcomes)
        if all(outcome.status == "skipped" for outcome in report.outcomes):
            pytest.skip(report.outcomes[0].message)
        return report


def _plain(outcome: CheckResult) -> dict[str, Any]:
    element, case = outcome.element, outcome.case
    return asdict(outcome) | {
        "case": None if case is None else str(case),
        "element": None if element is None else str(element),
        "figures": list(outcome.figures),
        "begun": len(outcome.begun),
        "after": list(map(str, outcome.after)),
    }
