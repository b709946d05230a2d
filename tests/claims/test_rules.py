from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.claims import rules
from pytest_sparsity.claims.finding import ClaimVerdict
from pytest_sparsity.core.statistics import Interval

NUMBERS = st.floats(-10, 10)
LIMITED = (rules.below, rules.above, rules.at_least)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, estimate, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
    return Interval(estimate, low, high, n=12)


@given(intervals(), NUMBERS, st.sampled_from(LIMITED))
def test_decides_only_where_every_value_in_the_interval_agrees(interval, limit, rule):
    inside = [interval.low, interval.estimate, interval.high]
    single = {rule(Interval(x, x, x, n=12), limit) for x in inside}
    assert ClaimVerdict.INCONCLUSIVE not in single
    outcome = rule(interval, limit)
    assert outcome is (single.pop() if len(single) == 1 else ClaimVerdict.INCONCLUSIVE)


@given(intervals(), NUMBERS)
def test_below_is_never_supported_together_with_at_least(interval, limit):
    swapped = {
        ClaimVerdict.SUPPORTED: ClaimVerdict.REFUTED,
        ClaimVerdict.REFUTED: ClaimVerdict.SUPPORTED,
    }
    below = rules.below(interval, limit)
    assert rules.at_least(interval, limit) is swapped.get(below, below)


@given(intervals(), st.floats(0, 10))
def test_within_asks_for_both_sides(interval, margin):
    outcome = rules.within(interval, -margin, margin)
    if outcome is ClaimVerdict.SUPPORTED:
        assert max(abs(interval.low), abs(interval.high)) <= margin
    elif outcome is ClaimVerdict.REFUTED:
        assert min(abs(interval.low), abs(interval.high)) > margin
        assert (interval.low > 0) == (interval.high > 0)
    else:
        assert interval.low <= margin
        assert interval.high >= -margin


@pytest.mark.parametrize("rule", LIMITED)
@pytest.mark.parametrize("ends", [(-math.inf, math.inf), (math.nan, math.nan)])
def test_an_interval_without_limits_decides_nothing(rule, ends):
    interval = Interval(math.nan, *ends, n=12)
    assert rule(interval, 0.0) is ClaimVerdict.INCONCLUSIVE
    assert rules.within(interval, -1, 1) is ClaimVerdict.INCONCLUSIVE


def test_no_difference_found_is_not_equivalence():
    assert rules.within(Interval(0.0, -0.2, 0.2, n=12), -0.1, 0.1) is ClaimVerdict.INCONCLUSIVE
    assert rules.within(Interval(0.05, 0.02, 0.08, n=12), -0.1, 0.1) is ClaimVerdict.SUPPORTED


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        (rules.below, ClaimVerdict.REFUTED),
        (rules.above, ClaimVerdict.REFUTED),
        (rules.at_least, ClaimVerdict.SUPPORTED),
    ],
)
def test_a_value_exactly_at_the_limit(rule, outcome):
    assert rule(Interval(0.0, 0.0, 0.0, n=12), 0.0) is outcome


@given(st.lists(st.sampled_from(ClaimVerdict), min_size=1))
def test_all_of(outcomes):
    found = rules.all_of(outcomes)
    assert found in outcomes
    if ClaimVerdict.REFUTED in outcomes:
        assert found is ClaimVerdict.REFUTED
    elif ClaimVerdict.UNTESTABLE in outcomes:
        assert found is ClaimVerdict.UNTESTABLE
    assert (found is ClaimVerdict.SUPPORTED) == (set(outcomes) == {ClaimVerdict.SUPPORTED})


def test_nothing_to_hold_is_no_support():
    with pytest.raises(ValueError, match="at least one part"):
        rules.all_of([])


def test_confidence_is_shared_among_parts():
    assert rules.confidence(1) == 0.95
    assert rules.confidence(6) == pytest.approx(1 - 0.05 / 6)
    with pytest.raises(ValueError, match="not 0"):
        rules.confidence(0)
