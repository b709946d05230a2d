"""An op as one kernel computes it by its contract: what it keeps, and which weights it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_sparsity.kernels.contract import Contract
from pytest_sparsity.reference.decisions import keeping_equal
from pytest_sparsity.reference.ops import Op

R = TypeVar("R")


def as_declared(op: Op, contract: Contract) -> Op:
    """``op`` as a kernel with this contract is held to it."""
    if contract.keeps == ">=":
        op = dataclasses.replace(
            op,
            define=_keeping_equal(op.define),
            bound=op.bound and _keeping_equal(op.bound),
            needed=op.needed and _keeping_equal(op.needed),
            outcomes=op.outcomes and _keeping_equal(op.outcomes),
        )
    if op.needed is not None and (contract.granularity or contract.outside):
        op = dataclasses.replace(op, needed=_read(op.needed, contract))
    return op


def _keeping_equal(function: Callable[..., R]) -> Callable[..., R]:
    def call(*given: Any) -> R:
        with keeping_equal():
            return function(*given)

    return call


def _read(
    needed: Callable[[Any], Mapping[str, Tensor]], contract: Contract
) -> Callable[[Any], Mapping[str, Tensor]]:
    """What may be read: whole blocks, and all that another library multiplies."""

    def read(inputs: Any) -> Mapping[str, Tensor]:
        masks = dict(needed(inputs))
        for name, mask in masks.items():
            if name.partition(".")[0] in contract.outside:
                masks[name] = torch.ones_like(mask)
            elif name in contract.granularity:
                masks[name] = blocks_of(mask, contract.granularity[name])
        return masks

    return read


def blocks_of(mask: Tensor, block: Sequence[int]) -> Tensor:
    """All of the blocks, counted from the beginning, in which ``mask`` is true somewhere.

    Args:
        mask: bool, of any shape.
        block: of as many dimensions.
    """
    found = mask
    for dimension, size in enumerate(block):
        length = mask.shape[dimension]
        block_of = torch.arange(length, device=mask.device) // size
        some = found.new_zeros(
            [-(-length // size) if d == dimension else n for d, n in enumerate(mask.shape)]
        )
        some = some.int().index_add(dimension, block_of, found.int()) > 0
        found = some.index_select(dimension, block_of)
    return found
