"""N:M weights: pruning, packing, unpacking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sparsity.reference.semi_structured import (
    PATTERNS,
    SemiStructuredWeight,
    pack,
    prune,
    unpack,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(PATTERNS),
    st.sampled_from(DTYPES),
)
def test_round_trip(
    seed: int, outputs: int, groups: int, pattern: tuple[int, int], dtype: torch.dtype
) -> None:
    n, m = pattern
    generator = torch.Generator().manual_seed(seed)
    # Small integers: many zeros and ties.
    weight = torch.randint(-2, 3, (outputs, groups * m), generator=generator).to(dtype)
    pruned = prune(weight, n, m)
    packed = pack(pruned, n, m)
    assert packed.values.shape == (groups, n, outputs)
    assert packed.indices.shape == (groups, n // 2, outputs)
    assert (packed.channels, packed.features) == (groups * m, outputs)
    assert unpack(packed).dtype == dtype
    assert torch.equal(unpack(packed), pruned)


@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_pruning_keeps_the_largest_and_of_equal_ones_the_first(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(n)
    weight = torch.randint(-3, 4, (7, 3 * m), generator=generator).float()
    expected = torch.zeros_like(weight)
    for row in range(7):
        for start in range(0, 3 * m, m):
            order = sorted(range(m), key=lambda i: (-abs(float(weight[row, start + i])), i))
            for i in order[:n]:
                expected[row, start + i] = weight[row, start + i]
    assert torch.equal(prune(weight, n, m), expected)


def test_layout_by_hand() -> None:
    # Output 0 keeps channels 1 and 3 of group 0 and, all being zero, 0 and 1 of group 1;
    # output 1 keeps 0 and 2, and 2 with the first zero, 0.
    weight = torch.tensor([[0.0, 5, 0, 6, 0, 0, 0, 0], [7.0, 0, 8, 0, 0, 0, 9, 0]])
    packed = pack(weight, 2, 4)
    assert packed.values.tolist() == [[[5, 7], [6, 8]], [[0, 0], [0, 9]]]
    assert packed.indices.tolist() == [[[0x31, 0x20]], [[0x10, 0x20]]]
    eight = torch.zeros(1, 8)
    eight[0, [1, 2, 5, 7]] = torch.tensor([1.0, 2, 3, 4])
    assert pack(eight, 4, 8).indices.tolist() == [[[0x21], [0x75]]]
    assert pack(eight, 4, 8).values.tolist() == [[[1], [2], [3], [4]]]


def test_any_strides_are_packed() -> None:
    weight = prune(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), 2, 4)
    across = weight.T.contiguous().T
    assert torch.equal(unpack(pack(across, 2, 4)), weight)
    assert torch.equal(prune(across, 2, 4), weight)


V, I = torch.zeros(2, 2, 3), torch.full((2, 1, 3), 0x10, dtype=torch.uint8)  # noqa: E741


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemiStructuredWeight(V, I, 1, 4), "n:m must be one of 2:4, 4:8, 8:16, not 1:4"),
        (lambda: SemiStructuredWeight(V[0], I, 2, 4), "values must have 3 dimensions, not 2"),
        (lambda: SemiStructuredWeight(V.long(), I, 2, 4), "values must be float32 .*, not int64"),
        (lambda: SemiStructuredWeight(V, I.int(), 2, 4), "indices must be uint8, not int32"),
        (lambda: SemiStructuredWeight(V, I, 4, 8), "values must have 4 slots, n, .*, not 2"),
        (lambda: SemiStructuredWeight(V, I[:1], 2, 4),
         r"indices must have shape \(2, 1, 3\), not \(1, 1, 3\)"),
        (lambda: SemiStructuredWeight(V, I.to("meta"), 2, 4), "indices must be on cpu, .* meta"),
        (lambda: SemiStructuredWeight(V.repeat(1, 1, 2)[..., ::2], I, 2, 4),
         "values must have stride 1 in its last dimension, not 2"),
        (lambda: unpack(SemiStructuredWeight(V, I + 0x40, 2, 4)),
         "indices must be from 0 to 3, not 5"),
        (lambda: unpack(SemiStructuredWeight(V, I * 0, 2, 4)),
         "indices must be ascending, and different, within a group"),
        (lambda: pack(torch.ones(2, 8), 2, 4), "weight must have at most 2 of 4 channels that are "
         "not zero, but has a group with 4; prune it first"),
        (lambda: pack(torch.ones(2, 6), 2, 4), "weight must have a multiple of 4 channels, not 6"),
        (lambda: prune(torch.ones(2, 6), 2, 4), "weight must have a multiple of 4 channels, .*"),
        (lambda: prune(torch.ones(2, 6), 3, 4), "n:m must be one of 2:4, 4:8, 8:16, not 3:4"),
        (lambda: prune(torch.ones(8), 2, 4), "weight must have 2 dimensions, not 1"),
    ],
)  # fmt: skip
def test_bad_input(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
