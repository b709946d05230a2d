"""A pretended CUDA device, so that wrappers made for a GPU run unchanged where there is none.

For the processes that interpret and compile Triton kernels, never for the user's: :func:`install`
replaces functions of ``torch.cuda`` and its kin for good.  What they say of the device is what an
A100, H100 or B200 says; streams and events are there and everything happens in order.  Tensors are
on the device inside of :func:`scope`, see ``pretended_tensors``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from pytest_sparsity.checking.failure import CannotCheck
from pytest_sparsity.checking.pretended_objects import (
    Device,
    Event,
    Generator,
    Graph,
    State,
    Stream,
    checked,
    set_stream,
    stream_context,
)
from pytest_sparsity.checking.pretended_tensors import pretending


@dataclass(frozen=True)
class Gpu:
    """What a wrapper can ask of a device; sizes in bytes.

    The figures of all three are those of CUDA's occupancy tables for the compute capability; so
    that tables of configurations divide work on all alike, multiprocessors are those of an H100.
    """

    name: str
    memory: int
    cache: int
    shared_per_block: int
    shared_per_processor: int
    processors: int = 132


GPUS = {
    80: Gpu("NVIDIA A100-SXM4-80GB", 80 << 30, 40 << 20, 163 << 10, 164 << 10),
    90: Gpu("NVIDIA H100 80GB HBM3", 80 << 30, 50 << 20, 227 << 10, 228 << 10),
    100: Gpu("NVIDIA B200", 180 << 30, 126 << 20, 227 << 10, 228 << 10),
}


def installed() -> bool:
    """Whether this process has a pretended device."""
    return bool(State.arch)


def scope() -> AbstractContextManager[None]:
    """Inside, tensors of this thread are on the pretended device, if one is installed."""
    return pretending() if installed() else nullcontext()


def use(arch: int) -> None:
    """From now on, the device is of compute capability ``arch``, 90 for sm_90."""
    State.arch = arch


def install(arch: int) -> None:
    """Let torch believe in a CUDA device of compute capability ``arch``, for good."""
    first = not installed()
    use(arch)
    if first:
        State.stream = Stream()
        for module, replaced in _replaced():
            for name, value in replaced.items():
                setattr(module, name, value)


def _properties(device: Any = None) -> Any:
    checked(device)
    gpu = GPUS[State.arch]
    major, minor = divmod(State.arch, 10)
    return SimpleNamespace(
        name=gpu.name,
        major=major,
        minor=minor,
        total_memory=gpu.memory,
        multi_processor_count=gpu.processors,
        warp_size=32,
        max_threads_per_block=1024,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=48 << 10,
        shared_memory_per_block_optin=gpu.shared_per_block,
        shared_memory_per_multiprocessor=gpu.shared_per_processor,
        L2_cache_size=gpu.cache,
        is_integrated=0,
        is_multi_gpu_board=0,
        gcnArchName="",
    )


def triton_properties(device: int = 0) -> dict[str, int]:
    """What ``triton.runtime.driver.active.utils.get_device_properties`` gives."""
    gpu = GPUS[State.arch]
    return {
        "max_shared_mem": gpu.shared_per_block,
        "max_num_regs": 65536,
        "multiprocessor_count": gpu.processors,
        "warpSize": 32,
        "sm_clock_rate": 1_980_000,  # kHz; these three are an H100's
        "mem_clock_rate": 2_619_000,
        "mem_bus_width": 5120,
    }


def _none(*args: Any, **kwargs: Any) -> None:
    return None


def _zero(*args: Any, **kwargs: Any) -> int:
    return 0


def _true(*args: Any, **kwargs: Any) -> bool:
    return True


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)


_RANDOM: dict[str, Any] = {
    "manual_seed": _seed,
    "manual_seed_all": _seed,
    "initial_seed": lambda: torch.default_generator.initial_seed(),
    "get_rng_state": lambda device=None: torch.default_generator.get_state(),
    "get_rng_state_all": lambda: [torch.default_generator.get_state()],
    "set_rng_state": lambda state, device=None: torch.default_generator.set_state(state),
    "set_rng_state_all": lambda states: torch.default_generator.set_state(states[0]),
}
_CUDA: dict[str, Any] = {
    **_RANDOM,
    **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), _true),
    **dict.fromkeys(("_is_compiled", "is_tf32_supported"), _true),
    **dict.fromkeys(
        ("init", "_lazy_init", "_lazy_call", "synchronize", "empty_cache", "ipc_collect"), _none
    ),
    **dict.fromkeys(("reset_peak_memory_stats", "reset_max_memory_allocated"), _none),
    **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved"), _zero),
    **dict.fromkeys(("max_memory_reserved", "current_blas_handle"), _zero),
    **dict.fromkeys(("CUDAGraph", "graph", "make_graphed_callables"), Graph),
    "is_current_stream_capturing": lambda: False,
    "_is_in_bad_fork": lambda: False,
    "device_count": lambda: 1,
    "current_device": _zero,
    "_get_device_index": lambda device, *args, **kwargs: checked(device),
    "set_device": checked,
    "_exchange_device": checked,
    "_maybe_exchange_device": checked,
    "device": Device,
    "device_of": Device,
    "_DeviceGuard": Device,
    "get_device_name": lambda device=None: _properties(device).name,
    "get_device_capability": lambda device=None: (
        _properties(device).major,
        _properties(device).minor,
    ),
    "get_device_properties": _properties,
    "get_arch_list": lambda: [f"sm_{arch}" for arch in GPUS],
    "can_device_access_peer": lambda device, peer: False,
    "mem_get_info": lambda device=None: (GPUS[State.arch].memory,) * 2,
    "Stream": Stream,
    "ExternalStream": Stream,
    "Event": Event,
    "stream": stream_context,
    "StreamContext": stream_context,
    "set_stream": set_stream,
    "current_stream": lambda device=None: State.stream,
    "default_stream": lambda device=None: State.stream,
    "default_generators": (torch.default_generator,),
}
_ACCELERATOR: dict[str, Any] = {
    "is_available": _true,
    "device_count": lambda: 1,
    "current_accelerator": lambda check_available=False: torch.device("cuda"),
    "current_device_index": _zero,
    "current_device_idx": _zero,
    "set_device_index": checked,
    "synchronize": _none,
    "current_stream": lambda device=None: State.stream,
}


def _as_it_is(model: Any = None, **options: Any) -> Any:
    """``torch.compile``, also with options only, as a decorator."""
    return model if model is not None else lambda function: function


def _replaced() -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Everything that is replaced, module by module."""
    kinds = ("Float", "Half", "BFloat16", "Double", "Int", "Long", "Short", "Bool", "Byte")
    types = {f"{kind}Tensor": getattr(torch, f"{kind}Tensor") for kind in kinds}
    yield torch.cuda, _CUDA | types
    yield torch.cuda.random, _RANDOM
    yield torch.cuda.nvtx, dict.fromkeys(("range_push", "range_pop", "mark"), _none)
    yield torch.cuda.nvtx, {"range": nullcontext}
    yield torch._C, {"_cuda_getCurrentRawStream": _zero, "_cuda_getDevice": _zero}
    yield torch.version, {"cuda": "12.8"}  # with which wheels for these devices are built
    yield torch.backends.cuda, {"is_built": _true}
    # A wrapper that is compiled by torch as a whole computes the same without.
    yield torch, {"Generator": Generator, "compile": _as_it_is}
    yield torch.Tensor, {"record_stream": _none}
    yield torch.library, {"wrap_triton": lambda kernel: kernel}
    yield torch.library.Library, {"impl": _for_our_tensors(torch.library.Library.impl)}
    yield torch, _autocast_modes(torch.is_autocast_enabled, torch.get_autocast_dtype)
    yield torch.autocast, {"__init__": _of_the_cpu(torch.autocast.__init__)}
    accelerator = getattr(torch, "accelerator", None)
    known = {name: value for name, value in _ACCELERATOR.items() if hasattr(accelerator, name)}
    yield accelerator, known


def _of_the_cpu(init: Callable[..., None]) -> Callable[..., None]:
    """Automatic mixed precision of the CUDA device becomes that of the CPU, in half precision."""

    def for_cpu(self: Any, device_type: str, dtype: Any = None, *args: Any, **kwargs: Any) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        init(self, device_type, dtype, *args, **kwargs)

    return for_cpu


def _autocast_modes(
    enabled: Callable[[str], bool], dtype_of: Callable[[str], torch.dtype]
) -> Mapping[str, Any]:
    def cpu_for(name: str) -> str:
        return "cpu" if name == "cuda" else name

    return {
        "is_autocast_enabled": lambda device_type="cuda": enabled(cpu_for(device_type)),
        "get_autocast_dtype": lambda device_type: dtype_of(cpu_for(device_type)),
        "get_autocast_gpu_dtype": lambda: dtype_of("cpu"),
    }


def _for_our_tensors(impl: Callable[..., Any]) -> Callable[..., Any]:
    """What Python registers as an op's implementation for CUDA is called with our tensors."""
    overrides = "allow_override" in inspect.signature(impl).parameters
    of_cuda: set[tuple[Any, str]] = set()

    def registered(
        self: Any, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", **options: Any
    ) -> Any:
        own = (self.ns, str(op_name))
        key = dispatch_key or self.dispatch_key
        if key in ("CUDA", "AutogradCUDA") and self.ns == "aten":
            raise CannotCheck(f"it replaces torch's own {op_name} on CUDA devices")
        if key in ("CUDA", "AutogradCUDA"):
            of_cuda.add(own)
            key = key.replace("CUDA", "CPU")
            options |= {"allow_override": True} if overrides else {}
        elif key == "CPU" and own in of_cuda:
            return None
        return impl(self, op_name, fn, key, **options)

    return registered
