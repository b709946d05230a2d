"""Decisions of a run together: the error is kept for the run, and correlated cells gain power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_sparsity.core.statistics.family import LOST_AND_WON, Evidence, adjusted
from pytest_sparsity.core.statistics.tails import bounded_tail, repeated, upper_tail

DOCUMENTS = 32


def cells(rng, effect=0.0, count=20, alike=0.9, shape=lambda x: x):
    """Decisions on one corpus: what its documents lose under many settings is much alike."""
    common = rng.normal(size=DOCUMENTS)
    found = []
    for number in range(count):
        own = rng.normal(size=DOCUMENTS)
        lost = shape(math.sqrt(alike) * common + math.sqrt(1 - alike) * own)
        beyond = lost + (effect if number == 0 else 0.0)
        excess = {f"document {i}": value for i, value in enumerate(beyond)}
        found.append(Evidence.of_units(f"cell {number}", "austen", excess))
    return found


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda x: x, id="normal"),
        pytest.param(lambda x: np.exp(0.7 * x) - math.exp(0.245), id="skewed"),
    ],
)
@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_the_error_of_a_run_is_kept(shape, alike):
    """At 10 %, so that few runs show it: of 80 at most 14 are red, 8 in the mean."""
    rng = np.random.default_rng(3)
    runs = [
        adjusted(cells(rng, alike=alike, shape=shape), seed=seed, resamples=300)
        for seed in range(80)
    ]
    assert sum(min(run.values()) <= 0.10 for run in runs) <= 14


def test_cells_that_move_together_gain_power():
    rng = np.random.default_rng(4)
    found = {"together": 0, "bonferroni": 0}
    for seed in range(40):
        run = cells(rng, effect=0.55)
        found["together"] += adjusted(run, seed=seed, resamples=500)["cell 0"] <= 0.05
        found["bonferroni"] += len(run) * run[0].p <= 0.05
    assert found["together"] >= found["bonferroni"] + 4


def test_what_others_say_changes_nothing_where_bonferroni_is_enough():
    """A test that failed while the run went on stays failed when the run is over."""
    rng = np.random.default_rng(5)
    for seed in range(10):
        run = cells(rng, effect=1.2)
        p = adjusted(run, seed=seed, resamples=200)
        for decision in run:
            assert p[decision.id] <= min(1.0, len(run) * decision.p)


def test_rejecting_one_helps_the_others():
    """Step-down: what is surely wrong is no longer among those that may be wrong by chance."""
    certain = [Evidence(f"certain {i}", 1e-12) for i in range(9)]
    run = [*certain, Evidence("one", 0.004), Evidence("other", 0.5)]
    p = adjusted(run, seed=0)
    assert p["one"] == pytest.approx(0.008)
    assert p["other"] == pytest.approx(0.5)


def test_times_and_documents_are_one_family():
    """A kernel's p has no documents behind it, and counts by itself beside cells that have."""
    rng = np.random.default_rng(6)
    alone = adjusted(cells(rng, effect=0.6), seed=0)["cell 0"]
    rng = np.random.default_rng(6)
    kernels = [Evidence(f"kernel {i}", 0.9) for i in range(30)]
    beside = adjusted([*cells(rng, effect=0.6), *kernels], seed=0)["cell 0"]
    assert alone < beside <= 1


def test_a_part_of_the_documents_may_be_seen():
    """Cells that drew more share the first documents with those that did not."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=96) + 1
    excess = {f"document {i}": value for i, value in enumerate(values)}
    first = Evidence.of_units("first", "austen", dict(list(excess.items())[:32]), looks=3)
    whole = Evidence.of_units("whole", "austen", excess, looks=3)
    p = adjusted([first, whole], seed=0)
    assert p["whole"] <= p["first"] < 0.05
    assert p == adjusted([whole, first], seed=0)


def test_one_document_each_in_thousands_of_cells_decides_nothing():
    run = [Evidence.of_units(f"cell {i}", "austen", {"document": 5.0}) for i in range(3000)]
    assert set(adjusted(run, seed=0).values()) == {1.0}


def test_documents_that_are_all_alike_decide_nothing():
    same = Evidence.of_units("cell", "austen", {f"document {i}": 0.3 for i in range(32)})
    assert same.p == 1
    assert adjusted([same], seed=0) == {"cell": 1.0}


def test_items_all_lost_are_beyond_doubt():
    """Right or wrong has bounds: a hundred items lost of a hundred are evidence, though alike."""
    lost = {f"item {i}": 0.98 for i in range(100)}
    assert Evidence.of_units("cell", "sva", lost, added=LOST_AND_WON).p < 1e-12


@pytest.mark.parametrize(
    ("looks", "limit"),
    [(2, 2.178), (3, 2.289), (5, 2.413)],  # Pocock 1977, two-sided at 5 %
)
def test_p_of_several_looks_is_pococks(looks, limit):
    assert 2 * repeated(stats.norm.sf(limit), looks) == pytest.approx(0.05, abs=1e-4)


def test_one_look_costs_nothing():
    assert repeated(0.03, 1) == 0.03


@pytest.mark.parametrize("sign", [1, -1])
def test_the_far_tail_is_no_shorter_than_it_should_be(sign):
    """Of 4,000 means of skewed values, at most twice the promised 1 in 200 is called beyond."""
    rng = np.random.default_rng(8)
    drawn = sign * (rng.exponential(size=(4_000, 48)) - 1)
    assert sum(upper_tail(row) <= 0.005 for row in drawn) <= 40


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Evidence.of_units("c", "s", {}), "c: there are no documents or items"),
        (lambda: Evidence.of_units("c", "s", {"d": math.nan}), "unit 'd' has the value nan"),
        (lambda: adjusted([Evidence("c", 0.5)] * 2, seed=0), "'c' was decided twice"),
        (lambda: repeated(0.1, 0), "looks must be at least 1, not 0"),
    ],
)
def test_impossible_input_is_named(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_evidence_crosses_processes():
    made = Evidence.of_units("c", "s", {"d": 1.0, "e": 0.5}, added=LOST_AND_WON, looks=2)
    assert Evidence.from_json(made.to_json()) == made


def test_few_bounded_units_have_the_tail_that_their_bounds_leave() -> None:
    """Seven of eight shares near 1 and one at 0.9: Student's t is sure, eight units cannot be."""
    excess = {str(n): 0.1 for n in range(7)} | {"7": 0.09}
    free = Evidence.of_units("c", "s", excess)
    held = Evidence.of_units("c", "s", excess, bounds=(-0.9, 0.1))
    assert free.p < 1e-8
    # At a mean of 0.9 all eight are 1 in up to 0.9 ** 8 of samples.
    assert 0.9**8 * 0.9 < held.p <= 1
    assert held.units == ()
    assert Evidence.from_json(held.to_json()) == held
    many = {str(n): 0.1 - 0.001 * n for n in range(20)}
    by_bounds = Evidence.of_units("c", "s", many, bounds=(-0.9, 0.1))
    assert by_bounds.p == Evidence.of_units("c", "s", many).p


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.9])
def test_the_tail_of_bounded_units_is_never_too_short(mean: float) -> None:
    """Of 0 and 1, for which the chances are known: P(p <= a) is at most a, whatever a."""
    n = 8
    chances = stats.binom.pmf(range(n + 1), n, mean)
    found = [
        bounded_tail([1 - mean] * k + [-mean] * (n - k), (-mean, 1 - mean)) for k in range(n + 1)
    ]
    for level in (1e-4, 1e-3, 0.01, 0.05):
        assert sum(chance for chance, p in zip(chances, found, strict=True) if p <= level) <= level
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(mean**n)
