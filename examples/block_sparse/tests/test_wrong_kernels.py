"""Every wrong kernel is killed, by the first check that it fails of those that apply."""

import pytest

import wrong_kernels
from pytest_sparsity.testing import KernelFailure, check_kernel

KILLED_BY = {
    "transposed_blocks": "edges",
    "column_off_by_one": "edges",
    "blocks_of_16": "edges",
    "sums_in_operand": "edges",
    "first_row_only": "edges",
    "last_row_dropped": "edges",
    "empty_rows_skipped": "edges",
    "one_block_per_row": "edges",
    "pitch_ignored": "edges",
    "scaled_in_place": "repeat",
    "workspace_returned": "scaling",
    "loads_one_block_ahead": "bounds",
    "writes_beyond": "edges",
    "empty_rows_uninitialised": "edges",
}


@pytest.mark.parametrize("name", KILLED_BY)
def test_wrong_kernel(name: str) -> None:
    with pytest.raises(KernelFailure) as failure:
        check_kernel(getattr(wrong_kernels, name), examples=20)
    assert failure.value.outcome.check == KILLED_BY[name]
    assert f'check_kernel("bsr_linear/{name}", "{KILLED_BY[name]}"' in str(failure.value)
