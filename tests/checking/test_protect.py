from __future__ import annotations

import mmap
import signal
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pytest_sparsity.checking.protect import fenced, without_skipped
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs, needed

#: Channels of one page each; channels 0 and 2 are active.
OUTPUTS = mmap.PAGESIZE // 4
PAGED = f"""
import torch
from pytest_sparsity.checking.protect import fenced, without_skipped
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs, needed
x = torch.tensor([[1.0, 0.1, 1.0, 0.1]])
given = SparseLinearInputs(x, torch.ones(4, {OUTPUTS}).t(), 0.5, torch.ones({OUTPUTS}))
def at(tensor, element):
    import ctypes
    return ctypes.string_at(tensor.data_ptr() + 4 * element, 4)
"""


def ends_with(code: str) -> int:
    run = subprocess.run([sys.executable, "-c", PAGED + code], capture_output=True, text=True)
    assert run.returncode <= 0, run.stderr
    return run.returncode


@pytest.mark.parametrize(
    "name", ["output-major", "input-major", "pitch", "slice", "broadcast", "empty"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", ["begin", "end"])
def test_fenced_operands_keep_values_and_strides(
    name: str, dtype: torch.dtype, side: str, layouts: dict[str, Tensor]
) -> None:
    weight = layouts[name]
    weight = weight.to(dtype) if name != "broadcast" else weight[:1].to(dtype).expand(7, 5)
    given = SparseLinearInputs(torch.ones(3, 5, dtype=dtype), weight, 0.5)
    copied = fenced(given, "end" if side == "end" else "begin")
    for before, after in zip(
        operands.tensors(given).values(), operands.tensors(copied).values(), strict=True
    ):
        assert torch.equal(before, after)
        assert before.stride() == after.stride()
    edge = copied.x.data_ptr() + (copied.x.nbytes if side == "end" else 0)
    assert edge % mmap.PAGESIZE == 0


@pytest.mark.parametrize(
    "read",
    [
        "at(fenced(given).weight, given.weight.numel())",
        "at(fenced(given).x, 4)",
        "at(fenced(given, 'begin').x, -1)",
    ],
)
def test_one_element_outside_is_fatal(read: str) -> None:
    assert ends_with(read) == -signal.SIGSEGV


def test_every_element_inside_can_be_read() -> None:
    assert ends_with("[fenced(given, side).weight.sum() for side in ('begin', 'end')]") == 0


def test_needed_weights_can_be_read() -> None:
    code = "w = without_skipped(given, needed(given)).weight; w[:, 0].sum(), w[:, 2].sum()"
    assert ends_with(code) == 0


@pytest.mark.parametrize("element", [OUTPUTS, 2 * OUTPUTS - 1, 3 * OUTPUTS])
def test_a_skipped_weight_is_fatal(element: int) -> None:
    code = f"at(without_skipped(given, needed(given)).weight, {element})"
    assert ends_with(code) == -signal.SIGSEGV


def test_what_shares_a_page_is_nan() -> None:
    x = torch.tensor([[1.0, 0.1, 1.0]])
    given = SparseLinearInputs(x, torch.ones(6, 3), 0.5)
    weight = without_skipped(given, needed(given)).weight
    assert bool(weight[:, 1].isnan().all())
    assert torch.equal(weight[:, 0::2], torch.ones(6, 2))
    assert torch.equal(given.weight, torch.ones(6, 3))


def test_only_memory_of_the_cpu_can_be_protected() -> None:
    given = SparseLinearInputs(torch.ones(1, 3, device="meta"), torch.ones(2, 3, device="meta"), 0)
    with pytest.raises(ValueError, match="x must be on the CPU, not on meta"):
        fenced(given)
