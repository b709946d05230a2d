from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.methods.neurons.hot_set import (
    by_frequency,
    curve,
    hot_blocks,
    hot_count,
    hot_mask,
    hottest,
    rank_correlation,
    top_overlap,
)

COUNTS = torch.tensor([1, 70, 0, 10, 10, 9])


def test_the_hot_set_is_the_smallest_that_holds_the_share() -> None:
    assert hot_count(COUNTS, 0.8) == 2  # 70 + 10 is exactly 80 of 100
    assert hot_count(COUNTS, 0.81) == 3
    assert hot_count(COUNTS, 0.7) == 1
    assert hot_count(COUNTS, 1.0) == 5  # the dead neuron is never hot


def test_a_share_is_meant_as_it_is_written() -> None:
    # 0.55 * 100 is more than 55 in floating point.
    assert hot_count(torch.tensor([55, 45]), 0.55) == 1


def test_a_dead_layer_has_no_hot_neuron() -> None:
    assert hot_count(torch.zeros(4, dtype=torch.int64)) == 0
    assert curve(torch.zeros(4, dtype=torch.int64), [0.0, 1.0]) == (0.0, 0.0)


def test_equal_neurons_come_in_their_order() -> None:
    assert by_frequency(COUNTS).tolist() == [1, 3, 4, 5, 0, 2]
    assert hot_mask(COUNTS, 2).tolist() == [False, True, False, True, False, False]


def test_the_hottest_of_a_model_are_those_of_all_layers() -> None:
    found = hottest({3: torch.tensor([5, 1]), 4: torch.tensor([5, 9])}, 2)
    assert {layer: mask.tolist() for layer, mask in found.items()} == {
        3: [True, False],  # of equal ones the first
        4: [False, True],
    }


@pytest.mark.parametrize(
    ("capacity", "kept"),
    [
        (0, [[], []]),
        (1, [[0], []]),
        (2, [[], [0, 1]]),
        (4, [[1, 2], [0, 1]]),
        (7, [[0, 1, 2], [0, 1, 2, 3]]),
    ],
)
def test_what_fits_is_placed_in_blocks_of_one_layer(capacity: int, kept: list[list[int]]) -> None:
    counts = {0: torch.tensor([0, 4, 5]), 1: torch.tensor([6, 6, 1, 0])}
    found = hot_blocks(counts, capacity, block=2)
    assert [mask.nonzero().flatten().tolist() for mask in found.values()] == kept


def test_curve() -> None:
    assert curve(COUNTS, [0, 1 / 6, 0.25, 1 / 3, 1]) == pytest.approx((0, 0.7, 0.75, 0.8, 1))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.sampled_from([0.5, 0.8, 0.99]))
def test_hot_count_is_minimal(values: list[int], share: float) -> None:
    counts = torch.tensor(values)
    hot, ordered = hot_count(counts, share), sorted(values, reverse=True)
    assert sum(ordered[:hot]) >= share * sum(values) - 1e-9
    assert hot == 0 or sum(ordered[: hot - 1]) < share * sum(values) + 1e-9
    assert int(counts[hot_mask(counts, hot)].sum()) == sum(ordered[:hot])


def test_overlap_and_rank_correlation() -> None:
    one = torch.arange(10)
    assert top_overlap(one, one, 0.2) == 1.0
    assert top_overlap(one, one.flip(0), 0.2) == 0.0
    assert top_overlap(one, torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 9, 1]).roll(-1), 0.2) == 0.5
    assert rank_correlation(one, one * one) == pytest.approx(1.0)
    assert rank_correlation(one, one.flip(0)) == pytest.approx(-1.0)
    assert rank_correlation(one, torch.ones(10)) is None
