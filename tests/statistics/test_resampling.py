"""Bootstraps of any figure, and rank correlations: coverage, pairing, degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from pytest_sparsity.core.statistics import bootstrap, paired_ratio, rank_correlation, spearman


def test_a_ratio_of_sums_agrees_with_its_own_interval() -> None:
    rng = np.random.default_rng(0)
    below = rng.gamma(4, 1.0, 80)
    above = 0.6 * below + rng.normal(0, 0.2, 80)
    table = np.stack([above, below], axis=1)
    found = bootstrap([table], lambda sums: sums[0][:, 0] / sums[0][:, 1], seed=1)
    known = paired_ratio(above, below, seed=1)
    assert found.estimate == pytest.approx(known.estimate)
    assert found.low == pytest.approx(known.low, abs=0.02)
    assert found.high == pytest.approx(known.high, abs=0.02)
    assert found.detectable == pytest.approx(known.detectable, rel=0.1)
    assert found.n == 80


def test_columns_of_a_unit_stay_together() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 100, 50)
    table = np.stack([noise, noise + 1], axis=1)  # paired: the difference is 1 in every unit
    found = bootstrap([table], lambda sums: (sums[0][:, 1] - sums[0][:, 0]) / 50, seed=0)
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(1.0)


@pytest.mark.parametrize("place", [0, 19])
def test_every_unit_may_be_drawn_more_than_once(place: int) -> None:
    table = np.zeros((20, 1))
    table[place] = 1.0
    found = bootstrap([table], lambda sums: sums[0][:, 0], seed=0)
    assert found.low == 0.0
    assert found.high >= 2.0


def test_groups_are_drawn_by_themselves() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(40, 1)), rng.normal(size=(400, 1))
    found = bootstrap([one, other], lambda sums: sums[0][:, 0] / 40 - sums[1][:, 0] / 400, seed=0)
    error = math.sqrt(one.var() / 40 + other.var() / 400)
    assert found.n == 440
    assert found.high - found.low == pytest.approx(2 * 2.02 * error, rel=0.12)


@pytest.mark.slow
def test_a_ratio_of_slopes_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    runs, hits = 300, 0
    for seed in range(runs):
        size = rng.gamma(5, 0.2, (40, 1))
        table = size * [1.0, 2.0, 5.0] + rng.normal(0, 0.5, (40, 3))
        found = bootstrap(
            [table],
            lambda sums: (sums[0][:, 2] - sums[0][:, 1]) / (sums[0][:, 1] - sums[0][:, 0]),
            seed=seed,
            resamples=500,
        )
        hits += found.low <= 3.0 <= found.high
    assert binomtest(hits, runs).proportion_ci(0.999).high > 0.93
    assert binomtest(hits, runs).proportion_ci(0.999).low < 0.98


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.random.default_rng(4).normal(size=(20, 1))
    found = [bootstrap([table], lambda sums: sums[0][:, 0], seed=seed) for seed in (5, 5, 6)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_draws_that_do_not_define_the_figure_may_have_been_anything() -> None:
    table = np.array([[1.0], *[[0.0]] * 9])

    def ratio(sums):
        return sums[0][:, 0] / sums[0][:, 0]  # undefined where the first unit was not drawn

    found = bootstrap([table], ratio, seed=0)
    assert found.estimate == 1.0
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert "draws do not define it" in found.note
    assert found.detectable == math.inf


def test_too_few_units_set_no_limits() -> None:
    found = bootstrap([np.ones((30, 1)), np.ones((4, 1))], lambda s: s[0][:, 0], seed=0)
    assert (found.estimate, found.low, found.high) == (30.0, -math.inf, math.inf)
    assert "4 are too few" in found.note


@pytest.mark.parametrize(
    ("groups", "word"),
    [
        ([], "groups must not be empty"),
        ([[1.0, 2.0]], r"groups\[0\] must be a non-empty \[units, columns\]"),
        ([np.ones((5, 1)), np.zeros((0, 1))], r"groups\[1\] must be a non-empty"),
        ([[[1.0], [math.nan]]], r"groups\[0\] must be finite, at \[1, 0\] it is nan"),
    ],
)
def test_bad_groups_are_refused(groups, word) -> None:
    with pytest.raises(ValueError, match=word):
        bootstrap(groups, lambda sums: sums[0][:, 0], seed=0)


def test_bad_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, not 1"):
        bootstrap([np.ones((5, 1))], lambda sums: sums[0][:, 0], seed=0, confidence=1.0)


# rank correlation


def test_spearman_is_that_of_scipy_with_ties_too() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 4, (2, 12)).astype(float)
    assert float(spearman(x, y)) == pytest.approx(spearmanr(x, y).statistic)
    rows = rng.normal(size=(3, 12))
    assert spearman(x, rows) == pytest.approx([spearmanr(x, row).statistic for row in rows])


def test_spearman_of_what_is_constant_is_undefined() -> None:
    assert math.isnan(spearman([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]))


def losses(rng: np.random.Generator, rates: list[float], n: int):
    """Per item of two tasks whether it was lost at each level."""
    return [(rng.random((n, 1)) < rates).astype(float) for _ in range(2)]


def shares(sums):
    """Share of items lost, by task and level."""
    return np.concatenate([part / 300 for part in sums], axis=1)


LEVELS = [0.25, 0.4, 0.5] * 2


def test_damage_that_grows_is_seen() -> None:
    rng = np.random.default_rng(6)
    found = rank_correlation(LEVELS, losses(rng, [0.02, 0.15, 0.4], 300), shares, seed=0)
    assert found.estimate > 0.9
    assert 0 < found.low < found.estimate <= found.high <= 1.0
    assert found.n == 600


def test_no_relation_is_hardly_ever_taken_for_one() -> None:
    rng = np.random.default_rng(7)
    runs, wrong = 150, 0
    for seed in range(runs):
        groups = [(rng.random((300, 3)) < 0.1).astype(float) for _ in range(2)]
        found = rank_correlation(LEVELS, groups, shares, seed=seed, resamples=300)
        wrong += found.low > 0 or found.high < 0
    assert binomtest(wrong, runs).proportion_ci(0.999).low < 0.05


def test_no_damage_at_all_is_no_correlation() -> None:
    found = rank_correlation(LEVELS, [np.zeros((50, 3))] * 2, shares, seed=0)
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (-1.0, 1.0)
