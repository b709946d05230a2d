"""Kernels whose wrappers were made for a GPU, each with a habit; imported by workers only."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from torch import Tensor
from triton.runtime import driver
from triton_examples import gemv

from pytest_sparsity.kernels.contract import Contract
from pytest_sparsity.kernels.registry import sparse_kernel

Wrapper = Callable[[Tensor, Tensor, float], Tensor]

#: Asked when the module is imported.
DEVICE = driver.active.get_active_torch_device()
PROCESSORS = driver.active.utils.get_device_properties(DEVICE.index)["multiprocessor_count"]
CAPABILITY = torch.cuda.get_device_capability()


def launch(x: Tensor, weight: Tensor, threshold: float, y: Tensor) -> Tensor:
    n, k = weight.shape
    grid = (triton.cdiv(n, 64),)
    gemv[grid](x.contiguous(), weight, y, threshold, n, k, *weight.stride(), BN=64, BK=32)
    return y


def habit(wrapper: Wrapper) -> Wrapper:
    name = wrapper.__name__.replace("_", "-")

    def call(x: Tensor, weight: Tensor, threshold: float, bias: None = None) -> Tensor:
        return wrapper(x, weight, threshold)

    sparse_kernel(
        op="sparse_linear",
        backend="triton",
        name=name,
        max_rows=1,
        contract=Contract(only={"bias": (False,)}),
    )(call)
    return wrapper


@habit
def asserts_cuda(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    assert x.is_cuda
    assert weight.device.type == "cuda"
    assert x.get_device() == 0
    assert not x.is_cpu
    assert x.device == DEVICE
    assert x.type().startswith("torch.cuda.")
    return launch(x, weight, threshold, torch.empty(1, len(weight), dtype=x.dtype, device="cuda"))


@habit
def goes_another_way_on_a_cpu(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    if not x.is_cuda or not torch.cuda.is_available():
        return torch.zeros(1, len(weight), dtype=x.dtype)
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@habit
def enters_device_and_stream(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    stream = torch.cuda.Stream(device=x.device)
    stream.wait_stream(torch.cuda.current_stream())
    start.record()
    with torch.cuda.device(x.device), torch.cuda.stream(stream):
        y = launch(x, weight, threshold, torch.empty((1, len(weight)), device=DEVICE).to(x.dtype))
    end.record(stream)
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0
    y.record_stream(stream)
    return y


@habit
def asks_for_properties(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    told = torch.cuda.get_device_properties(torch.cuda.current_device())
    assert told.multi_processor_count == PROCESSORS > 0
    assert told.warp_size == 32
    assert (told.major, told.minor) == torch.cuda.get_device_capability(x.device) >= CAPABILITY
    assert driver.active.get_current_target().arch == 10 * told.major
    assert torch.cuda.device_count() == 1
    assert told.name == torch.cuda.get_device_name(0)
    return launch(x, weight, threshold, torch.empty_like(x[:, :1]).expand(1, len(weight)).clone())


@habit
def moves_to_the_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    weight = weight.to("cuda:0", non_blocking=True)
    host = torch.full((1, len(weight)), 7.0).to(x)
    assert host.is_cuda
    assert x.cuda().data_ptr() == x.data_ptr()
    return launch(x.cuda(), weight, threshold, host)


@habit
def casts_by_autocast(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.is_autocast_enabled()
        assert torch.get_autocast_dtype("cuda") == torch.bfloat16
        with torch.autocast("cuda", enabled=False):
            return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@habit
@torch.compile(fullgraph=True)
def is_compiled_by_torch(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@torch.library.custom_op("pytest_sparsity_tests::gemv", mutates_args=(), device_types="cuda")
def operator(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    assert x.is_cuda
    return launch(x, weight, threshold, torch.empty((1, len(weight)), device="cuda").to(x.dtype))


@habit
def is_an_operator_of_torch(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    y: Tensor = torch.ops.pytest_sparsity_tests.gemv(x, weight, threshold)
    return y


@habit
def looks_at_a_copy(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    host = x.cpu()
    assert host.float().numpy().shape == x.shape
    assert isinstance(host.tolist(), list)
    host.zero_()  # a copy: x stays
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))


# What is wrong on a GPU, and only there.


@habit
def reads_as_numpy(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return torch.from_numpy(x.numpy()).to(x.dtype)


@habit
def starts_with_a_copy_on_the_cpu(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x.cpu(), weight, threshold, x.new_empty(1, len(weight)))


@habit
def returns_a_copy_on_the_cpu(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, x.new_empty(1, len(weight))).cpu()


@habit
def uses_another_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    with torch.cuda.device(1):
        return launch(x, weight, threshold, x.new_empty(1, len(weight)))


# What needs a GPU.


@habit
def records_a_graph(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@habit
def records_a_graph_of_wide_ones(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    if len(weight) > 8:
        torch.cuda.CUDAGraph()
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))
