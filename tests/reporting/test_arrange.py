from __future__ import annotations

import math

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.reporting.arrange import Results, label, mean_interval
from pytest_sparsity.sweep.cell import Configuration


def test_grid_order_does_not_depend_on_the_order_of_measurement(fake) -> None:
    grid = fake.grid("m", methods=("cats", "teal"), levels=(0.25, 0.5))
    results = Results(fake.verdicts(reversed(grid)), {})
    assert [label(c) for c in results.configurations("m")] == [
        "dense",
        "cats-0.25",
        "cats-0.25-mean_residual",
        "cats-0.25-spon",
        "cats-0.50",
        "cats-0.50-mean_residual",
        "cats-0.50-spon",
        "teal-0.25",
        "teal-0.25-mean_residual",
        "teal-0.25-spon",
        "teal-0.50",
        "teal-0.50-mean_residual",
        "teal-0.50-spon",
    ]


def test_models_are_kept_apart(fake) -> None:
    one, two = fake.grid("one", levels=(0.5,)), fake.grid("two", levels=(0.25,))
    results = Results(fake.verdicts(one, tasks=("a",)) + fake.verdicts(two, tasks=("b",)), {})
    assert results.models == ["one", "two"]
    assert results.configurations("two") == two
    assert results.subjects("one", "accuracy") == ["a"]
    assert results.find(Configuration("two"), "accuracy:a") is None


def test_counts(fake) -> None:
    results = Results(fake.verdicts(fake.grid(spon=("off",)), corpora=("austen",)), {})
    # Perplexity +81 % against a budget of 20 %, six accuracies 8 +- 4 points against 5.
    half = Configuration("smollm2-135m", "teal", 0.5)
    assert results.counts(half) == {"fail": 1, "inconclusive": 6, "no budget": 3}
    assert results.counts().total() == len(results.verdicts)


def test_mean_of_equal_intervals_is_tighter_by_the_root_of_their_number() -> None:
    mean = mean_interval([Interval(0.5, 0.4, 0.7, 100, detectable=0.3)] * 4)
    assert mean.estimate == 0.5
    assert mean.low == pytest.approx(0.45)
    assert mean.high == pytest.approx(0.6)
    assert mean.detectable == pytest.approx(0.15)
    assert mean.n == 400


def test_mean_has_no_limits_if_one_part_has_none() -> None:
    mean = mean_interval([Interval(0.5, 0.4, 0.6, 9), Interval(0.7, -math.inf, math.inf, 1)])
    assert (mean.low, mean.high) == (-math.inf, math.inf)
    assert mean.estimate == pytest.approx(0.6)
