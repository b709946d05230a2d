"""Change points: found where they are, and not where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_sparsity.reporting.history.changes import MAGNITUDE, SIDE, SIGNIFICANCE, change_points


def noisy(levels: list[tuple[int, float]], noise: float, seed: int) -> list[float]:
    """Runs per level, the level, and relative noise."""
    values = np.concatenate([np.full(count, level) for count, level in levels])
    generator = np.random.default_rng(seed)
    return list(values * (1 + noise * generator.standard_normal(values.size)))


@pytest.mark.parametrize("size", [0, 1, 2, 5, 6, 31])
def test_a_constant_has_none(size):
    assert change_points([2.0] * size) == []


@pytest.mark.parametrize(("noise", "tolerated"), [(0.01, 0), (0.03, 1), (0.05, 3)])
def test_false_alarms_in_noise(noise, tolerated):
    """In a hundred series of a hundred nights each."""
    series = [noisy([(100, 1.0)], noise, seed) for seed in range(100)]
    assert len([p for values in series for p in change_points(values)]) <= tolerated


def test_a_step_is_found_where_it_is():
    found = [change_points(noisy([(40, 1.0), (20, 1.2)], 0.03, seed)) for seed in range(50)]
    assert all(len(points) == 1 for points in found)
    assert sum(points[0].index == 40 for points in found) >= 45
    point = found[0][0]
    assert point.before == pytest.approx(1.0, rel=0.02)
    assert point.after == pytest.approx(1.2, rel=0.02)
    assert point.magnitude == pytest.approx(0.2, abs=0.03)
    assert point.p_value < SIGNIFICANCE


def test_steps_up_and_down_in_different_windows():
    levels = [(30, 1.0), (25, 1.3), (30, 0.9), (30, 1.1)]
    points = change_points(noisy(levels, 0.02, 0))
    assert [point.index for point in points] == pytest.approx([30, 55, 85], abs=1)
    assert [point.magnitude > 0 for point in points] == [True, False, True]


def test_small_changes_are_not_reported():
    for seed in range(20):
        values = noisy([(40, 1.0), (40, 1 + MAGNITUDE / 2)], 0.005, seed)
        assert change_points(values) == []


def test_one_slow_night_is_no_change():
    values = noisy([(30, 1.0)], 0.01, 0)
    values[-1] *= 3
    values[12] *= 3
    assert change_points(values) == []


def test_a_change_is_seen_after_three_nights():
    assert change_points([1.0] * 20 + [1.5]) == []
    for nights in range(SIDE, SIDE + 3):
        (point,) = change_points([1.0] * 20 + [1.5] * nights)
        assert (point.index, point.p_value) == (20, 0.0)


def test_from_zero():
    (point,) = change_points([0.0] * 10 + [1.0] * 10)
    assert point.magnitude == float("inf")


def test_not_finite():
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, float("nan")])


def test_best_split_is_that_of_the_definition():
    """The vectorised statistic against the sums as they are written in the paper."""
    from pytest_sparsity.reporting.history.changes import _best_split

    def direct(z: np.ndarray) -> int:
        best = (-np.inf, 0)
        for split in range(SIDE, len(z) - SIDE + 1):
            for end in range(split + SIDE, len(z) + 1):
                x, y = z[:split], z[split:end]
                n, m = len(x), len(y)
                across = np.abs(x[:, None] - y).mean()
                spread = [np.abs(s[:, None] - s).sum() / (len(s) * (len(s) - 1)) for s in (x, y)]
                best = max(best, (n * m / (n + m) * (2 * across - sum(spread)), split))
        return best[1]

    for seed in range(5):
        window = np.random.default_rng(seed).standard_normal(14).cumsum()
        assert _best_split(window) == direct(window)
