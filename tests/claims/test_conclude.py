"""How parts add up to a finding and its reason."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_sparsity.claims.claim import at_least, beside, conclude, untestable
from pytest_sparsity.claims.finding import ClaimVerdict, limit_in_unit
from pytest_sparsity.core.statistics import Interval

EVIDENCE = SimpleNamespace(model="m", used=["a"])


def share(label, estimate, asked=0.5):
    interval = Interval(estimate, estimate - 0.1, estimate + 0.1, 12)
    return at_least(label, interval, "share", asked)


def test_only_the_figures_that_decide_are_the_reason():
    parts = [share("good", 0.9), share("bad", 0.2), beside("aside", Interval(0, 0, 0, 1), "count")]
    finding = conclude("7", EVIDENCE, parts)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert finding.why == "bad 20.0 % [10.0, 30.0] (at least 50 % claimed)"
    assert [effect.label for effect in finding.effects] == ["good", "bad", "aside"]


@pytest.mark.parametrize(("count", "end"), [(3, "0.0 % [-10.0, 10.0]"), (5, "and 2 more")])
def test_a_long_reason_is_cut(count, end):
    finding = conclude("7", EVIDENCE, [share(f"bad {n}", 0.0) for n in range(count)])
    assert finding.why.removesuffix(" (at least 50 % claimed)").endswith(end)
    assert "bad 2" in finding.why
    assert "bad 3" not in finding.why
    assert len(finding.effects) == count


def test_what_cannot_be_tested_is_said_once_and_has_no_figure():
    parts = [share("good", 0.9), untestable("at chance"), untestable("at chance")]
    finding = conclude("7", EVIDENCE, parts, remark="by the way")
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert finding.why == "at chance; by the way"
    assert [effect.label for effect in finding.effects] == ["good"]


@pytest.mark.parametrize(
    ("limit", "unit", "text"),
    [
        (0.02, "relative", "+2 %"),
        (-0.05, "points", "-5 points"),
        (0.0, "points", "0 points"),
        (0.45, "share", "45 %"),
        (0.05, "nats", "0.05"),
    ],
)
def test_what_is_asked_of_a_figure(limit, unit, text):
    assert limit_in_unit(limit, unit) == text
