"""Outcomes of kernels' checks that an earlier run found and that are still true."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

from pytest_sparsity.checking.outcomes import Key, OutcomeKeys
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reporting import kernels
from pytest_sparsity.settings.settings import Settings

#: What is to be said of a part of a key that is another than before.
_PARTS = {
    "sources": "the kernel",
    "checks": "the checks",
    "examples": "the number of examples",
    "seed": "the seed",
    "machine": "the machine",
    "versions": "versions of packages",
    "compilers": "compilers",
    "environment": "environment variables",
}


class KnownOutcomes:
    """What the report folder of a sweep holds of kernels; nothing without a sweep.

    Only what passed counts: a failure is found again, and what was skipped may be possible now.

    Args:
        settings: of the session.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = OutcomeKeys()
        self._warned: set[str] = set()

    @cached_property
    def _stored(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        known = self._settings.sweep and not self._settings.rerun
        return kernels.stored(self._settings.report) if known else {}

    def key(self, kernel: Kernel, examples: int) -> Key | None:
        """What outcomes of ``kernel`` follow from; None where that is not known, or not needed."""
        if not self._settings.sweep:
            return None
        try:
            return self._keys.key(kernel, examples, self._settings.seed)
        except OSError:  # a file is gone: importing it tells
            return None

    def find(self, kernel: Kernel, check: str, key: Key | None) -> CheckResult | None:
        """The outcome of an earlier run, if everything that it follows from is the same."""
        line = self._stored.get((kernel.id, check))
        passed = line is not None and line["status"] == "passed"
        if line is None or not passed or key is None or line.get("key") != key:
            return None
        try:
            return CheckResult(
                kernel.id,
                check,
                "passed",
                examples=int(line["examples"]),
                tolerance=float(line["tolerance"]),
                figures=tuple(line["figures"]),
                seconds=float(line["seconds"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def sent(
        self, kernel: Kernel, outcome: CheckResult, key: Key | None, *, reused: bool
    ) -> dict[str, Any]:
        """An outcome as plain data: with its key, if it may stand for later ones."""
        changed = None if key is None else self._keys.changed(kernel)
        if changed is not None:
            self._warn(
                f"{changed} was changed while {kernel.id} was checked: what came of it is not kept "
                "for later runs"
            )
        element, case = outcome.element, outcome.case
        return asdict(outcome) | {
            "case": None if case is None else str(case),
            "element": None if element is None else str(element),
            "figures": list(outcome.figures),
            "begun": len(outcome.begun),
            "after": list(map(str, outcome.after)),
            "key": None if changed is not None else key,
            "reused": reused,
            "anew": "" if reused else self._difference(kernel, outcome, key),
        }

    def _difference(self, kernel: Kernel, outcome: CheckResult, key: Key | None) -> str:
        """What is not as it was when the check passed; empty if it did not, or there is none."""
        line = self._stored.get((kernel.id, outcome.check), {})
        before = line.get("key") if line.get("status") == "passed" else None
        if key is None or not isinstance(before, dict) or outcome.status == "skipped":
            return ""
        return next((told for part, told in _PARTS.items() if before.get(part) != key[part]), "")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            warnings.warn(SparsityWarning(sentence), stacklevel=2)
