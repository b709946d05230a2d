"""The figures behind claims 5, 9 and 12, as pure functions of losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.claims.catalog_range import compression, furthest, range_ratio
from pytest_sparsity.claims.catalog_recovery import kept_share, slope_ratio

SKIPPED = np.array([0.0, 0.25, 0.4, 0.5])
LOSSES = st.lists(st.floats(0.001, 0.5), min_size=3, max_size=3).map(
    lambda steps: np.cumsum([0.0, *steps])[None]
)


@given(LOSSES, st.floats(0.0, 1.0))
def test_furthest_is_where_the_budget_is_reached(losses, budget):
    (reached,) = furthest(losses, SKIPPED, budget)
    if losses[0, -1] <= budget:
        assert reached == math.inf
    else:
        assert np.interp(reached, SKIPPED, losses[0]) == pytest.approx(budget, abs=1e-9)


@given(LOSSES, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_larger_budget_goes_further(losses, one, other):
    low, high = sorted((one, other))
    assert furthest(losses, SKIPPED, low)[0] <= furthest(losses, SKIPPED, high)[0]


def test_furthest_of_several_draws():
    losses = np.array([[0.0, 0.1, 0.3, 0.2], [0.5, 0.6, 0.7, 0.8], [0.0, 0.0, 0.0, 0.1]])
    first, second, third = furthest(losses, SKIPPED, 0.2)
    assert first == pytest.approx(0.325)  # and not where it comes back
    assert math.isnan(second)
    assert third == math.inf


def test_range_ratio():
    with_spon = np.array([0.5, math.inf, 0.4, math.inf, math.nan])
    without = np.array([0.4, 0.4, math.inf, math.inf, 0.4])
    found = range_ratio(with_spon, without, 0.5)
    assert found[:3] == pytest.approx([0.6 / 0.5, 0.6 / 0.5, 0.5 / 0.6])
    assert np.isnan(found[3:]).all()
    # Spontaneous neurons give back some sparsity: 0.58 of the one side is beyond the other's end.
    assert np.isnan(range_ratio(np.array([math.inf, 0.58]), np.array([0.58, math.inf]), 0.5)).all()
    assert compression(np.array([0.0, 0.5]), 0.6) == pytest.approx([1, 2])


def test_slope_ratio():
    straight, bent, flat = np.array(
        [[3.25, 3.4, 3.5, 3.6], [3.0, 3.15, 3.2, 3.5], [3.1, 3.1, 3.2, 3.5]]
    )
    assert slope_ratio(np.array([straight, bent])) == pytest.approx([1.0, 3.0])
    assert np.isnan(slope_ratio(flat[None])).all()


def test_kept_share():
    home, away = np.array([[2.5, 3.0, 2.0]] * 3), np.array([[2.75, 3, 2], [2.5, 2, 3], [3, 3, 2]])
    assert kept_share([home, away])[[0, 2]] == pytest.approx([0.5, 0.0])
    assert np.isnan(kept_share([home, away])[1])  # nothing was lost away
    assert np.isnan(kept_share([away, home])[2])  # nothing was recovered at home
