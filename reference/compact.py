"""The op ``compact``: the ordered list of channels that are active in some row.

What a sparse kernel may be given in place of a threshold (``sparse_linear_indexed``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands


@dataclass(frozen=True, eq=False)
class CompactInputs:
    """Operands of ``compact``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        threshold: as in ``sparse_linear``.
    """

    x: Tensor
    threshold: float

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        operands.check_threshold("threshold", self.threshold, self.x.dtype)


def compact(inputs: CompactInputs) -> Tensor:
    """The list: int32 [count], ascending, exact; empty if no channel is active."""
    keep = operands.active(inputs.x, inputs.threshold).any(0)
    return keep.nonzero().flatten().to(torch.int32)
