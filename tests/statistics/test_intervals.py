"""The intervals keep their promises: coverage, width, published values, degenerate data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from pytest_sparsity.core.statistics import (
    Interval,
    mcnemar,
    paired_mean,
    paired_proportion,
    paired_ratio,
    proportion,
)


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


@pytest.mark.parametrize("n", [3, 8, 40])
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


def test_equal_differences_leave_no_doubt() -> None:
    # 0.1 cannot be represented: the mean of 23 of them is not exactly 0.1.
    interval = paired_mean([0.1] * 23, seed=0)
    assert interval.estimate == pytest.approx(0.1)
    assert interval.low == interval.estimate == interval.high
    assert interval.detectable == 0.0
    assert paired_mean([0.0, 0.0, 0.0], [3, 5, 9], seed=0) == Interval(0, 0, 0, 3, detectable=0)


def test_equal_ratio_in_documents_of_all_lengths_leaves_no_doubt() -> None:
    tokens = np.arange(1.0, 30.0)
    interval = paired_mean(0.3 * tokens, tokens, seed=0)
    assert interval.low == interval.high == pytest.approx(0.3)


def test_one_document_sets_no_limits() -> None:
    interval = paired_mean([0.5], seed=0)
    assert (interval.estimate, interval.low, interval.high) == (0.5, -math.inf, math.inf)
    assert interval.detectable == math.inf
    assert interval.note.startswith("no limits: one document")


def test_few_documents_get_student_t() -> None:
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.30265: 2 +- 4.30265 / sqrt(3).
    interval = paired_mean([1.0, 2.0, 3.0], seed=0)
    assert (interval.low, interval.high) == pytest.approx((2 - 2.484138, 2 + 2.484138))
    assert interval.note == "Student's t: 3 documents are too few for a bootstrap"


def test_undefined_bca_falls_back_to_the_percentile_interval_and_says_so() -> None:
    interval = paired_mean([1.0, 2.0, 3.0, 4.0, 9.0], seed=0, confidence=0.9999)
    assert interval.note.startswith("percentile bootstrap: BCa is undefined")
    assert 1.0 <= interval.low < interval.estimate < interval.high <= 9.0


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
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(k: int, n: int, low: float, high: float) -> None:
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
    ("counts", "low", "high", "digits"),
    [
        # Fagerland, Lydersen, Laake (2014), Statistics in Medicine 33:2850-2875, both examples;
        # the limits with four digits are those of their R package `contingencytables`.
        ((1, 1, 7, 12), -0.507, -0.026, 3),
        ((59, 6, 16, 80), -0.1186, -0.0046, 4),
        # Newcombe (1998), Statistics in Medicine 17:2635-2650.
        ((36, 12, 2, 0), 0.0569, 0.3404, 4),
    ],
)
def test_newcombe_against_published_values(counts, low, high, digits) -> None:
    _, dense_only, sparse_only, _ = counts
    interval = paired_proportion(*table(*counts))
    assert interval.n == sum(counts)
    assert interval.estimate == pytest.approx((dense_only - sparse_only) / sum(counts))
    assert (round(interval.low, digits), round(interval.high, digits)) == (low, high)


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
