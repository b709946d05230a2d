from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_sparsity.checking.guards import Overrun, check_margins, guarded, watched_outputs
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int8, torch.uint8, torch.int32, torch.int64)


def inputs(weight: Tensor | None = None, dtype: torch.dtype = torch.float32) -> SparseLinearInputs:
    weight = torch.arange(35.0, dtype=dtype).view(7, 5) if weight is None else weight
    return SparseLinearInputs(torch.ones(2, 5, dtype=dtype), weight, 0.5, weight.new_ones(7))


def at(tensor: Tensor, element: int) -> Tensor:
    """One element counted from the tensor's first, through memory, in bounds or not."""
    return tensor.as_strided((1,), (1,), tensor.storage_offset() + element)


@pytest.mark.parametrize(
    "name",
    ["output-major", "input-major", "pitch", "slice", "strided", "broadcast", "odd address"],
)
def test_operands_keep_values_strides_and_alignment(name: str, layouts: dict[str, Tensor]) -> None:
    given = inputs(layouts[name])
    copied = guarded(given)
    for before, after in zip(
        operands.tensors(given).values(), operands.tensors(copied).values(), strict=True
    ):
        assert torch.equal(before, after)
        assert before.stride() == after.stride()
        assert before.data_ptr() % 64 == after.data_ptr() % 64
        assert before.data_ptr() != after.data_ptr()
    assert copied.threshold == 0.5
    check_margins(copied)


@pytest.mark.parametrize("dtype", DTYPES)
def test_margins_and_gaps_are_nan(dtype: torch.dtype) -> None:
    wide = torch.ones(7, 9, dtype=dtype)
    copied = guarded(inputs(wide[:, :5], dtype))
    for element in (-1, -1000, 6 * 9 + 5, 6 * 9 + 1000):
        assert at(copied.weight, element).isnan()
    for element in (5, 8, 9 + 5):
        assert at(copied.weight, element).isnan()
    assert at(copied.x, 10).isnan()


def test_empty_operands_stay() -> None:
    given = SparseLinearInputs(torch.ones(2, 5), torch.empty(0, 5), 0.5)
    assert guarded(given).weight.shape == (0, 5)
    check_margins(guarded(given))


@pytest.mark.parametrize(
    ("element", "where"),
    [
        (35, "up to 4 bytes past the end of the operand weight, float32 tensor of shape (7, 5)"),
        (34 + 100, "up to 400 bytes past the end of the operand weight"),
        (-2, "up to 8 bytes before the beginning of the operand weight"),
    ],
)
def test_a_write_beside_an_operand_is_found(element: int, where: str) -> None:
    copied = guarded(inputs())
    at(copied.weight, element).fill_(1)
    with pytest.raises(Overrun, match=re.escape(where)):
        check_margins(copied)


def test_a_write_between_rows_is_found() -> None:
    copied = guarded(inputs(torch.ones(7, 9)[:, :5]))
    at(copied.weight, 5).fill_(1)
    with pytest.raises(Overrun, match="wrote between the rows of the operand weight"):
        check_margins(copied)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64, torch.float8_e4m3fn])
def test_uninitialised_floats_are_nan(dtype: torch.dtype) -> None:
    like = torch.ones(2, 3, dtype=dtype)
    with watched_outputs():
        made = (
            torch.empty(2, 3, dtype=dtype),
            torch.empty_like(like),
            torch.empty_strided((2, 3), (4, 1), dtype=dtype),
            like.new_empty(2, 3),
            like.new_empty_strided((2, 3), (1, 2)),
        )
    assert all(bool(tensor.float().isnan().all()) for tensor in made)
    assert [tensor.stride() for tensor in made] == [(3, 1), (3, 1), (4, 1), (3, 1), (1, 2)]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_uninitialised_integers_are_extreme(dtype: torch.dtype) -> None:
    with watched_outputs():
        made = torch.empty(9, dtype=dtype)
    largest = torch.iinfo(dtype).max
    assert bool((made.double().abs() > 0.99 * largest).all())


def test_initialised_allocations_keep_their_content() -> None:
    x = torch.arange(6.0).view(2, 3)
    with watched_outputs():
        assert torch.equal(torch.zeros(2, 3), x * 0)
        assert torch.equal(torch.full((2, 3), 7.0), x * 0 + 7)
        assert torch.equal(x.new_ones(2, 3), x * 0 + 1)
        assert torch.equal(x.t().clone(), x.t())
        assert torch.equal(x.to(torch.bfloat16).float(), x)
        assert torch.equal(torch.zeros_like(x.expand(4, 2, 3)), torch.zeros(4, 2, 3))
        assert torch.empty(0).shape == (0,)
        assert torch.empty(3, device="meta").is_meta


def empties() -> list[object]:
    return [
        lambda: torch.empty(2, 40),
        lambda: torch.zeros(2, 40),
        lambda: torch.ones(40).expand(2, 40).contiguous(),
        lambda: torch.ones(2, 40, dtype=torch.float64).to(torch.float32),
    ]


@pytest.mark.parametrize("allocate", empties())
@pytest.mark.parametrize("nan", [False, True])
def test_a_write_past_an_allocation_is_found(allocate: object, nan: bool) -> None:
    assert callable(allocate)
    # NaN read beside an operand and written on is no canary.
    value = guarded(inputs()).x.as_strided((1,), (1,), 1024 + 10) * 2 if nan else torch.ones(1)
    with (
        pytest.raises(
            Overrun,
            match=r"up to 8 bytes past the end of the float32 tensor of shape \(2, 40\) that it",
        ),
        watched_outputs(),
    ):
        at(allocate(), 81).copy_(value[0])


def test_a_write_before_an_allocation_is_found() -> None:
    with pytest.raises(Overrun, match="up to 12 bytes before the beginning"), watched_outputs():
        at(torch.empty(5), -3).fill_(0)


def test_what_the_kernel_raises_is_not_hidden() -> None:
    with pytest.raises(TypeError, match="fill_"), watched_outputs():
        at(torch.empty(5), -3).fill_(0).fill_("")


def test_pointers_and_numpy_lead_to_the_allocation() -> None:
    with watched_outputs():
        out = torch.empty(4)
        ctypes.memset(out.data_ptr(), 0, 16)
        assert torch.equal(out, torch.zeros(4))
        out.numpy()[:] = np.arange(4)
        assert out.tolist() == [0, 1, 2, 3]
        assert out.data_ptr() % 64 == 0
        assert out.is_contiguous()
    with pytest.raises(Overrun, match="up to 1 bytes past"), watched_outputs():
        ctypes.memset(torch.empty(4).data_ptr(), 0, 17)


@torch.library.custom_op("pytest_sparsity_tests::overrun", mutates_args=())
def overrun(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    at(out, x.numel()).fill_(0)
    return out


def test_allocations_inside_library_ops_are_watched() -> None:
    message = r"past the end of the float32 tensor of shape \(3,\)"
    with pytest.raises(Overrun, match=message), watched_outputs():
        assert bool(overrun(torch.ones(3)).isnan().all())
