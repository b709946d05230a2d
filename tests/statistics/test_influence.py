"""Influence of units: sums, errors, and what has no error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_sparsity.core.statistics import influence


def test_of_a_mean_it_is_the_distance_from_the_mean() -> None:
    found = influence([1.0, 2.0, 6.0], units=["a", "b", "c"])
    assert found.estimate == 3.0
    assert found.values == pytest.approx([-2 / 3, -1 / 3, 1.0])
    assert found.units == ("a", "b", "c")
    assert found.error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))


def test_of_a_ratio_it_is_the_change_that_a_draw_makes() -> None:
    rng = np.random.default_rng(0)
    below = rng.gamma(5, 1.0, 400)
    above = 0.3 * below + rng.normal(0, 0.2, 400)
    found = influence(above, below)
    counts = np.bincount(rng.integers(0, 400, 400), minlength=400)
    drawn = float(counts @ above) / float(counts @ below)
    assert float(counts @ found.values) == pytest.approx(drawn - found.estimate, rel=0.05)
    assert float(found.values.sum()) == pytest.approx(0.0, abs=1e-12)


def test_equal_units_have_no_error_unless_it_is_known_what_they_could_be() -> None:
    assert influence([0.0] * 30).error == math.inf
    assert influence([0.3, 0.6, 0.9], [1.0, 2.0, 3.0]).error == math.inf
    assert influence([1.0]).error == math.inf
    # Bonett & Price (2012): (1 + 1) / (n + 2) differ, the n + 1 of the sample variance.
    assert influence([0.0] * 30, bounds=(-1, 1)).error == pytest.approx(math.sqrt(2 / 31 / 32))


def test_nothing_to_divide_by() -> None:
    found = influence([1.0, 2.0], [1.0, -1.0])
    assert math.isnan(found.estimate)
    assert found.error == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": ["a"]}, "units must be one id per value: 2, not 1"),
        ({"units": ["a", "a"]}, "units must differ, 'a' is there more than once"),
        ({"bounds": (0, 1)}, "every unit must be within 0 and 1, unit 1 is 2.0"),
        ({"bounds": (1, 0)}, "bounds must be a lower and a higher value, not 1 and 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        influence([1.0, 2.0], **arguments)
