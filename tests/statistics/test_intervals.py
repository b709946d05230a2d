"""The intervals keep their promises: coverage, width, published values, degenerate data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from pytest_sparsity.core.statistics import (
    Interval,
    mcnemar,
    paired_mean,
    paired_proportion,
    paired_ratio,
    proportion,
)
from pytest_sparsity.core.statistics.bounded import difference_limits


def table(both: int, dense_only: int, sparse_only: int, neither: int):
    """Right/wrong of two models on the same items, from the four counts."""
    dense = [True] * (both + dense_only) + [False] * (sparse_only + neither)
    sparse = [True] * both + [False] * dense_only + [True] * sparse_only + [False] * neither
    return dense, sparse


def assert_covers(hits: int, runs: int, *, nominal: float, slack: float) -> None:
    """Hits out of runs are compatible with a coverage within slack of the nominal one."""
    plausible = binomtest(hits, runs).proportion_ci(0.999)
    assert plausible.low <= nominal + slack, f"too wide: {hits} of {runs}"
    assert plausible.high >= nominal - slack, f"too narrow: {hits} of {runs}"


def covering(truth: float, make: Callable[..., Interval]) -> int:
    """How many of 500 intervals, of seeds 0 to 499, hold the truth."""
    made = [make(seed=seed, resamples=500) for seed in range(500)]
    return sum(interval.low <= truth <= interval.high for interval in made)


# paired_mean


@pytest.mark.parametrize("n", [20, 100])
def test_mean_covers_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = covering(0.1, lambda **how: paired_mean(rng.normal(0.1, 1.0, n), **how))
    assert_covers(hits, 500, nominal=0.95, slack=0.02)


def test_weighted_mean_covers_the_truth_of_skewed_data() -> None:
    rng = np.random.default_rng(0)

    def interval(**how: int) -> Interval:
        tokens = rng.integers(50, 500, 60).astype(float)
        loss_per_token = rng.exponential(0.3, 60)
        return paired_mean(tokens * loss_per_token, tokens, **how)

    assert_covers(covering(0.3, interval), 500, nominal=0.95, slack=0.03)


def test_mean_of_other_confidence_covers_as_often() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0.0, 1.0, (500, 30))
    assert paired_mean(x[0], seed=0, resamples=500, confidence=0.8).confidence == 0.8
    hits = covering(0.0, lambda **how: paired_mean(x[how["seed"]], **how, confidence=0.8))
    assert_covers(hits, 500, nominal=0.8, slack=0.03)


def test_width_and_detectable_effect_shrink_with_the_root_of_n() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0.0, 1.0, 1600)
    small, large = paired_mean(x[:100], seed=0), paired_mean(x, seed=0)
    for few, many in (
        (small.high - small.low, large.high - large.low),
        (small.detectable, large.detectable),
    ):
        assert few / many == pytest.approx(4.0, rel=0.2)


def test_detectable_effect_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(3)
    n = 100
    sample = rng.normal(0.0, 1.0, n)
    sample = (sample - sample.mean()) / sample.std()
    effect = paired_mean(sample, seed=0).detectable
    assert effect == pytest.approx(2.8 / math.sqrt(n), rel=0.05)
    runs = 400
    seen = sum(
        paired_mean(rng.normal(effect, 1.0, n), seed=seed, resamples=500).low > 0
        for seed in range(runs)
    )
    assert_covers(seen, runs, nominal=0.8, slack=0.02)


def test_mean_weights_documents_by_their_tokens() -> None:
    assert paired_mean([1.0, 6.0], [1.0, 3.0], seed=0).estimate == 7 / 4
    assert paired_mean([1.0, 6.0], seed=0).estimate == 7 / 2


def test_same_seed_same_interval() -> None:
    x = np.random.default_rng(4).normal(size=20)
    assert paired_mean(x, seed=7) == paired_mean(list(x), seed=7)
    assert paired_mean(x, seed=7) != paired_mean(x, seed=8)


def test_equal_differences_tell_nothing_of_their_spread() -> None:
    # 0.1 cannot be represented: the mean of 23 of them is not exactly 0.1.
    interval = paired_mean([0.1] * 23, seed=0)
    assert interval.estimate == pytest.approx(0.1)
    assert (interval.low, interval.high, interval.detectable) == (-math.inf, math.inf, math.inf)
    # 1 in 24 would differ: (23 / 24) ** 91 is below the tail that 92 units take.
    assert interval.note == "no limits: all 23 are equal, 92 might do"


def test_equal_ratio_in_documents_of_all_lengths_is_equal_all_the_same() -> None:
    tokens = np.arange(1.0, 30.0)
    interval = paired_mean(0.3 * tokens, tokens, seed=0)
    assert interval.estimate == pytest.approx(0.3)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.note.startswith("no limits: all 29 are equal")


def test_many_equal_units_set_no_limit_on_the_side_of_the_others() -> None:
    interval = paired_mean([0.0] * 18 + [1.0, 2.0], seed=0)
    assert math.isfinite(interval.low)
    assert interval.low <= 0
    assert interval.high == math.inf
    assert interval.note == "no limit: 20 are too few or too alike, 40 might do"
    many = paired_mean(([0.0] * 18 + [1.0, 2.0]) * 3, seed=0)
    assert math.isfinite(many.high)
    assert many.note == ""


def test_equal_units_keep_within_what_is_possible() -> None:
    # None of 23 was lost: (1 - p) ** 23 = 0.025.
    interval = paired_mean([0.0] * 23, seed=0, bounds=(0, 1))
    assert (interval.low, interval.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 23), rel=0.03))
    assert interval.note == "limits from what is possible: the units are too few or too alike"
    assert 0 < interval.detectable < math.inf
    alone = paired_mean([3.0], seed=0, bounds=(0, math.inf))
    assert (alone.low, alone.high) == (0.0, math.inf)


def test_right_and_wrong_get_the_exact_interval() -> None:
    found = paired_mean([1.0] * 15 + [0.0] * 133, seed=0, bounds=(0, 1))
    exact = proportion(15, 148)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=2e-3)
    gained, lost = table(59, 6, 16, 80)
    differences = np.array(gained, dtype=float) - np.array(lost, dtype=float)
    found = paired_mean(differences, seed=0, bounds=(-1, 1))
    exact = paired_proportion(gained, lost)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=2e-3)


def test_no_interval_leaves_what_is_possible() -> None:
    # Greedy tokens of 32, as a plain interval has them: 17.0 [-4.5, 38.5].
    steps = [0.0, 32.0, 1.0, 32.0]
    assert paired_mean(steps, seed=0).high > 32
    found = paired_mean(steps, seed=0, bounds=(0, 32))
    assert 0 <= found.low < 16.25 < found.high <= 32
    assert paired_mean([0.01, 0.5, 0.02, 0.01, 0.03], seed=0, bounds=(0, math.inf)).low == 0


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((0, 1), "every unit must be within 0 and 1, unit 1 is 2.0"),
        ((1, 0), "bounds must be a lower and a higher value, not 1 and 0"),
        ((0, math.nan), "bounds must be a lower and a higher value, not 0 and nan"),
    ],
)
def test_bounds_have_to_be_true(bounds, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        paired_mean([1.0, 4.0], [2.0, 2.0], seed=0, bounds=bounds)


def test_one_document_sets_no_limits() -> None:
    interval = paired_mean([0.5], seed=0)
    assert (interval.estimate, interval.low, interval.high) == (0.5, -math.inf, math.inf)
    assert interval.detectable == math.inf
    assert interval.note.startswith("no limits: one document")


def test_no_interval_is_narrower_than_student_t() -> None:
    # Mean 3, standard deviation sqrt(2.5), t(0.975, 4) = 2.776.
    interval = paired_mean([1.0, 2.0, 3.0, 4.0, 5.0], seed=0)
    assert interval.low <= 3 - 2.776 * math.sqrt(0.5)
    assert interval.high >= 3 + 2.776 * math.sqrt(0.5)


def test_few_documents_set_no_limits() -> None:
    interval = paired_mean([1.0, 2.0, 3.0], seed=0)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.note == "no limit: 3 are too few or too alike, 6 might do"


def test_more_confidence_than_draws_can_show_sets_no_limits() -> None:
    x = np.random.default_rng(0).normal(size=50)
    interval = paired_mean(x, seed=0, resamples=1000, confidence=0.9999)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.note == "no limits: 1000 resamples are too few for a confidence of 0.9999"


@pytest.mark.parametrize(
    ("differences", "weights", "message"),
    [
        ([], None, r"differences must be a non-empty list of numbers, its shape is \(0,\)"),
        ([[1.0]], None, r"differences must be a non-empty list of numbers, its shape is \(1, 1\)"),
        ([0.0, math.nan], None, r"differences must be finite, differences\[1\] is nan"),
        ([math.inf], None, r"differences must be finite, differences\[0\] is inf"),
        ([1.0, 2.0], [1.0], "weights must have one value per document: 2, not 1"),
        ([1.0, 2.0], [1.0, math.nan], r"weights must be finite, weights\[1\] is nan"),
        ([1.0, 2.0], [1.0, 0.0], r"weights must be positive, weights\[1\] is 0.0"),
    ],
)
def test_mean_rejects(differences, weights, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        paired_mean(differences, weights, seed=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, math.nan])
def test_confidence_is_a_share(confidence: float) -> None:
    for call in (
        lambda: paired_mean([1.0, 2.0], seed=0, confidence=confidence),
        lambda: proportion(1, 2, confidence=confidence),
        lambda: paired_proportion([True], [True], confidence=confidence),
    ):
        with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
            call()


def test_too_few_resamples_are_rejected() -> None:
    with pytest.raises(ValueError, match="resamples must be at least 100, not 50"):
        paired_mean([1.0, 2.0], seed=0, resamples=50)


# paired_ratio


def test_share_recovered_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    runs = 300
    hits = 0
    for seed in range(runs):
        loss = rng.gamma(4.0, 0.1, 40)
        recovered = 0.45 * loss + rng.normal(0.0, 0.05, 40)
        interval = paired_ratio(recovered, loss, seed=seed, resamples=500)
        hits += interval.low <= 0.45 <= interval.high
    assert_covers(hits, runs, nominal=0.95, slack=0.025)


def test_share_of_nothing_can_be_anything() -> None:
    loss = [1.0, -1.1, 0.9, -0.8, 0.3, -0.2]
    interval = paired_ratio([0.5] * 6, loss, seed=0)
    assert interval.estimate == pytest.approx(30.0)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.note == "no limits: the denominator is not distinguishable from zero"


def test_share_of_exactly_nothing_is_no_number() -> None:
    interval = paired_ratio([1.0, 2.0], [0.0, 0.0], seed=0)
    assert math.isnan(interval.estimate)
    assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_ratio_of_negative_sums() -> None:
    loss = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    won = np.array([0.6, 0.9, 1.4, 2.2, 2.4, 3.1])
    up, down = paired_ratio(won, loss, seed=0), paired_ratio(-won, -loss, seed=0)
    assert (up.low, up.high) == pytest.approx((down.low, down.high))
    assert up.low < won.sum() / loss.sum() < up.high


def test_ratio_rejects() -> None:
    with pytest.raises(ValueError, match="denominator must have one value per document: 2, not 1"):
        paired_ratio([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(ValueError, match=r"numerator must be finite, numerator\[0\] is nan"):
        paired_ratio([math.nan], [1.0], seed=0)


# shares


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 5.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_exact_share_against_published_values(k: int, n: int, low: float, high: float) -> None:
    interval = proportion(k, n)
    assert interval.estimate == k / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert interval.detectable > 0


@pytest.mark.parametrize(
    ("k", "n", "message"),
    [
        (0, 0, "n must be at least 1, not 0"),
        (3, 2, "k must be within 0..2, not 3"),
        (-1, 2, "k must be within 0..2, not -1"),
    ],
)
def test_proportion_rejects(k: int, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        proportion(k, n)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe's method 10 (1998), Statistics in Medicine 17:2635-2650, and Fagerland,
        # Lydersen, Laake (2014), Statistics in Medicine 33:2850-2875, have for the same tables
        # 0.0569 to 0.3404, -0.507 to -0.026, and -0.1186 to -0.0046, and err more often.
        ((36, 12, 2, 0), 0.0391, 0.3550),
        ((1, 1, 7, 12), -0.5455, 0.0204),
        ((59, 6, 16, 80), -0.1268, 0.0006),
    ],
)
def test_exact_drop(counts, low: float, high: float) -> None:
    both, dense_only, sparse_only, neither = counts
    interval = paired_proportion(*table(*counts))
    assert interval.n == sum(counts)
    assert interval.estimate == pytest.approx((dense_only - sparse_only) / sum(counts))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    # The same by drawing weights: those of gains, losses and the rest, one more being possible.
    weights = np.random.default_rng(0).standard_gamma(
        [dense_only + 1, sparse_only, both + neither], (200_000, 3)
    )
    means = (weights[:, 0] - weights[:, 1]) / weights.sum(axis=1)
    assert interval.high == pytest.approx(np.quantile(means, 0.975), abs=3e-3)


@pytest.mark.parametrize("n", [1, 5, 12, 30])
def test_a_drop_errs_on_neither_side_more_often_than_it_says(n: int) -> None:
    """Counted over all tables, not drawn."""
    tables = [(gain, loss) for gain in range(n + 1) for loss in range(n + 1 - gain)]
    limits = {t: difference_limits(*t, n, 0.95) for t in tables}
    for differ, share in itertools.product((0.003, 0.05, 0.3, 0.9), (0.0, 0.2, 0.5, 1.0)):
        gain, loss = differ * share, differ * (1 - share)
        chances = multinomial(n, [gain, loss, 1 - differ])
        missed = {"low": 0.0, "high": 0.0}
        for (gains, losses), (low, high) in limits.items():
            chance = chances.pmf([gains, losses, n - gains - losses])
            missed["low"] += chance * (low > gain - loss + 1e-9)
            missed["high"] += chance * (high < gain - loss - 1e-9)
        assert max(missed.values()) <= 0.025


def test_drop_changes_sign_with_the_order_of_models() -> None:
    dense, sparse = table(50, 9, 3, 38)
    drop, rise = paired_proportion(dense, sparse), paired_proportion(sparse, dense)
    assert drop.estimate == pytest.approx(0.06)
    assert (drop.low, drop.high) == pytest.approx((-rise.high, -rise.low))


def test_drop_covers_the_truth() -> None:
    rng = np.random.default_rng(6)
    runs = 1000
    hits = 0
    for _ in range(runs):
        counts = rng.multinomial(100, [0.5, 0.12, 0.04, 0.34])
        interval = paired_proportion(*table(*counts))
        hits += interval.low <= 0.08 <= interval.high
    assert_covers(hits, runs, nominal=0.95, slack=0.015)


@pytest.mark.parametrize("right", [True, False])
def test_perfect_agreement_is_not_certainty(right: bool) -> None:
    interval = paired_proportion([right] * 30, [right] * 30)
    assert interval.estimate == 0.0
    assert -0.2 < interval.low < 0.0 < interval.high < 0.2
    assert interval.detectable > 0


# McNemar


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ((10, 0, 0, 5), 1.0),  # no discordant pair
        ((0, 1, 0, 0), 1.0),  # 2 * (1/2)
        ((3, 5, 0, 3), 2 / 2**5),
        ((7, 6, 1, 9), 2 * (1 + 7) / 2**7),
        ((7, 1, 6, 9), 2 * (1 + 7) / 2**7),
        ((40, 10, 2, 9), 2 * (1 + 12 + 66) / 2**12),
        ((40, 4, 4, 9), 1.0),
    ],
)
def test_mcnemar_by_hand(counts, p: float) -> None:
    assert mcnemar(*table(*counts)) == pytest.approx(p, rel=1e-12)


def test_mcnemar_keeps_its_level() -> None:
    rng = np.random.default_rng(7)
    alarms = sum(
        mcnemar(*table(*rng.multinomial(100, [0.5, 0.1, 0.1, 0.3]))) < 0.05 for _ in range(1000)
    )
    assert alarms < 70  # an exact test errs on the safe side of 50


@pytest.mark.parametrize("compare", [paired_proportion, mcnemar])
def test_pairs_must_be_pairs(compare) -> None:
    with pytest.raises(ValueError, match="must be about the same items, not 2 and 1"):
        compare([True, False], [True])
    with pytest.raises(ValueError, match="must not be empty"):
        compare([], [])


def test_an_interval_is_written_with_its_limits() -> None:
    found = Interval(1.5, 0.25, math.inf, 3)
    assert f"{found:.2f}" == "1.50 [0.25, inf]"
    assert f"{found:+.1%}" == "+150.0% [+25.0%, +inf%]"
    assert f"{found}" == str(found)
