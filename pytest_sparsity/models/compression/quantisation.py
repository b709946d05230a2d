"""Integers: int8 per output and int4 in groups, by rounding to nearest and by GPTQ."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.models.compression.columns import Columns, compensate
from pytest_sparsity.reference.quantization import dequantize, quantize_int4, quantize_int8


def int8(weight: Tensor) -> Tensor:
    """What the 8-bit form of ``weight`` [N, K] means, in its dtype."""
    return dequantize(quantize_int8(weight)).to(weight.dtype)


def int4(weight: Tensor, group: int) -> Tensor:
    """What the 4-bit form of ``weight`` [N, K] means, in its dtype.

    Args:
        weight: [N, K].
        group: outputs of one input channel that share a scale; divides N.
    """
    return dequantize(quantize_int4(weight, group)).to(weight.dtype)


def gptq4(weight: Tensor, hessian: Tensor, group: int) -> Tensor:
    """What the 4-bit form of ``weight`` [N, K] means, in its dtype, errors made up for.

    GPTQ, arXiv 2210.17323, algorithm 1, in the order of falling Hessian diagonal ("act-order" of
    the published code).  A group lies within one column, so its scale is found when the column
    is reached, and the order costs nothing.  Weights that are zero already stay zero, or a
    pruned model would not stay pruned; later columns make up for that, too.

    Args:
        weight: [N, K].
        hessian: of the inputs on calibration text, float32 [K, K].
        group: outputs that share a scale; divides N.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    zeros = (weight == 0)[:, order]

    def start_block(block: Tensor, diagonal: Tensor, start: int) -> Columns:
        def replace(column: Tensor, k: int) -> Tensor:
            stored = int4(column[:, None].to(weight.dtype), group)[:, 0]
            return torch.where(zeros[:, start + k], 0, stored.float())

        return replace

    ordered = hessian[order][:, order]
    found = compensate(weight.float()[:, order], ordered, start_block)
    return found[:, order.argsort()].to(weight.dtype)
