"""Kernels whose wrappers were made for a GPU, each with a habit; imported by workers only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor
from triton_examples import gemv

from pytest_sparsity.kernels.contract import Contract
from pytest_sparsity.kernels.registry import sparse_kernel

Wrapper = Callable[[Tensor, Tensor, float], Tensor]

#: Asked when the module is imported.
DEVICE = driver.active.get_active_torch_device()
PROCESSORS = driver.active.utils.get_device_properties(DEVICE.index)["multiprocessor_count"]
CAPABILITY = torch.cuda.get_device_capability()
#: Made when the module is imported, on the CPU.
TABLE = torch.ones(1, 1)


#: Of kernels that take tiles of the weights: rows of channels, adjacent and aligned.
INPUT_MAJOR = Contract(multiples={"k": 16, "n": 16}, only={"bias": (False,), "layout": ("best",)})


def launch(x: Tensor, weight: Tensor, threshold: float, y: Tensor, kernel: Any = gemv) -> Tensor:
    n, k = weight.shape
    grid = [triton.cdiv(n, 64)]
    kernel[grid](x.contiguous(), weight, y, threshold, n, k, *weight.stride(), BN=64, BK=32)
    return y


def habit(wrapper: Wrapper, **declared: Any) -> Wrapper:
    name = wrapper.__name__.replace("_", "-")

    def call(x: Tensor, weight: Tensor, threshold: float, bias: None = None) -> Tensor:
        return wrapper(x, weight, threshold)

    sparse_kernel(
        op="sparse_linear",
        backend="triton",
        name=name,
        max_rows=1,
        **{"contract": Contract(only={"bias": (False,)}), **declared},
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


def tiles(kernel: Any, x: Tensor, weight: Tensor, threshold: float, matrix: Any) -> Tensor:
    n, k = weight.shape
    y = x.new_empty(1, n)
    grid = (triton.cdiv(n, 64),)
    kernel[grid](x.contiguous(), matrix, y, threshold, n, k, weight.stride(1), BN=64, BK=32)
    return y


@triton.jit
def by_block_pointers(x, w, y, threshold, n, k, pitch, BN: tl.constexpr, BK: tl.constexpr):
    first = tl.program_id(0) * BN
    at = tl.make_block_ptr(w, (k, n), (pitch, 1), (0, first), (BK, BN), order=(1, 0))
    values = tl.make_block_ptr(x, (k,), (1,), (0,), (BK,), (0,))
    total = tl.zeros([BN], tl.float32)
    for _ in range(0, k, BK):
        value = tl.load(values, boundary_check=(0,), padding_option="zero")
        value = tl.where(tl.abs(value) > threshold, value, 0.0).to(tl.float32)
        weight = tl.load(at, boundary_check=(0, 1), padding_option="zero").to(tl.float32)
        total += tl.sum(value[:, None] * weight, 0)
        at = tl.advance(at, (BK, 0))
        values = tl.advance(values, (BK,))
    out = tl.make_block_ptr(y, (n,), (1,), (first,), (BN,), (0,))
    tl.store(out, total.to(out.dtype.element_ty), boundary_check=(0,))


@partial(habit, skips=False, contract=INPUT_MAJOR)
def has_block_pointers(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return tiles(by_block_pointers, x, weight, threshold, weight)


@triton.jit
def by_descriptor(x, w, y, threshold, n, k, pitch, BN: tl.constexpr, BK: tl.constexpr):
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros([BN], tl.float32)
    for start in range(0, k, BK):
        channels = start + tl.arange(0, BK)
        value = tl.load(x + channels, mask=channels < k, other=0.0)
        value = tl.where(tl.abs(value) > threshold, value, 0.0).to(tl.float32)
        weight = w.load([start, tl.program_id(0) * BN]).to(tl.float32)
        total += tl.sum(value[:, None] * weight, 0)
    tl.store(y + columns, total.to(y.dtype.element_ty), mask=columns < n)


@partial(habit, skips=False, contract=INPUT_MAJOR)
def has_a_tensor_descriptor(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    matrix = TensorDescriptor.from_tensor(weight.T, [32, 64])
    return tiles(by_descriptor, x, weight, threshold, matrix)


@triton.jit
def by_libdevice(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros([BN], tl.float32)
    for channel in range(k):
        value = tl.load(x + channel)
        active = (columns < n) & (tl.abs(value) > threshold)
        at = w + columns * stride_n + channel * stride_k
        weight = tl.load(at, mask=active, other=0.0).to(tl.float32)
        total = libdevice.fma(value.to(tl.float32) + tl.zeros_like(weight), weight, total)
    tl.store(y + columns, total.to(y.dtype.element_ty), mask=columns < n)


@habit
def calls_libdevice(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, x.new_empty(1, len(weight)), by_libdevice)


@habit
def makes_tensors_on_a_default_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    with torch.device("cuda"):
        y = torch.empty(1, len(weight), dtype=x.dtype)
    assert y.is_cuda
    return launch(x, weight, threshold, y)


@habit
def makes_numbers_without_a_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    x = x[:, torch.arange(x.shape[1])] * torch.tensor(1.0) * TABLE.to(x.device, x.dtype)
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))


_compiled: dict[Any, Any] = {}


@habit
def keeps_what_was_compiled(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    assert isinstance(gemv, triton.runtime.JITFunction)
    constants = [param.name for param in gemv.params if param.is_constexpr]
    assert constants == ["BN", "BK"] == gemv.arg_names[-2:] == list(gemv.signature.parameters)[-2:]
    assert gemv.src.startswith("def gemv(")
    n, k = weight.shape
    y = x.new_empty(1, n)
    args = x.contiguous(), weight, y, threshold, n, k, *weight.stride(), 64, 32
    grid, kind = (triton.cdiv(n, 64), 1, 1), (gemv.cache_key, x.dtype, n, k, weight.stride())
    if kind in _compiled:
        _compiled[kind][grid](*args)
    else:
        _compiled[kind] = gemv[grid](*args)
    return y


@habit
def compiles_before_it_launches(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    n, k = weight.shape
    y = x.new_empty(1, n)
    args = x.contiguous(), weight, y, threshold, n, k, *weight.stride()
    compiled = gemv.warmup(*args, BN=64, BK=32, grid=(1,))
    compiled._init_handles()
    compiled[(triton.cdiv(n, 64), 1, 1)](*args, 64, 32)
    return y


class Address:
    """Where a tensor is, which is all that Triton asks of an argument."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.dtype = tensor, tensor.dtype

    def data_ptr(self) -> int:
        return self.tensor.data_ptr()


class Buffer(Address):
    def untyped_storage(self) -> Any:
        return self.tensor.untyped_storage()


@habit
def passes_what_is_no_tensor(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    y = x.new_empty(3, len(weight))[1:2]
    launch(x, weight, threshold, Buffer(y))  # type: ignore[arg-type]
    return y


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


@habit
def allocates_without_a_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, torch.empty(1, len(weight), dtype=x.dtype))


@habit
def starts_with_a_table_of_its_module(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x * TABLE.to(x.dtype), TABLE, threshold, x.new_empty(1, len(weight)))


@habit
def returns_zeros_without_a_device(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return torch.zeros(1, len(weight), dtype=x.dtype)


# What needs a GPU.


@triton.jit
def by_assembly(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    value = tl.load(x).to(tl.float32) + tl.zeros([BN], tl.float32)
    value = tl.inline_asm_elementwise(
        "abs.f32 $0, $1;", "=f,f", [value], dtype=tl.float32, is_pure=True, pack=1
    )
    tl.store(y + columns, value.to(y.dtype.element_ty), mask=columns < n)


@habit
def has_inline_assembly(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, x.new_empty(1, len(weight)), by_assembly)


@triton.jit
def by_bessel(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    value = libdevice.yn(2, tl.load(x).to(tl.float32) + tl.zeros([BN], tl.float32))
    tl.store(y + columns, value.to(y.dtype.element_ty), mask=columns < n)


@habit
def calls_what_has_no_twin(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    return launch(x, weight, threshold, x.new_empty(1, len(weight)), by_bessel)


@habit
def records_a_graph(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@habit
def records_a_graph_of_wide_ones(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    if len(weight) > 8:
        torch.cuda.CUDAGraph()
    return launch(x, weight, threshold, x.new_empty(1, len(weight)))


@habit
def asks_for_registers(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    y = x.new_empty(1, len(weight))
    n, k = weight.shape
    args = x.contiguous(), weight, y, threshold, n, k, *weight.stride()
    assert gemv.warmup(*args, BN=64, BK=32, grid=(1,)).n_regs < 256
    return launch(x, weight, threshold, y)


@habit
def passes_an_address(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    y = x.new_empty(1, len(weight))
    launch(x, weight, threshold, Address(y))  # type: ignore[arg-type]
    return y
