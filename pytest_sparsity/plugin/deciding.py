"""How sure a decision must be to be red by itself, among all that a run is going to make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.sent import DECIDED
from pytest_sparsity.plugin.state import state_of

if TYPE_CHECKING:
    from pytest_sparsity.core.statistics.family import Evidence
    from pytest_sparsity.sweep.verdict import Verdict

_NUMBER = pytest.StashKey[int]()
#: What became of a decision at its test.
RED, SUSPECT, FINE = "red", "suspect", "fine"


def level_of(item: pytest.Item) -> float:
    """The largest p at which a decision of ``item`` is red whatever others of its run say.

    The run's error is shared out among all decisions that were collected (Bonferroni); what is
    suspect with more is held against the others when all are made, see :mod:`.settling`.
    """
    return state_of(item.config).settings.run_error / max(1, number_of(item.session))


def level_of_next(item: pytest.Item, decisions: int = 1) -> float:
    """The same where nobody knows how often ``item`` will decide: its share is spent in parts.

    The first time 1/2 of it, then 1/6, 1/12 and so on, which add up to 1.  What that leaves out is
    suspect, and comes back when all are made and counted.

    Args:
        item: the test.
        decisions: that are made this time.
    """
    made = len(item.stash.get(DECIDED, ()))
    return level_of(item) / ((made + 1) * (made + 2)) / max(1, decisions)


def number_of(session: pytest.Session) -> int:
    """How many decisions the collected tests are going to make, each at least one.

    Every process of pytest-xdist collects all tests, and finds the same.
    """
    stash = session.config.stash
    if _NUMBER not in stash:
        stash[_NUMBER] = sum(_made_by(item) for item in session.items)
    return stash[_NUMBER]


def _made_by(item: pytest.Item) -> int:
    state = state_of(item.config)
    names = set(getattr(item, "fixturenames", ()))
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    found = 0
    if "cell_degradation" in names and (cell := params.get("sparsity_cell")) is not None:
        if not cell.configuration.is_reference:
            found += max(1, len(state.session.budgets.of(cell)))
    elif not names.isdisjoint({"degradation", "cell_degradation"}):
        found += 1
    if "accuracy_gate" in names:
        found += params.get("stored_record") is not None
    if "speed_gate" in names and state.settings.gate != "off":
        found += 1
    return found


def tell(item: pytest.Item, kind: str, state: str, evidence: Evidence, **about: Any) -> None:
    """Leave a decision on its test, for the process in which the run is settled.

    Args:
        item: the test.
        kind: ``budget``, ``accuracy`` or ``speed``.
        state: :data:`RED`, :data:`SUSPECT` or :data:`FINE`.
        evidence: against it.
        about: ``message`` (one line), and where there is one ``cell`` and ``look``, or ``gated``,
            the id of the gate's decision.
    """
    plain = {"kind": kind, "state": state, "evidence": evidence.to_json(), **about}
    item.stash.setdefault(DECIDED, []).append(plain)


def tell_verdict(item: pytest.Item, verdict: Verdict) -> None:
    """The same of a verdict over a budget; of what has none there is nothing to tell."""
    if verdict.evidence is None:
        return
    state = {"fail": RED, "suspect": SUSPECT}.get(verdict.outcome.value, FINE)
    cell = verdict.comparison.cell.id
    message = verdict.message
    tell(item, "budget", state, verdict.evidence, message=message, cell=cell, look=verdict.look)
