"""What a run will be able to show, against closed forms and simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_sparsity.core.statistics import influence, level_of_a_look, paired_proportion
from pytest_sparsity.core.statistics.power import (
    Design,
    Spread,
    missed,
    shared_error,
    smallest_effect,
    units_needed,
)


def test_one_look_misses_as_the_normal_distribution_says():
    assert missed((1.96,), (1.0,), 2.5) == pytest.approx(stats.norm.cdf(1.96 - 2.5), abs=1e-10)


def test_looks_miss_as_simulated_ones():
    limits, times, drift = (2.3, 2.2, 2.4), (0.25, 0.6, 1.0), 2.9
    rng = np.random.default_rng(0)
    steps = np.diff([0.0, *times])
    paths = (rng.normal(size=(200_000, 3)) * np.sqrt(steps) + drift * steps).cumsum(axis=1)
    below = (paths <= np.multiply(limits, np.sqrt(times))).all(axis=1).mean()
    assert missed(limits, times, drift) == pytest.approx(below, abs=0.004)


def test_without_an_effect_looks_together_keep_to_the_error():
    level = (1 - level_of_a_look(0.95, 3)) / 2
    limit = float(stats.norm.isf(level))
    assert 1 - missed((limit,) * 3, (1 / 3, 2 / 3, 1.0), 0.0) == pytest.approx(0.025, abs=5e-4)


def test_one_look_at_a_mean_is_the_formula_of_the_t_test():
    errors = stats.t.isf(0.025, 31) + stats.norm.ppf(0.9)
    found = smallest_effect(Spread(0.2), Design((32,)))
    assert found == pytest.approx(errors * 0.2 / math.sqrt(32))


@pytest.mark.parametrize(
    ("amounts", "error"), [((16,), 0.025), ((16, 32, 48), 0.025), ((32, 64, 96), 1e-4)]
)
def test_simulated_runs_find_the_smallest_effect_nine_times_in_ten(amounts, error):
    design = Design(amounts, error)
    effect = smallest_effect(Spread(1.0), design)
    level = (1 - level_of_a_look(1 - 2 * error, len(amounts))) / 2
    values = np.random.default_rng(1).normal(effect, 1.0, (20_000, amounts[-1]))
    found = np.zeros(len(values), dtype=bool)
    for n in amounts:
        seen = values[:, :n]
        t = seen.mean(axis=1) / (seen.std(axis=1, ddof=1) / math.sqrt(n))
        found |= t > stats.t.isf(level, n - 1)
    assert found.mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("n", "lost", "won"), [(100, 4, 3), (300, 20, 12), (100, 0, 0)])
def test_a_drop_in_items_right_is_found_nine_times_in_ten(n, lost, won):
    dense = np.repeat([1, 0, 1, 0], [lost, won, n - lost - won, 0]).astype(bool)
    sparse = np.repeat([0, 1, 1, 0], [lost, won, n - lost - won, 0]).astype(bool)
    change = influence((dense * 1.0 - sparse), bounds=(-1, 1))
    spread = Spread(change.error * math.sqrt(n), change.estimate, counts=True)
    limit = max(change.estimate, 0.01)
    effect = smallest_effect(spread, Design((n,)), limit=limit)
    gone = lost / n + limit + effect - change.estimate
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(400):
        kind = rng.choice(3, n, p=[gone, won / n, 1 - gone - won / n])
        found += paired_proportion(kind != 1, kind != 0).low > limit
    assert 0.85 < found / 400 <= 1  # the interval of few items is not quite the formula's


def test_a_larger_drop_spreads_more():
    few = Spread(0.1, 0.0, counts=True)
    assert few.at(0.0) == few.at(-0.1) == 0.1
    assert few.at(0.2) == pytest.approx(math.sqrt(0.01 + 0.2 - 0.04))
    assert Spread(0.1).at(0.2) == 0.1


@pytest.mark.parametrize("spread", [Spread(0.3), Spread(0.3, 0.02, counts=True)])
@pytest.mark.parametrize("design", [Design((32,)), Design((100, 200, 300), 1e-3)])
def test_needed_units_are_the_fewest_that_do(spread, design):
    found = units_needed(spread, design, 0.05)
    scaled = design.times(found / design.amounts[0])
    fewer = design.times((found - 1) / design.amounts[0])
    assert smallest_effect(spread, scaled) <= 0.05 < smallest_effect(spread, fewer)


def test_half_the_effect_takes_four_times_the_documents():
    design = Design((200,))
    half = smallest_effect(Spread(1.0), design) / 2
    assert units_needed(Spread(1.0), design, half) == pytest.approx(800, rel=0.01)


def test_what_cannot_be_found():
    assert smallest_effect(Spread(0.1), Design((1,))) == math.inf
    assert smallest_effect(Spread(0.9, 0.0, counts=True), Design((4,), 1e-6)) == math.inf
    assert units_needed(Spread(1e6), Design((8,)), 1e-6) is None
    with pytest.raises(ValueError, match="effect must be positive, not 0"):
        units_needed(Spread(1.0), Design((8,)), 0.0)


def drawn(rng, units):
    return influence(rng.normal(size=len(units)), units=units)


def test_decisions_share_the_error_of_the_run():
    rng = np.random.default_rng(3)
    apart = [drawn(rng, [f"{k}-{i}" for i in range(30)]) for k in range(20)]
    assert shared_error(apart, 0.05, seed=0) == pytest.approx(0.0025, rel=0.15)
    same = [apart[0]] * 20
    assert shared_error(same, 0.05, seed=0) == pytest.approx(0.05, rel=0.1)
    common = rng.normal(size=30)
    alike = [influence(common + rng.normal(size=30), units=range(30)) for _ in range(20)]
    assert 0.003 < shared_error(alike, 0.05, seed=0) < 0.03


def test_the_shared_error_is_never_stricter_than_bonferroni():
    rng = np.random.default_rng(4)
    apart = [drawn(rng, [f"{k}-{i}" for i in range(6)]) for k in range(7)]
    for seed in range(5):
        assert 0.01 / 7 <= shared_error(apart, 0.01, seed=seed, draws=1000) <= 0.01
