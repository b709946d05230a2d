"""``compact`` compiled by numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pytest_sparsity.kernels.cpu._operands import SAMPLES, check_on_cpu, unavailable
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference.compact import CompactInputs


@sparse_kernel(op="compact", backend="cpu", unavailable=unavailable)
def compact(x: Tensor, threshold: float) -> Tensor:
    """The channels active in some row of x [1 to 8 rows, K], ascending: int32 [count].

    Raises:
        ValueError, TypeError: the operands are not what ``CompactInputs`` asks for, or not on the
            CPU.
    """
    CompactInputs(x, threshold)
    check_on_cpu(x)
    listed = np.empty(x.shape[1], np.int32)
    count = _compiled().active_channels(
        x.data_ptr(), *x.stride(), *x.shape, float(threshold), listed, SAMPLES[x.dtype]
    )
    return torch.from_numpy(listed[:count])


@cache
def _compiled() -> ModuleType:
    from pytest_sparsity.kernels.cpu import _linear

    return _linear
