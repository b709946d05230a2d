"""Several looks: the levels of Pocock, and that all intervals of a plan hold together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from pytest_sparsity.core.statistics import Interval, level_of_a_look, paired_mean, proportion


@pytest.mark.parametrize(
    ("looks", "limit"),
    [
        # Jennison & Turnbull (2000), Group Sequential Methods, table 2.1, alpha = 0.05.
        (1, 1.960),
        (2, 2.178),
        (3, 2.289),
        (4, 2.361),
        (5, 2.413),
        (10, 2.555),
    ],
)
def test_the_level_is_that_of_pocock(looks: int, limit: float) -> None:
    level = level_of_a_look(0.95, looks)
    assert norm.isf((1 - level) / 2) == pytest.approx(limit, abs=6e-4)


def test_a_last_look_at_less_data_errs_less() -> None:
    rng = np.random.default_rng(1)
    limit = norm.isf((1 - level_of_a_look(0.95, 3)) / 2)
    for amounts in ((100, 200, 300), (100, 200, 230)):
        at = np.sqrt(amounts)
        steps = np.sqrt(np.diff(amounts, prepend=0))
        paths = np.cumsum(rng.normal(size=(200_000, 3)) * steps, axis=1) / at
        missed = float((np.abs(paths) > limit).any(axis=1).mean())
        assert missed < 0.0515
    assert missed < 0.048


@pytest.mark.parametrize("looks", [0, 1.5])
def test_looks_are_counted(looks: float) -> None:
    with pytest.raises(
        ValueError, match=f"^looks must be a whole number of at least 1, not {looks}$"
    ):
        level_of_a_look(0.95, looks)


def test_an_interval_of_several_looks_is_wider_and_says_so() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    for make in (
        lambda looks: paired_mean(x, seed=0, looks=looks),
        lambda k: proportion(9, 50, looks=k),
    ):
        once, thrice = make(1), make(3)
        assert (once.looks, thrice.looks, thrice.confidence) == (1, 3, 0.95)
        assert thrice.low < once.low < once.high < thrice.high


def test_an_interval_of_before_there_were_looks_can_be_read() -> None:
    stored = {"estimate": 1, "low": "-inf", "high": 2, "n": 3, "confidence": 0.95}
    stored |= {"detectable": None, "note": ""}
    assert Interval.from_json(stored).looks == 1
    assert Interval.from_json(stored | {"looks": 3}).looks == 3
    assert math.isinf(Interval.from_json(stored).low)
