"""What the wrappers of Triton kernels share: whether they can run, and how products are started."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.kernels.triton import configurations
from pytest_sparsity.kernels.triton.configurations import Product


def unavailable() -> str | None:
    """Why Triton kernels can neither run nor be compiled here, or None."""
    if find_spec("triton") is None:
        return "triton is not installed; there are wheels for Linux only (pip install triton)"
    return None


def check_device(x: Tensor) -> None:
    """Raise ValueError unless Triton can work on tensors that are where ``x`` is."""
    if x.device.type == "cpu" and not _interpreted() and not _pretends():
        raise ValueError(
            "x must be on a GPU, not on cpu; Triton works there only if TRITON_INTERPRET=1 is in "
            "the environment before triton is imported"
        )


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _pretends() -> bool:
    """Whether Triton's driver only stands in for a GPU, to compile for it: it takes any tensor."""
    from triton.backends.driver import DriverBase
    from triton.runtime import driver

    try:
        return not isinstance(driver.active, DriverBase)
    except RuntimeError:  # there is none
        return False


def processors(x: Tensor) -> int | None:
    """Streaming multiprocessors of x's device; of an H100 if it is no GPU.

    None if kernels on it are interpreted.
    """
    if x.device.type != "cuda":
        return None if _interpreted() else configurations.PROCESSORS
    return _processors(x.device.index)


@lru_cache
def _processors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def launch(
    kernel: Any, grid: tuple[int, ...], x: Tensor, *operands: Any, warps: int, **constants: Any
) -> None:
    """Start ``kernel`` on x's device with ``x``, then ``operands``, as its arguments."""
    # Triton starts kernels on the current device, wherever their operands are.
    with torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext():
        # Fusing is said explicitly: Triton 3.10 changes what it does where nothing is said.
        kernel[grid](x, *operands, **constants, num_warps=warps, enable_fp_fusion=True)


def multiply(
    start: Callable[[Tensor, Tensor | None, Tensor | None, Product], None],
    x: Tensor,
    outputs: int,
    plan: Product,
    *,
    bias: Tensor | None = None,
    scales: Tensor | None = None,
    atomic: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A product as ``plan`` divides it: [rows, outputs].

    One split gives the result itself.  Several give float32 parts, which a second kernel adds in
    a fixed order; with ``atomic`` they add them to one zeroed float32 buffer as they come.

    Args:
        start: launches the kernel that multiplies, given its target, scales, bias and the plan.
        x: of the operands, [rows, ...].
        outputs: N.
        plan: from ``configurations.product``.
        bias: [outputs] or None, added once.
        scales: [outputs] or None, multiplied with the sums.
        atomic: add with atomics: faster or slower, and not in a fixed order.
        dtype: of the result, x's if None.
    """
    rows = x.shape[0]
    bias = None if bias is None else bias.contiguous()
    result = x.new_empty(rows, outputs, dtype=dtype)
    if plan.splits == 1 and not atomic:
        start(result, scales, bias, plan)
        return result
    from pytest_sparsity.kernels.triton._jit.reduction import reduce

    splits = 1 if atomic else plan.splits
    create = x.new_zeros if atomic else x.new_empty
    parts = create(splits, rows, outputs, dtype=torch.float32)
    start(parts, None, None, plan)
    block = configurations.reduction_block(splits)
    launch(
        reduce,
        (-(-result.numel() // block),),
        parts,
        *(scales, bias, result, result.numel(), outputs, splits),
        warps=plan.warps,
        SPLITS=1 << (splits - 1).bit_length(),
        BLOCK=block,
    )
    return result
