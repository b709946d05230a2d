"""The CUDA devices torch can see."""

from __future__ import annotations

from pytest_sparsity.targets.caches import Cache
from pytest_sparsity.targets.host import HardwareTarget


def cuda_targets() -> tuple[HardwareTarget, ...]:
    """Every CUDA device in torch's order; empty without a GPU or with a CPU build of torch."""
    import torch

    if not torch.cuda.is_available():
        return ()
    return tuple(_target(index) for index in range(torch.cuda.device_count()))


def _target(index: int) -> HardwareTarget:
    import torch

    properties = torch.cuda.get_device_properties(index)
    amd = torch.version.hip is not None
    # Of an MI300X torch reports one die's of eight, and nothing of the cache behind them.
    cache = 0 if amd else getattr(properties, "L2_cache_size", 0)  # since torch 2.6
    return HardwareTarget(
        kind="cuda",
        name=properties.name,
        isa=(f"sm_{properties.major}{properties.minor}",),
        cores=properties.multi_processor_count,
        memory_bytes=properties.total_memory,
        # Tensor cores multiply bfloat16 from Ampere on; before, it is emulated.
        fast_bfloat16=properties.major >= 8,
        index=index,
        caches=(Cache(2, cache, 1),) if cache else (),
        # ROCm's devices call themselves cuda too, and number their generations otherwise.
        capability=None if amd else (properties.major, properties.minor),
    )
