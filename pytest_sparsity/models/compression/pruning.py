"""Pruning: magnitude, Wanda and SparseGPT, each by share or by n:m pattern."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_sparsity.models.compression.columns import Columns, compensate
from pytest_sparsity.models.compression.masks import (
    keep_pattern,
    keep_share,
    keep_share_of_rows,
)
from pytest_sparsity.models.compression.names import Scheme


def mean_square(x: Tensor) -> Tensor:
    """Mean of x^2 over the rows of ``x`` [rows, K]: float32 [K]."""
    return x.float().square().mean(0)


def magnitude(weight: Tensor, scheme: Scheme) -> Tensor:
    """``weight`` [N, K] without its smallest magnitudes, compared over the whole layer.

    Uniform over the layers: the baseline of the Wanda paper (arXiv 2306.11695, section 4.1).
    """
    scores = weight.abs().float()
    if scheme.pattern is not None:
        return _kept(weight, keep_pattern(scores, scheme.pattern))
    return _kept(weight, keep_share(scores, scheme.share))


def wanda(weight: Tensor, mean_squares: Tensor, scheme: Scheme) -> Tensor:
    """``weight`` [N, K] without the smallest |W_nk| ||x_k||, compared per output.

    Wanda, arXiv 2306.11695, equation 1 and section 3; weights that stay are not changed.

    Args:
        weight: [N, K].
        mean_squares: of the inputs on calibration text, [K].
        scheme: how much.
    """
    scores = weight.abs().float() * mean_squares.float().sqrt()
    if scheme.pattern is not None:
        return _kept(weight, keep_pattern(scores, scheme.pattern))
    return _kept(weight, keep_share_of_rows(scores, scheme.share))


def sparsegpt(weight: Tensor, hessian: Tensor, scheme: Scheme) -> Tensor:
    """``weight`` [N, K] without what does least damage, the rest making up for it.

    SparseGPT, arXiv 2301.00774, algorithm 1: the score is w^2 / U_kk^2, compared within blocks of
    128 inputs over all outputs, or within the m inputs of a pattern once they are reached.

    Args:
        weight: [N, K].
        hessian: of the inputs on calibration text, float32 [K, K].
        scheme: how much.
    """

    def start_block(block: Tensor, diagonal: Tensor, start: int) -> Columns:
        def scores(first: int, last: int) -> Tensor:
            return (block[:, first:last] / diagonal[first:last]).square()

        if scheme.pattern is None:
            kept = keep_share(scores(0, block.shape[1]), scheme.share)
        else:
            kept = torch.ones_like(block, dtype=torch.bool)
        pattern = scheme.pattern

        def replace(column: Tensor, k: int) -> Tensor:
            if pattern is not None and k % pattern[1] == 0:  # 128 is a multiple of every m
                last = k + pattern[1]
                kept[:, k:last] = keep_pattern(scores(k, last), pattern)
            return torch.where(kept[:, k], column, 0)

        return replace

    return compensate(weight.float(), hessian, start_block).to(weight.dtype)


def _kept(weight: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, weight, 0)
