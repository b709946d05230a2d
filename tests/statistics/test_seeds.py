"""Figures of several seeds: what is pooled, and how often the interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_sparsity.core.statistics import Interval, pool_seeds


def figure(estimate: float, reach: float = 1.0, n: int = 50, confidence: float = 0.95) -> Interval:
    return Interval(estimate, estimate - reach, estimate + reach, n, confidence, math.nan)


def test_seeds_that_measured_the_same_show_nothing_more() -> None:
    found = pool_seeds([figure(2.0), figure(2.0)], common=1.0)
    assert (found.interval.low, found.interval.high) == (1.0, 3.0)
    assert (found.interval.n, found.between, found.beyond) == (50, 0.0, 0.0)


def test_seeds_that_share_nothing_are_as_good_as_more_documents() -> None:
    found = pool_seeds([figure(2.0)] * 4, common=0.0)
    assert found.interval.high == pytest.approx(2 + 1 / 2)
    assert found.interval.n == 200


def test_what_differs_between_two_seeds_is_uncertain() -> None:
    found = pool_seeds([figure(1.0), figure(3.0)], common=1.0)
    assert found.between == pytest.approx(math.sqrt(2))
    assert found.beyond == pytest.approx(math.sqrt(2))
    t = stats.t.isf(0.025, 1)
    assert found.interval.high == pytest.approx(2 + math.hypot(1, t))
    assert found.between_low == pytest.approx(0.446 * found.between, rel=0.01)
    assert found.between_high == pytest.approx(31.9 * found.between, rel=0.01)


def test_sides_stay_apart() -> None:
    one = Interval(0.5, 0.1, 0.6, 50, 0.95, math.nan)
    found = pool_seeds([one, one], common=1.0).interval
    assert (found.low, found.high) == pytest.approx((0.1, 0.6))


def test_half_of_the_documents_in_common() -> None:
    found = pool_seeds([figure(2.0), figure(2.0)], common=0.5)
    assert found.interval.high == pytest.approx(2 + math.sqrt(0.5 + 0.25))
    assert found.interval.n == 75  # of 100, each of which one of two seeds reads by 3 in 4


def test_a_seed_without_limits_leaves_none() -> None:
    found = pool_seeds([figure(1.0), figure(2.0, math.inf)], common=1.0)
    assert (found.interval.low, found.interval.high) == (-math.inf, math.inf)
    assert "a seed has none" in found.interval.note


@pytest.mark.parametrize(
    ("found", "common", "words"),
    [
        ([figure(1.0)], 1.0, "at least 2 seeds, not 1"),
        ([figure(1.0), figure(1.0, confidence=0.9)], 1.0, "one confidence, not 0.95, 0.9"),
        ([figure(1.0)] * 2, 1.5, "common must be a share from 0 to 1, not 1.5"),
        ([figure(1.0)] * 2, math.nan, "common must be a share from 0 to 1, not nan"),
    ],
)
def test_what_cannot_be_pooled(found, common, words) -> None:
    with pytest.raises(ValueError, match=words):
        pool_seeds(found, common)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("documents", [24, 96])
@pytest.mark.parametrize("effect", [0.0, 0.5, 3.0])
def test_the_interval_holds_the_true_mean(seeds: int, documents: int, effect: float) -> None:
    """Of all text, where seeds draw from 100 documents and have an effect of their own.

    ``effect`` is in standard errors of one seed.  In 600 runs 93 % or less than 541 times happens
    once in 100.
    """
    rng = np.random.default_rng(seeds * 1000 + documents * 10 + int(2 * effect))
    t, held = float(stats.t.isf(0.025, documents - 1)), 0
    for _ in range(600):
        pool = rng.normal(size=100)
        found = []
        for _ in range(seeds):
            sample = rng.choice(pool, documents, replace=False)
            error = sample.std(ddof=1) / math.sqrt(documents)
            own = sample.mean() + rng.normal(0, effect / math.sqrt(documents))
            found.append(figure(own, t * error))
        interval = pool_seeds(found, documents / 100).interval
        held += interval.low <= 0 <= interval.high
    assert held >= 541
