"""The op ``semi_structured_linear``: ``sparse_linear`` with N:M weights.

    y_i = sum of W_ik S_t(x)_k over the channels k that output i keeps, + b_i

S_t as in ``sparse_linear``, the format as in ``semi_structured``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.products import layer_bound
from pytest_sparsity.reference.semi_structured import SemiStructuredWeight, slots


@dataclass(frozen=True, eq=False)
class SemiStructuredLinearInputs:
    """Operands of ``semi_structured_linear``, checked.

    Attributes:
        x: activations, [rows, K], 1 to 8 rows, float32, bfloat16 or float16.
        weight: of N outputs and K channels; its values in x's dtype.
        threshold: as in ``sparse_linear``.
        bias: [N], x's dtype, or None.
    """

    x: Tensor
    weight: SemiStructuredWeight
    threshold: float = 0.0
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        operands.check_activations(self.x)
        if not isinstance(self.weight, SemiStructuredWeight):
            raise TypeError(
                f"weight must be a SemiStructuredWeight, not {type(self.weight).__name__}"
            )
        operands.check_channels("weight", self.weight.channels, self.x)
        operands.check_device("weight", self.weight.values, self.x)
        operands.check_tensor("weight.values", self.weight.values, 3, (self.x.dtype,))
        operands.check_threshold("threshold", self.threshold, self.x.dtype)
        operands.check_bias(self.bias, self.x, self.weight.features)


def semi_structured_linear(inputs: SemiStructuredLinearInputs) -> Tensor:
    """The op in float64: [rows, N].  Groups without an active channel in any row do not matter.

    A channel that an output does not keep is no part of its sum: that channel's NaN spoils only
    the outputs that keep it.

    Raises:
        ValueError: needed indices are not ascending or not within their group.
    """
    output = torch.stack([terms.sum((0, 1)) for terms, _ in _rows(inputs)])
    return output if inputs.bias is None else output + inputs.bias.double()


def error_bound(inputs: SemiStructuredLinearInputs, precision: Precision) -> Tensor:
    """How far each output of a right kernel may be from the definition: float64 [rows, N].

    That of ``products.linear_bound`` with one rounding more than there are active channels that
    the output keeps.
    """
    rows = _rows(inputs)
    magnitude = torch.stack([terms.abs().sum((0, 1)) for terms, _ in rows])
    count = torch.stack([keep.sum((0, 1)) for _, keep in rows]) + 1
    reference = semi_structured_linear(inputs)
    return layer_bound(reference, magnitude, inputs.bias, count, precision)


def needed(inputs: SemiStructuredLinearInputs) -> Mapping[str, Tensor]:
    """Which weights a sparse kernel reads: groups with a channel that is active in some row."""
    groups = _needed_groups(inputs)[:, None, None]
    return {
        "weight.values": groups.expand(inputs.weight.values.shape),
        "weight.indices": groups.expand(inputs.weight.indices.shape),
    }


def _needed_groups(inputs: SemiStructuredLinearInputs) -> Tensor:
    """Which groups of m channels have one that is active in some row: bool [K / m]."""
    keep = operands.active(inputs.x, inputs.threshold).any(0)
    return keep.view(-1, inputs.weight.m).any(1)


def _rows(inputs: SemiStructuredLinearInputs) -> list[tuple[Tensor, Tensor]]:
    """Per row the products of needed slots, and which of them count: [groups, n, N] both."""
    groups = _needed_groups(inputs)
    m = inputs.weight.m
    channel = slots(inputs.weight.indices[groups], m)
    channel = channel + m * groups.nonzero()[:, :, None]
    values = inputs.weight.values[groups].double()
    found = []
    for x, keep in zip(inputs.x.double(), operands.active(inputs.x, inputs.threshold), strict=True):
        kept = keep[channel]
        found.append((torch.where(kept, values * x[channel], 0.0), kept))
    return found
