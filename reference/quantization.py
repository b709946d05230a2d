"""Integer weights with scales, laid out so that a skipped input channel skips all that is its own.

Symmetric, rounded to nearest.  Eight bits have a scale per output (LLM.int8(), arXiv 2208.07339,
section 2.1); four bits have one per group of outputs of one input channel, so that a channel's
row of the payload and its row of the scales are all that it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.reference import operands

_PAYLOAD = {8: torch.int8, 4: torch.uint8}
#: A nibble holds its value plus this.
_OFFSET = 8


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight [N, K] in integers, checked.

    Attributes:
        payload: 8 bits: int8 [K, N].  4 bits: uint8 [K, P / 2], P >= N even; the low nibble of
            byte j is output j, the high one output j + P / 2, and a nibble means its value - 8.
            Rows may have any pitch; within a row the stride is 1.
        scales: 8 bits: [N].  4 bits: [K, P / group_size].  float32, bfloat16 or float16; strides
            as of the payload.  Those of channels that are not needed may be NaN.
        bits: 8 or 4.
        features: N.  Outputs beyond it are padding.
    """

    payload: Tensor
    scales: Tensor
    bits: int
    features: int

    def __post_init__(self) -> None:
        if self.bits not in _PAYLOAD:
            raise ValueError(f"bits must be 4 or 8, not {self.bits}")
        operands.check_tensor("payload", self.payload, 2, (_PAYLOAD[self.bits],))
        channels, width = self.payload.shape
        operands.check_step("payload", self.payload)
        operands.check_tensor("scales", self.scales, 1 if self.bits == 8 else 2, operands.DTYPES)
        operands.check_step("scales", self.scales)
        if self.scales.device != self.payload.device:
            raise ValueError(
                f"scales must be on {self.payload.device}, where payload is, "
                f"not on {self.scales.device}"
            )
        if self.bits == 8 and tuple(self.scales.shape) != (width,):
            raise ValueError(f"scales must have shape {(width,)}, not {tuple(self.scales.shape)}")
        if self.bits == 4:
            self._check_groups(channels, 2 * width)
        most = width if self.bits == 8 else 2 * width
        least = width if self.bits == 8 else 1
        if not least <= self.features <= most:
            wanted = str(most) if least == most else f"from {least} to {most}"
            raise ValueError(f"features must be {wanted}, not {self.features}")

    def _check_groups(self, channels: int, outputs: int) -> None:
        rows, groups = self.scales.shape
        if rows != channels:
            raise ValueError(f"scales must have {channels} rows, as payload has, not {rows}")
        if groups == 0 or outputs % groups:
            raise ValueError(
                f"scales must have a number of columns that divides {outputs}, not {groups}"
            )

    @property
    def group_size(self) -> int:
        """How many outputs of a channel share a scale; 1 if it has 8 bits."""
        outputs = self.payload.shape[1] * (8 // self.bits)
        return outputs // self.scales.shape[-1]


def quantize_int8(weight: Tensor) -> QuantizedWeight:
    """``weight`` [N, K] in 8 bits, -127 to 127, with one scale per output in weight's dtype.

    Raises:
        ValueError: not a matrix of finite numbers of a dtype that kernels compute in.
    """
    _check_weight(weight)
    scales = _scales(weight.abs().amax(1), 127)
    payload = _rounded(weight.T, scales, 127).to(torch.int8)
    return QuantizedWeight(payload.contiguous(), scales, 8, weight.shape[0])


def quantize_int4(weight: Tensor, group_size: int, pad: bool = False) -> QuantizedWeight:
    """``weight`` [N, K] in 4 bits, -7 to 7, with a scale per channel and group of outputs.

    Args:
        weight: of a dtype that kernels compute in; the scales get it.
        group_size: outputs that share a scale, at least 1.
        pad: append zero outputs until groups, and two outputs per byte, fit.

    Raises:
        ValueError: not a matrix of finite numbers, or ``group_size`` (or 2) does not divide N
            and ``pad`` is false.
    """
    _check_weight(weight)
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, not {group_size}")
    features = weight.shape[0]
    unit = math.lcm(2, group_size)
    padded = -(-features // unit) * unit
    if features % group_size and not pad:
        raise ValueError(
            f"group_size {group_size} does not divide the {features} outputs; choose one that "
            f"does, or pass pad=True to pad them to {padded}"
        )
    if features % 2 and not pad:
        raise ValueError(
            f"two outputs share a byte, and {features} is odd; pass pad=True to pad to {padded}"
        )
    if not pad:
        padded = features
    rows = functional.pad(weight, (0, 0, 0, padded - features)).T
    groups = rows.reshape(rows.shape[0], -1, group_size)
    scales = _scales(groups.abs().amax(2), 7)
    nibbles = (_rounded(groups, scales[..., None], 7) + _OFFSET).to(torch.uint8).view(rows.shape)
    low, high = nibbles.chunk(2, dim=1)
    return QuantizedWeight((low | high << 4).contiguous(), scales, 4, features)


def dequantize(weight: QuantizedWeight) -> Tensor:
    """What the integers mean: float64 [N, K]."""
    if weight.bits == 8:
        return weight.scales.double()[:, None] * weight.payload.double().T
    nibbles = torch.cat([weight.payload & 0xF, weight.payload >> 4], dim=1)
    scales = weight.scales.double().repeat_interleave(weight.group_size, dim=1)
    return (scales * (nibbles.double() - _OFFSET)).T[: weight.features]


def _check_weight(weight: Tensor) -> None:
    operands.check_tensor("weight", weight, 2, operands.DTYPES)
    if weight.numel() == 0:
        raise ValueError(f"weight must not be empty, but has shape {tuple(weight.shape)}")
    if not weight.isfinite().all():
        raise ValueError("weight must be finite, but holds NaN or infinity")


def _scales(largest: Tensor, limit: int) -> Tensor:
    """The scale of each group, in the dtype of its ``largest`` magnitude; 0 if that is 0."""
    scales = (largest.double() / limit).to(largest.dtype)
    # A scale rounded down among the subnormals may leave the largest weight out of reach.
    short = scales.double() * (limit + 0.5) < largest.double()
    return torch.where(short, torch.nextafter(scales, torch.full_like(scales, math.inf)), scales)


def _rounded(weight: Tensor, scales: Tensor, limit: int) -> Tensor:
    steps = weight.double() / scales.double()
    return torch.where(scales == 0, 0.0, steps).round().clamp(-limit, limit)
