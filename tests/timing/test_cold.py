"""Cold timings are of cold operands and warm code, and their intervals hold the true ratio."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pytest_sparsity.speed.cold import Spread, describe_noise, p10_ratio, time_cold


def test_each_run_comes_after_its_rehearsal() -> None:
    log: list[str] = []
    contenders = {name: (lambda name=name: log.append(name)) for name in "ab"}
    rehearsals = {name: (lambda name=name: log.append(f"warm {name}")) for name in "ab"}
    seconds = time_cold(contenders, rehearsals, 6, seed=0)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 6, "b": 6}
    timed = log[2:]
    assert sorted(timed[1::2]) == ["a"] * 6 + ["b"] * 6
    assert timed[::2] == [f"warm {name}" for name in timed[1::2]]


def test_interval_holds_the_true_ratio() -> None:
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        shared = rng.lognormal(0, 0.1, 40)
        a, b = (shared * (1 + rng.exponential(0.3, 40)) for _ in range(2))
        found = p10_ratio(2.0 * a, b, seed=seed)
        assert found.low <= found.high
        held += found.low <= 2.0 <= found.high
    assert binomtest(held, 120, 0.95).pvalue > 1e-3, held


def test_a_few_disturbed_runs_change_nothing() -> None:
    quiet = list(np.linspace(1.0, 1.1, 30))
    disturbed = [t * (50 if n % 3 == 0 else 1) for n, t in enumerate(quiet)]
    assert p10_ratio(disturbed, quiet, seed=0).estimate == pytest.approx(1, abs=0.05)


def test_same_seed_same_interval() -> None:
    a, b = np.linspace(1, 2, 20), np.linspace(2, 3, 20)
    assert p10_ratio(a, b, seed=1) == p10_ratio(a, b, seed=1)


@pytest.mark.parametrize(("a", "b"), [(9, 9), (20, 19)])
def test_too_few_rounds(a: int, b: int) -> None:
    message = f"^numerator and denominator must be of the same rounds, at least ten, not {a} and"
    with pytest.raises(ValueError, match=message):
        p10_ratio([1.0] * a, [1.0] * b, seed=0)


def test_noise_in_words() -> None:
    assert Spread.of([1.0] * 10) == Spread(1, 1, 1)
    assert describe_noise({"a": [1.0] * 10}) == "quiet: medians 1.00 times p10, p90 1.00 times"
    assert describe_noise({"a": [1.0] * 4 + [1.3] * 6}).startswith("noisy: medians 1.30")
    assert describe_noise({"a": [1.0] * 4 + [3.0] * 6}).startswith("very noisy")
