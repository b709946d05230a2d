from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.scores import (
    Cut,
    counting,
    cut_at_share,
    cut_at_value,
    digest,
)
from pytest_sparsity.methods.statistics import Cost, Summed
from pytest_sparsity.models import LanguageModel


def _counted(*layers: torch.Tensor) -> Summed:
    """The counts of scores [R, I] of each layer."""
    count = counting("any", "up", lambda layer, read: read).counter(None)  # type: ignore[arg-type]
    totals = {f"{n}.up": count(f"{n}.up", scores) for n, scores in enumerate(layers)}
    return Summed(totals, dict.fromkeys(totals, 1), {name: name for name in totals}, Cost(0, 0, 0))


def _share_below(cut: Cut, *layers: torch.Tensor) -> float:
    return float(torch.cat([scores.flatten() < cut.value for scores in layers]).double().mean())


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    level=st.floats(0.01, 0.99),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    shift=st.sampled_from([-3.0, 0.0, 0.5]),
)
def test_the_share_below_is_the_level_and_is_known_exactly(
    seed: int, level: float, scale: float, shift: float
) -> None:
    lot = torch.Generator().manual_seed(seed)
    layers = [scale * (torch.randn(40, 50, generator=lot) + shift * n) for n in range(3)]
    cut = cut_at_share(_counted(*layers), level)
    assert cut.share == _share_below(cut, *layers)
    assert cut.share == pytest.approx(level, abs=0.005)
    for layer, scores in enumerate(layers):
        assert cut.shares[layer] == _share_below(cut, scores)


def test_all_and_nothing() -> None:
    scores = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert cut_at_share(_counted(scores), 0.0) == Cut(-math.inf, {0: 0.0}, 0.0)
    assert cut_at_share(_counted(scores), 1.0) == Cut(math.inf, {0: 1.0}, 1.0)


def test_scores_that_are_alike_go_together() -> None:
    cut = cut_at_share(_counted(torch.tensor([[0.0, -0.0, 1.0]])), 0.4)
    assert (cut.share, _share_below(cut, torch.tensor([0.0, -0.0, 1.0]))) == (2 / 3, 2 / 3)


def test_zero_skips_what_is_negative_and_neither_zero() -> None:
    scores = torch.tensor([[-1.0, -1e-30, -0.0, 0.0, 1.0]])
    assert cut_at_value(_counted(scores), 0.0).share == 2 / 5


def test_scores_that_are_no_numbers() -> None:
    with pytest.raises(SparsityError, match=r"scores of neurons at 0.up are not numbers \(NaN\)"):
        _counted(torch.tensor([[math.nan]]))


def test_they_are_counted_once_and_kept(
    calibrator: Callable[..., Calibrator], model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    made, calls = calibrator(), []

    def scores(layer: int, read: torch.Tensor) -> torch.Tensor:
        calls.append(layer)
        return read

    statistic = counting("here", "residual", scores)
    first = made.collected(statistic, documents)
    seen = len(calls)
    assert made.collected(statistic, documents) is first
    assert len(calls) == seen == 8 * 3
    assert first.rows == {f"{layer}.residual": 8 * 47 for layer in range(3)}


def test_a_digest_is_of_names_and_values() -> None:
    one = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    assert digest(one) == digest(dict(reversed(one.items())))
    assert digest(one) != digest({"a": torch.tensor([1.0]), "b": torch.tensor([2.5])})
    assert digest(one) != digest({"a": torch.tensor([1.0]), "c": torch.tensor([2.0])})
