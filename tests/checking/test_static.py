from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pytest_sparsity.checking import static
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.ops import OPS

LARGE = {
    "compact": [],
    "hot_cold_mlp": ["up", "down"],
    "semi_structured_linear": ["weight.values"],
    "sparse_linear": ["weight"],
    "sparse_linear_indexed": ["weight"],
    "sparse_qkv": ["weight"],
    "sparse_quantized_linear": ["weight.payload"],
    "sparse_swiglu": ["gate", "up", "down"],
}


def kernel(op: str, backend: str = "triton", module: str = "somebody", **changes: Any) -> Kernel:
    fields: dict[str, Any] = {
        "op": op,
        "name": backend,
        "backend": backend,
        "call": lambda **operands: None,
        "dtypes": ("float32", "bfloat16", "float16"),
        "max_rows": 8,
        "module": module,
        "file": "",
    }
    return Kernel(**fields | changes)


@pytest.mark.parametrize("op", OPS)
def test_decoding_operands_of_every_op(op: str) -> None:
    for case in record(op).compiled_cases(kernel(op)):
        make = record(op).decoding
        assert make is not None
        inputs = make(case)
        assert isinstance(inputs, OPS[op].inputs)
        assert inputs.x.shape == (case.rows, 4096)
        tensors = operands.tensors(inputs)
        assert static._large(tensors, "x") == LARGE[op]
        for name in LARGE[op]:
            assert 1 in tensors[name].stride()


@pytest.mark.parametrize("op", OPS)
def test_work_has_every_level_of_every_op(op: str) -> None:
    cases = record(op).counted_cases(kernel(op, max_rows=1))
    assert [case.level for case in cases[:6]] == [0, 0.25, 0.5, 0.75, 0.9, 1]
    assert {case.rows for case in cases} == {1}
    assert {case.rows for case in record(op).counted_cases(kernel(op))} == {1, 3}
    for case in cases:
        assert isinstance(record(op).build(case), OPS[op].inputs)


@pytest.fixture
def author() -> Iterator[ModuleType]:
    """A module with CUDA kernels of an outside author."""
    module = ModuleType("somebody")
    sys.modules["somebody"] = module
    yield module
    del sys.modules["somebody"]


def told(author: ModuleType, **figures: int) -> list[str]:
    right = {"registers": 40, "spills": 0, "wide_loads": 4}
    author.resources = lambda arch: {"gemv": SimpleNamespace(**right | figures)}  # type: ignore[attr-defined]
    examined = kernel("sparse_linear", "cuda")
    trial = Trial(examined, record(examined.op).compiled_cases(examined)[0])
    static.run(trial)
    return trial.figures


def test_cuda_kernels_are_told_by_their_module(author: ModuleType) -> None:
    assert not static.applies(kernel("sparse_linear", "cuda"))
    figures = told(author)
    assert figures[1] == "gemv for sm_90: 40 registers, 0 bytes spilled, 4 loads of 128 bits"
    assert len(figures) == 3


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"spills": 8}, "spills 8 bytes of registers per thread in gemv when compiled for sm_80"),
        ({"registers": 200}, "uses 200 registers per thread, more than 128"),
        ({"wide_loads": 0}, "has no load of 128 bits"),
    ],
)
def test_bad_figures_of_cuda_kernels_are_found(
    author: ModuleType, figures: dict[str, int], words: str
) -> None:
    with pytest.raises(CheckFailure, match=words):
        told(author, **figures)


@pytest.mark.parametrize(
    ("triton", "registers", "spilled"),
    [
        ("3.5.0", 255, 64),
        ("3.6.1", 255, 64),
        ("3.7.1", 128, 64),
        ("3.8.0", 128, 0),
        ("4.0", 128, 0),
    ],
)
def test_older_compilers_may_take_more_registers(triton: str, registers: int, spilled: int) -> None:
    allowed = static._of_version(static.ONE_ROW, triton)
    assert (allowed.registers, allowed.spilled, allowed.width) == (registers, spilled, 128)
    assert static._of_version(static.SEVERAL_ROWS, triton).registers == 255
