from __future__ import annotations

import math

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting import numbers


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (38.24, "", "38.2"),
        (38.24, "+", "+38.2"),
        (-3.0, "+", "-3.0"),
        (-0.04, "+", "+0.0"),
        (1234.5, "+", "+1234"),
        (3.2e7, "", "3.2e+07"),
        (math.inf, "+", "+inf"),
        (-math.inf, "", "-inf"),
        (math.nan, "+", "n/a"),
    ],
)
def test_figure(value: float, sign: str, text: str) -> None:
    assert numbers.figure(value, sign=sign) == text


def test_perplexity_keeps_about_three_digits() -> None:
    assert [numbers.perplexity(x) for x in (7.834, 58.13, 1234.5)] == ["7.83", "58.1", "1234"]


def test_small_divergences_are_not_rounded_to_nothing() -> None:
    assert [numbers.nats(x) for x in (0.3121, 0.02, 0.0004, 0.0)] == [
        "0.312",
        "0.020",
        "4e-04",
        "0.000",
    ]


def test_perplexity_damage_is_a_positive_change() -> None:
    change = Interval(0.382, 0.351, 0.413, 64)
    assert numbers.perplexity_change(change) == "+38.2 % [+35.1, +41.3]"


def test_a_drop_is_a_negative_change_of_accuracy_with_swapped_limits() -> None:
    drop = Interval(0.03, -0.01, 0.071, 200)
    assert numbers.accuracy_change(drop) == "-3.0 [-7.1, +1.0]"


def test_recovery() -> None:
    assert numbers.recovered(Interval(0.61, 0.572, 0.638, 64)) == "61 % [57, 64]"
    unknown = Interval(math.nan, -math.inf, math.inf, 64)
    assert numbers.recovered(unknown) == "n/a"


def test_sample_size_is_a_range_where_more_data_were_drawn() -> None:
    assert numbers.sample_size([64, 64]) == "64"
    assert numbers.sample_size([128, 64, 96]) == "64-128"
    assert numbers.sample_size([9, 10]) == "9-10"
    assert numbers.sample_size([]) == ""
