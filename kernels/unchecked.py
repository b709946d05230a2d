"""Kernels for loops that check their operands once: a check takes as long as a small layer.

A module may offer, beside its checked kernel with the backend's own name,

    unchecked(**operands) -> result          the same without checks,
    run(**operands, out)                     the same into ``out`` [rows, N],
    prepared(weight, threshold, bias)        ``call(x, out)`` for contiguous x and out, with all
                                             else looked at once (``sparse_linear`` only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.quantization import QuantizedWeight


def unchecked(kernel: Kernel) -> Callable[..., Tensor]:
    """The kernel without checks, or the kernel itself; takes the op's operands by keyword."""
    module = _module(kernel)
    direct: Callable[..., Tensor] | None = getattr(module, "unchecked", None)
    run: Callable[..., None] | None = getattr(module, "run", None)
    return direct or (partial(_allocating, run) if run else kernel.call)


def fixed(
    kernel: Kernel, weight: Tensor, threshold: float, bias: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """A kernel of ``sparse_linear`` with all but x [rows, K] fixed; gives [rows, N].

    The operands must fit the kernel, and weight and bias must stay where they are.
    """
    prepare = getattr(_module(kernel), "prepared", None)
    if prepare is None:
        compute = unchecked(kernel)
        return lambda x: compute(x=x, weight=weight, threshold=threshold, bias=bias)
    call, outputs = prepare(weight, threshold, bias), weight.shape[0]

    def allocating(x: Tensor) -> Tensor:
        out = x.new_empty(x.shape[0], outputs)
        call(x.contiguous(), out)
        return out

    return allocating


def _module(kernel: Kernel) -> object:
    """Where its entries are; a variant shares its module with another kernel and has none."""
    return sys.modules[kernel.module] if kernel.name == kernel.backend else None


def _allocating(run: Callable[..., None], **operands: Any) -> Tensor:
    x: Tensor = operands["x"]
    last = operands["down"] if "down" in operands else operands["weight"]
    outputs = last.features if isinstance(last, QuantizedWeight) else last.shape[0]
    out = x.new_empty(x.shape[0], outputs)
    run(**operands, out=out)
    return out
