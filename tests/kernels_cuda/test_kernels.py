"""The CUDA kernels, emulated and on a device, against their float64 definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity.checking.emulation import compiling, launching
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda import compiler, device, multiply
from pytest_sparsity.kernels.cuda.sparse_linear import sparse_linear
from pytest_sparsity.kernels.cuda.sparse_swiglu import sparse_swiglu
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.operands import arguments
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision, tolerance_used

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
nan = math.nan


@pytest.fixture
def emulated() -> Iterator[None]:
    if (reason := compiling.unavailable()) is not None:
        pytest.skip(reason)
    with emulating():
        yield


@contextmanager
def emulating() -> Iterator[None]:
    launching.begin(0)
    with launching.emulating():
        yield


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def input_major(weight: Tensor) -> Tensor:
    return weight.T.contiguous().T


LAYOUTS = {
    "input-major": input_major,
    "output-major": lambda weight: weight,
    "pitch": lambda weight: input_major(torch.cat([weight, weight[:3]]))[: weight.shape[0]],
    "shifted": lambda weight: input_major(torch.cat([weight[:1], weight]))[1:],
}


def assert_right(op: str, kernel: Any, operands: Any) -> None:
    output = kernel(**arguments(operands))
    bound = OPS[op].bound
    assert bound is not None
    allowed = bound(operands, Precision(operands.x.dtype, torch.float32, torch.float32))
    assert output.dtype == operands.x.dtype
    assert tolerance_used(output, OPS[op].define(operands), allowed).max() <= 1


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [1, 8])
def test_sparse_linear(dtype: torch.dtype, layout: str, rows: int) -> None:
    for channels, outputs in ((1, 1), (7, 17), (96, 64), (50, 200)):
        x = random(rows, channels, dtype=dtype)
        threshold = float(x.abs().float().median())  # a number of x: one tie at least
        weight = LAYOUTS[layout](random(outputs, channels, dtype=dtype))
        bias = random(outputs, dtype=dtype) if channels != 7 else None
        inputs = OPS["sparse_linear"].inputs(x, weight, threshold, bias)
        assert_right("sparse_linear", sparse_linear, inputs)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_swiglu(dtype: torch.dtype, activation: str) -> None:
    for rows, channels, outputs in ((1, 40, 33), (8, 256, 16)):
        gate, up = random(2, 21, channels, dtype=dtype) / channels**0.5
        down = input_major(random(outputs, 21, dtype=dtype))
        x = random(rows, channels, dtype=dtype)
        inputs = OPS["sparse_swiglu"].inputs(x, gate, up, down, 0.3, activation)
        assert_right("sparse_swiglu", sparse_swiglu, inputs)


@pytest.mark.usefixtures("emulated")
def test_nan_is_active_and_skipped_weights_are_not_read() -> None:
    x = torch.zeros(8, 40)
    x[0, 39], x[1, 2], x[2, 5] = nan, 1.0, 1.0
    weight = input_major(torch.full((32, 40), nan))
    weight[:, [2, 39]] = 3.0
    output = sparse_linear(x, weight, 0.5)
    assert output[[0, 2]].isnan().all()
    assert torch.equal(output[1], torch.full((32,), 3.0))
    assert torch.equal(output[3:], torch.zeros(5, 32))


def test_every_output_has_one_owner() -> None:
    for outputs in (1, 7, 64, 576, 4096, 14336, 128256):
        for dtype in DTYPES:
            grid, (lanes, groups) = multiply.division(outputs, 4096, dtype)
            width = lanes * 16 // dtype.itemsize
            assert (grid - 1) * width < outputs <= grid * width
            assert lanes * groups == multiply.THREADS


def test_few_channels_take_few_groups() -> None:
    for channels in (1, 2, 3, 33):
        _, (_, groups) = multiply.division(64, channels, torch.float32)
        assert groups < 2 * channels
        assert groups.bit_count() == 1


def test_operands_on_the_cpu_are_refused() -> None:
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        sparse_linear(torch.ones(1, 3), torch.ones(2, 3), 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_what_is_missing_is_named() -> None:
    assert "no CUDA device" in str(device.unavailable())
    with pytest.raises(SparsityError, match="CUDA kernels: no CUDA device"):
        device._kernel(compiler.SOURCE, "sparse_linear", 0)


def test_numbers_are_passed_as_parameters_take_them() -> None:
    passed = [device._passed(value, size) for value, size in ((1, 8), (0.5, 8), (None, 8))]
    assert passed == [1, 0.5, 0]
    assert (device._passed(3, 4).value, device._passed(0.5, 4).value) == (3, 0.5)
    assert bytes(device._passed(b"abc", 3)) == b"abc"
    x = torch.ones(3)
    assert device._passed(x, 8) == x.data_ptr()


@pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_device(dtype: torch.dtype) -> None:
    x = random(2, 96, dtype=dtype)
    weight = input_major(random(200, 96, dtype=dtype))
    inputs = OPS["sparse_linear"].inputs(x, weight, 0.5)

    def kernel(x: Tensor, weight: Tensor, threshold: float, bias: None) -> Tensor:
        moved = sparse_linear(x.cuda(), input_major(weight.cuda()), threshold, bias)
        return moved.cpu()

    assert_right("sparse_linear", kernel, inputs)
