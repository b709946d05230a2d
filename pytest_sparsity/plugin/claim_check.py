"""The ``sparsity_claim`` fixture: judges a claim about a model, keeps and shows what was found."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pytest_sparsity.claims import store
from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.claim import investigate
from pytest_sparsity.claims.evidence import BrokenEvidence, CannotTest, Evidence
from pytest_sparsity.claims.finding import ClaimVerdict, Finding
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.plugin import junit
from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark
from pytest_sparsity.plugin.sent import FOUND
from pytest_sparsity.speed.gate.rules import SECOND_ROUNDS
from pytest_sparsity.sweep.session import SweepSession


class ClaimCheck:
    """One claim about one model."""

    def __init__(
        self,
        number: str,
        model: str,
        session: SweepSession,
        benchmark: PairedBenchmark,
        item: pytest.Item,
    ) -> None:
        def time_ratio(first: Callable[[], object], second: Callable[[], object]) -> Interval:
            if session.target.kind != "cpu":  # there, a contender is one CUDA graph
                raise CannotTest("a step of decoding is timed on a CPU only: --sparsity-target=cpu")
            contenders = {"first": first, "second": second}
            return benchmark(contenders, rounds=SECOND_ROUNDS).ratio("first", "second")

        self._claim = CATALOG[number]
        self._evidence = Evidence(session, model, time_ratio)
        self._item = item

    def check(self) -> Finding:
        """Judge the claim, and keep the finding in ``findings.jsonl`` of the report folder.

        The test passes if the claim is supported, refuted or not decided: each of these is a
        result.  It is skipped where the claim cannot be tested, and fails if the evidence
        contradicts itself.  With --sparsity-strict it also fails if the data do not decide.
        """
        __tracebackhide__ = True
        settings, started = self._evidence.settings, time.monotonic()
        try:
            finding = investigate(self._claim, self._evidence)
        except BrokenEvidence as broken:
            store.withdraw(settings.report, self._claim.number, self._evidence.model, str(broken))
            pytest.fail(f"the evidence is broken: {broken}", pytrace=False)
        store.keep(settings.report, finding, store.origin(self._evidence))
        self._send(finding, time.monotonic() - started)
        if finding.outcome is ClaimVerdict.UNTESTABLE:
            pytest.skip(f"{finding.outcome.value}: {finding.why}")
        if finding.outcome is ClaimVerdict.INCONCLUSIVE and settings.strict:
            pytest.fail(f"--sparsity-strict: inconclusive: {finding.why}", pytrace=False)
        return finding

    def _send(self, finding: Finding, seconds: float) -> None:
        """Send the finding to the reporter, and keep it as JUnit properties."""
        self._item.stash[FOUND] = {"finding": finding.to_json(), "seconds": seconds}
        self._item.user_properties += junit.of_finding(self._claim.sentence, finding)
