"""The definition against torch's own layout, and what it does not take."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings

from block_sparse.op import bsr_linear, check
from pytest_sparsity.testing import strategies


@pytest.mark.filterwarnings("ignore:Sparse BSR tensor support is in beta state")
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(inputs=strategies.inputs("bsr_linear", dtype="float32"))
def test_blocks_are_those_of_torch(inputs: Any) -> None:
    x, blocks, columns, starts = inputs.x, inputs.blocks, inputs.columns, inputs.starts
    shape = (blocks.shape[1] * (len(starts) - 1), x.shape[1])
    sparse = torch.sparse_bsr_tensor(starts, columns, blocks, shape, check_invariants=True)
    own = bsr_linear(x.double(), blocks.double(), columns, starts)
    torch.testing.assert_close(own, x.double() @ sparse.to_dense().double().T)


def test_operands_that_do_not_fit() -> None:
    x, blocks = torch.zeros(2, 64), torch.zeros(1, 16, 16)
    place = torch.zeros(1, dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32)
    check(x, blocks, *place)
    for wrong in ((x[0], blocks), (x[:, :40], blocks), (x.half(), blocks), (x, blocks[:0])):
        with pytest.raises(ValueError, match="must"):
            check(*wrong, *place)


def test_nan_stays_in_its_row_of_blocks() -> None:
    blocks = torch.stack([torch.full((16, 16), torch.nan), torch.ones(16, 16)])
    columns = torch.tensor([1, 0], dtype=torch.int32)
    starts = torch.tensor([0, 1, 2, 2], dtype=torch.int32)
    y = bsr_linear(torch.ones(2, 32), blocks, columns, starts)
    assert y[:, :16].isnan().all()
    assert (y[:, 16:32] == 16).all()
    assert (y[:, 32:] == 0).all()
