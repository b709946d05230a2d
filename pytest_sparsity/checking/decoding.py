"""Operands of decoding for kernels that are compiled and not run: weights are never touched.

Weights lie as kernels read them fastest, without gaps, and half of the channels are active.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.checking.case import Case

#: Of a normal x, half is below.
THRESHOLD = 0.675


def activations(case: Case) -> Tensor:
    """Normal x [rows, K]."""
    generator = torch.Generator().manual_seed(case.seed)
    return torch.randn(case.rows, case.k, generator=generator).to(getattr(torch, case.dtype))


def neurons(x: Tensor, outputs: int, inputs: int) -> Tensor:
    """A weight [outputs, inputs], output-major: what a neuron reads is contiguous."""
    return x.new_empty(outputs, inputs)


def channels(x: Tensor, outputs: int, inputs: int) -> Tensor:
    """A weight [outputs, inputs], input-major: what a channel contributes is contiguous."""
    return x.new_empty(inputs, outputs).t()


def every(step: int, start: int, stop: int) -> Tensor:
    """A list of channels or neurons: int32, each ``step``-th of them."""
    return torch.arange(start, stop, step, dtype=torch.int32)
