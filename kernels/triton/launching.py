"""What the wrappers of Triton kernels share: whether they can run, and how products are started."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


#: How the variant of a kernel is registered that adds with atomics, see :func:`multiply`.
SPLIT_K: dict[str, Any] = {
    "backend": "triton",
    "name": "triton-split-k",
    "deterministic": False,
    "unavailable": unavailable,
}


def check(inputs: Any) -> None:
    """Raise ValueError unless Triton can work on operands that are where their ``x`` is.

    Args:
        inputs: operands of one of our ops, which were checked when this was made of them.
    """
    if inputs.x.device.type == "cpu" and not _interpreted() and not _pretends():
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
    """Streaming multiprocessors of x's device; of an H100 if it is none or pretended.

    None if kernels on it are interpreted.
    """
    if _interpreted():
        return None
    if x.device.type != "cuda" or _pretends():
        return configurations.PROCESSORS
    return _processors(x.device.index)


@lru_cache
def _processors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    x: Tensor,
    *operands: Any,
    warps: int,
    **named: Any,
) -> None:
    """Start ``kernel`` on x's device with ``x``, then ``operands``, as its arguments."""
    # Triton starts kernels on the current device, wherever their operands are.
    with torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext():
        # Fusing is said explicitly: Triton 3.10 changes what it does where nothing is said.
        kernel[grid](x, *operands, **named, num_warps=warps, enable_fp_fusion=True)


def division(kernel: str, x: Tensor, weight: Tensor, outputs: int, channels: int) -> Product:
    """How the product of ``x`` and ``weight`` is divided; see ``configurations.product``."""
    return configurations.product(
        kernel, len(x), outputs, channels, weight.element_size(), processors(x)
    )


def multiply(
    kernel: Any,
    plan: Product,
    x: Tensor,
    outputs: int,
    operands: Mapping[str, Any],
    at_end: Mapping[str, Tensor | None],
    *,
    atomic: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A product as ``plan`` divides it: [rows, outputs].

    One split gives the result itself.  Several give float32 parts, which a second kernel adds in
    a fixed order; with ``atomic`` they add them to one zeroed float32 buffer as they come.

    Args:
        kernel: that multiplies, of those in ``_jit``.
        plan: from :func:`division`.
        x: activations, [rows, channels].
        outputs: N.
        operands: of the kernel, by name, beside those that all of these kernels have.
        at_end: operands of whole sums, [outputs] or None: ``bias``, which is added, and of a
            kernel that knows them ``scales``, which are multiplied before.
        atomic: add with atomics: faster or slower, and not in a fixed order.
        dtype: of the result, x's if None.
    """
    rows = len(x)
    at_end = {name: None if t is None else t.contiguous() for name, t in at_end.items()}
    result = x.new_empty(rows, outputs, dtype=dtype)

    def start(target: Tensor, at_end: Mapping[str, Tensor | None]) -> None:
        launch(
            kernel,
            plan.grid,
            x,
            **operands,
            **at_end,
            target=target,
            rows=rows,
            outputs=outputs,
            share=plan.share,
            x_row=x.stride(0),
            x_channel=x.stride(1),
            warps=plan.warps,
            ATOMIC=atomic,
            **plan.tile,
        )

    if plan.splits == 1 and not atomic:
        start(result, at_end)
        return result
    from pytest_sparsity.kernels.triton._jit.reduction import reduce

    splits = 1 if atomic else plan.splits
    create = x.new_zeros if atomic else x.new_empty
    parts = create(splits, rows, outputs, dtype=torch.float32)
    start(parts, dict.fromkeys(at_end))
    block = configurations.reduction_block(splits)
    launch(
        reduce,
        (-(-result.numel() // block),),
        parts,
        *(at_end.get("scales"), at_end["bias"], result, result.numel(), outputs, splits),
        warps=plan.warps,
        SPLITS=1 << (splits - 1).bit_length(),
        BLOCK=block,
    )
    return result
