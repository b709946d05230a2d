"""Weights far apart in address space."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.checking import api, far
from pytest_sparsity.checking.records import record
from pytest_sparsity.kernels import registry
from pytest_sparsity.reference import operands
from pytest_sparsity.testing import check_kernel

WRONG = str(Path(__file__).with_name("wrong.py"))


@pytest.fixture(autouse=True)
def _registered(own_kernels: None) -> None:
    api._import(WRONG)


@pytest.mark.parametrize("op", ["sparse_linear", "sparse_swiglu", "sparse_quantized_linear"])
def test_rows_of_weights_are_far_apart_and_take_no_memory(op: str) -> None:
    own = record(op)
    case = far.cases(registry.kernel(f"{op}/torch"))[0]
    inputs = own.build(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    moved = operands.tensors(far.apart(inputs, own.op.leading))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB
    spread = []
    for name, tensor in operands.tensors(inputs).items():
        assert torch.equal(moved[name], tensor)
        if moved[name].data_ptr() == tensor.data_ptr():
            continue
        spread.append(name)
        axis = max(range(tensor.ndim), key=moved[name].stride)
        pitch = moved[name].stride(axis)
        assert 2**32 <= pitch * (tensor.shape[axis] - 1) < 2**33
        assert pitch < 2**31
        assert (pitch - tensor.stride(axis)) % 64 == 0
    wanted: dict[str, Any] = {
        "sparse_linear": ["weight"],
        "sparse_swiglu": ["gate", "up", "down"],
        "sparse_quantized_linear": ["weight.payload", "weight.scales"],
    }
    assert spread == wanted[op][: len(spread)]
    assert spread


def test_ops_without_weights_are_not_for_it() -> None:
    (outcome,) = check_kernel("compact/torch", "far", processes=False).outcomes
    assert outcome.status == "skipped"
    assert outcome.message == "far is for kernels of ops that have weights with rows"


def test_without_address_space_it_is_skipped_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(size: int) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(far, "_mapped", refuse)
    (outcome,) = check_kernel("sparse_linear/right", "far", processes=False).outcomes
    assert outcome.status == "skipped"
    assert outcome.message == (
        "there is no room for weights of 2^32 elements: [Errno 12] Cannot allocate memory"
    )


@pytest.mark.slow
def test_an_emulated_kernel_passes() -> None:
    (outcome,) = check_kernel("sparse_linear/cuda", "far").outcomes
    if outcome.status == "skipped":
        pytest.skip(outcome.message)
    assert outcome.examples == 6


def test_a_right_kernel_passes() -> None:
    (outcome,) = check_kernel("sparse_linear/right", "far", processes=False).outcomes
    assert (outcome.status, outcome.examples) == ("passed", 6)
