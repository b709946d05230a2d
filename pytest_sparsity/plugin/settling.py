"""When all tests are done: which suspects hold for the run as a whole.

A test alone cannot know what the others will find.  In the process that owns the terminal all
decisions of the run come together, from all processes, and are stepped down
(:mod:`pytest_sparsity.core.statistics.family`).  The test of a suspect that holds for the run is
reported once more, as a failure, so that all who read reports see it: the terminal, JUnit files,
``--lf``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_sparsity.plugin.deciding import RED, SUSPECT
from pytest_sparsity.plugin.sent import SETTLED, Sent

Decided = Mapping[str, Any]


@dataclass
class Family:
    """The decisions of a run, those of this session alone.

    Attributes:
        error: chance that a run in which nothing is wrong is red.
        p: of every decision for the run, by id; empty until it is settled.
    """

    error: float
    p: dict[str, float] = field(default_factory=dict)
    _decided: dict[str, Decided] = field(default_factory=dict)
    _tests: dict[str, Any] = field(default_factory=dict)  # id of a decision to the test's report

    def collect(self, sent: Sent) -> None:
        """Take the decisions of one test; of one that is run again the last ones count."""
        for decided in sent.decided:
            id = decided["evidence"]["id"]
            self._decided[id], self._tests[id] = decided, sent.report

    def settle(self, seed: int) -> None:
        """Step down over all decisions."""
        if not self._decided:
            return
        from pytest_sparsity.core.statistics.family import Evidence, adjusted

        evidence = [Evidence.from_json(each["evidence"]) for each in self._decided.values()]
        # What was red at its test stays so, also where a test decided more than was expected.
        self.p = {
            id: min(p, self.error) if self._decided[id]["state"] == RED else p
            for id, p in adjusted(evidence, seed=seed).items()
        }

    @property
    def size(self) -> int:
        """How many decisions were made."""
        return len(self._decided)

    @property
    def told(self) -> str:
        """How the run was settled, in a sentence."""
        return (
            f"{self.size} decisions; a run in which nothing is wrong is red with a chance of at "
            f"most {100 * self.error:g} % (--sparsity-run-error)"
        )

    @property
    def as_json(self) -> dict[str, object]:
        """How the run was settled, for summary.json."""
        return {
            "error": self.error,
            "decisions": self.size,
            "looks": "group-sequential, planned before data are seen, Pocock",
            "control": "family-wise error, step-down max-t, joint bootstrap; at least Holm",
        }

    @property
    def looks(self) -> dict[str, int]:
        """By id of a cell, the look at which its verdicts were spoken."""
        return {each["cell"]: each["look"] for each in self._decided.values() if "cell" in each}

    def standing_out(self) -> Iterable[tuple[str, Decided]]:
        """What is beyond its limit by itself, the least p for the run first."""
        found = [(i, d) for i, d in self._decided.items() if d["state"] in (RED, SUSPECT)]
        return sorted(found, key=lambda pair: (self.p.get(pair[0], 1.0), pair[0]))

    def holds(self, id: str) -> bool:
        """Whether a decision stands that is beyond its limit by itself."""
        return self._decided[id]["state"] == RED or self.p.get(id, 1.0) <= self.error

    def promoted(self) -> list[tuple[Decided, Any]]:
        """Suspects that hold for the run, and the reports of their tests."""
        return [
            (decided, self._tests[id])
            for id, decided in self.standing_out()
            if decided["state"] == SUSPECT and self.holds(id)
        ]

    def as_failures(self, gate: str) -> list[pytest.TestReport]:
        """Reports of the tests whose suspects hold for the run, each once, that had not failed.

        Args:
            gate: of ``--sparsity-gate``: a regression that only warns fails no test.
        """
        reasons: dict[str, list[str]] = {}
        tests = {}
        for decided, report in self.promoted():
            warned = decided["kind"] != "budget" and gate == "warn"
            if report.failed or warned:
                continue
            tests[report.nodeid] = report
            p = self.p[decided["evidence"]["id"]]
            reasons.setdefault(report.nodeid, []).append(
                f"{decided['message']}; it holds for the run (p = {p:.2g} among {self.size} "
                f"decisions, at most {self.error:g} is red)"
            )
        return [_failure(tests[nodeid], "\n".join(said)) for nodeid, said in reasons.items()]


def _failure(report: Any, reason: str) -> pytest.TestReport:
    made = pytest.TestReport(
        report.nodeid, report.location, {}, "failed", reason, "call", duration=0.0
    )
    setattr(made, SETTLED, True)
    return made
