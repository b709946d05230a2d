from __future__ import annotations

import pytest
from scipy import stats

from pytest_sparsity.evaluation.evidence import above_chance, refusal


@pytest.mark.parametrize(("right", "n", "chance"), [(30, 100, 0.25), (0, 8, 0.5), (8, 8, 0.5)])
def test_the_p_value_is_the_binomial_tail(right: int, n: int, chance: float) -> None:
    tail = stats.binom.sf(right - 1, n, chance)
    assert above_chance(right, n, chance) == pytest.approx(tail)


def test_a_model_at_chance_is_refused_with_the_numbers() -> None:
    assert refusal(28, 100, 0.25) == (
        "dense is right on 28 of 100, chance is 0.25 (exact binomial p = 0.28)"
    )
    assert refusal(10, 100, 0.25)


def test_a_model_above_chance_is_evidence() -> None:
    assert refusal(74, 100, 0.21) == ""
    assert refusal(38, 100, 0.25) == ""  # p = 0.0027


def test_one_of_ten_tasks_is_not_passed_by_luck() -> None:
    assert refusal(34, 100, 0.25) == (
        "dense is right on 34 of 100, chance is 0.25 (exact binomial p = 0.028)"
    )


def test_too_few_right_answers_to_lose_are_refused() -> None:
    # Any right answer is beyond a chance of zero, but McNemar needs six lost ones for 5 %.
    assert refusal(5, 100, 0.0) == (
        "dense is right on 5 of 100, chance is 0, and the 5 right answers beyond chance are fewer "
        "than the 6 whose loss could be shown"
    )
    assert refusal(6, 100, 0.0) == ""
    assert stats.binomtest(0, 6, 0.5).pvalue < 0.05 < stats.binomtest(0, 5, 0.5).pvalue


def test_nobody_is_right_by_accident() -> None:
    assert "p = 1)" in refusal(0, 24, 0.0)


def test_different_numbers_of_choices_make_the_test_stricter_only() -> None:
    # Half of the items have 2 choices, half have 10: exact tail against that of the mean.
    half = 20
    exact = [
        sum(
            stats.binom.pmf(i, half, 0.5) * stats.binom.sf(k - i - 1, half, 0.1)
            for i in range(half + 1)
        )
        for k in range(16, 30)
    ]
    assert all(
        above_chance(k, 2 * half, 0.3) >= tail for k, tail in zip(range(16, 30), exact, strict=True)
    )
