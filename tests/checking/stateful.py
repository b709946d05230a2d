"""Kernels of sparse_linear that keep something between calls: right, or wrong in one way each."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference import operands


def registered(name: str, **declared: Any) -> Callable[[Any], Any]:
    return sparse_kernel(op="sparse_linear", backend="test", name=name, skips=False, **declared)


def product(x: Tensor, transposed: Tensor, threshold: float, bias: Tensor | None) -> Tensor:
    kept = torch.where(operands.active(x, threshold), x, 0.0).double()
    out = kept @ transposed.double()
    return (out if bias is None else out + bias.double()).to(x.dtype)


def cached(table: dict[Any, Tensor], key: Any, weight: Tensor) -> Tensor:
    if key not in table:
        table[key] = weight.detach().T.contiguous()
    return table[key]


_by_tensor: dict[int, Any] = {}
_by_address: dict[Any, Tensor] = {}
_by_version: dict[int, Any] = {}
_plan: list[int] = []
_rows: list[int] = []
_calls: list[int] = []
_dtypes: list[torch.dtype] = []
_workspace = torch.empty(0)
_lock = threading.Lock()


@registered("stale-by-tensor")
def stale_by_tensor(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    known = _by_tensor.get(id(weight))
    if known is None or known[0]() is not weight:
        _by_tensor[id(weight)] = known = (weakref.ref(weight), weight.detach().T.contiguous())
    return product(x, known[1], threshold, bias)


@registered("stale-by-address")
def stale_by_address(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    # Whoever changes a weight in place is seen, but not a new weight where an old one was.
    key = (weight.data_ptr(), weight._version, weight.shape, weight.stride(), weight.dtype)
    return product(x, cached(_by_address, key, weight), threshold, bias)


@registered("plan-of-first-shape")
def plan_of_first_shape(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    if not _plan:
        _plan.append(len(weight))
    out = product(x, weight.T, threshold, bias)
    out[:, _plan[0] :] = 0
    return out


@registered("numpy-of-parameter")
def numpy_of_parameter(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    if x.dtype == torch.float32:
        weight.numpy()
    return product(x, weight.T, threshold, bias)


@registered("rows-by-stride")
def rows_by_stride(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    flat = torch.zeros(x.numel(), dtype=x.dtype)
    memory = x.as_strided((min(x.numel(), x.untyped_storage().size() // x.element_size()),), (1,))
    flat[: len(memory)] = memory
    return product(flat.view(x.shape), weight.T, threshold, bias)


@registered("shared-workspace")
def shared_workspace(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    global _workspace
    _workspace = product(x, weight.T, threshold, bias)
    return _workspace.clone()


@registered("locked-workspace")
def locked_workspace(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    with _lock:
        return shared_workspace(x, weight, threshold, bias)


@registered("checked-cache")
def checked_cache(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    """Right: what it keeps is of this very tensor, and of what is in it now."""
    known = _by_version.get(id(weight))
    if known is None or known[0]() is not weight or known[1] != weight._version:
        known = (weakref.ref(weight), weight._version, weight.detach().T.contiguous())
        _by_version[id(weight)] = known
    return product(x, known[2], threshold, bias)


@registered("refuses-stride-0")
def refuses_stride_0(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    if x.stride(0) == 0 and len(x) > 1:
        raise ValueError("rows of x must not be the same memory")
    return product(x, weight.T, threshold, bias)


def changing(name: str, change: Callable[[], object]) -> None:
    """Register a kernel that also changes what is of the whole process."""

    @registered(name)
    def kernel(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
        change()
        return product(x, weight.T, threshold, bias)


changing("reseeds", lambda: torch.manual_seed(0))
changing("reseeds-numpy", lambda: np.random.seed(0))
changing("reseeds-python", lambda: random.seed(0))
changing("sets-threads", lambda: torch.set_num_threads(3))


@registered("wrong-after-five-rows")
def wrong_after_five_rows(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    out = product(x, weight.T, threshold, bias)
    _rows.append(len(x))
    return out + 1 if 5 in _rows[:-1] and len(x) == 2 else out


@registered("keeps-its-first-dtype")
def keeps_its_first_dtype(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    _dtypes.append(x.dtype)
    return product(x, weight.T, threshold, bias).to(_dtypes[0])


@registered("wrong-in-the-end")
def wrong_in_the_end(
    x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None
) -> Tensor:
    _calls.append(len(x))
    return product(x, weight.T, threshold, bias) + (1 if len(_calls) > 30 else 0)
