"""N:M weights: of every m consecutive input channels, each output keeps n.

2:4 is Mishra et al., "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378); 4:8 and 8:16
are the coarser patterns of the same kind.  Channels come first, as for any weight whose channels
are skipped: a group of m channels that is inactive skips n contiguous rows of values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference import operands

PATTERNS = ((2, 4), (4, 8), (8, 16))


@dataclass(frozen=True, eq=False)
class SemiStructuredWeight:
    """A weight [N, K] of which n of every m channels are kept, checked.

    Slot j of a group holds the j-th of its kept channels, in ascending order.  What groups that
    are not needed hold is not looked at.  The last dimension of both has stride 1.

    Attributes:
        values: [K / m, n, N], float32, bfloat16 or float16: per group of channels and
            slot the weight of each output.
        indices: uint8 [K / m, n / 2, N]: the channel within its group, 0 to m - 1, of
            slot 2 j in the low nibble and of slot 2 j + 1 in the high one.
        n: channels kept per group.
        m: channels per group; (n, m) is one of PATTERNS.
    """

    values: Tensor
    indices: Tensor
    n: int
    m: int

    def __post_init__(self) -> None:
        _check_pattern(self.n, self.m)
        operands.check_tensor("values", self.values, 3, operands.DTYPES)
        operands.check_tensor("indices", self.indices, 3, (torch.uint8,))
        groups, slots, outputs = self.values.shape
        if slots != self.n:
            raise ValueError(f"values must have {self.n} slots, n, in dimension 1, not {slots}")
        wanted = (groups, self.n // 2, outputs)
        if tuple(self.indices.shape) != wanted:
            raise ValueError(f"indices must have shape {wanted}, not {tuple(self.indices.shape)}")
        operands.check_step("values", self.values)
        operands.check_step("indices", self.indices)
        if self.indices.device != self.values.device:
            raise ValueError(
                f"indices must be on {self.values.device}, where values are, "
                f"not on {self.indices.device}"
            )

    @property
    def channels(self) -> int:
        """K, the number of input channels."""
        return self.values.shape[0] * self.m

    @property
    def features(self) -> int:
        """N, the number of outputs."""
        return self.values.shape[2]


def prune(weight: Tensor, n: int, m: int) -> Tensor:
    """``weight`` [N, K] with all but the n largest magnitudes of every m channels set to 0.

    Of equal magnitudes the first stay.

    Raises:
        ValueError: (n, m) is not supported, or m does not divide K.
    """
    groups = _groups(weight, n, m)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, _largest(groups, n), True)
    return torch.where(kept, groups, 0).view(weight.shape)


def pack(weight: Tensor, n: int, m: int) -> SemiStructuredWeight:
    """``weight`` [N, K], at most n of every m channels of an output not zero, in slots.

    Raises:
        ValueError: (n, m) is not supported, m does not divide K, or a group has more.
    """
    groups = _groups(weight, n, m)
    most = int((groups != 0).sum(2).max()) if groups.numel() else 0
    if most > n:
        raise ValueError(
            f"weight must have at most {n} of {m} channels that are not zero, but has a group "
            f"with {most}; prune it first"
        )
    kept = _largest(groups, n).sort(dim=2).values
    values = groups.gather(2, kept).permute(1, 2, 0).contiguous()
    nibbles = kept.permute(1, 2, 0).to(torch.uint8)
    low, high = nibbles[:, 0::2], nibbles[:, 1::2]
    return SemiStructuredWeight(values, (low | high << 4).contiguous(), n, m)


def unpack(weight: SemiStructuredWeight) -> Tensor:
    """The weight itself, in the dtype of its values: [N, K], contiguous.

    Raises:
        ValueError: the slots of a group do not name different channels of it in order.
    """
    groups, _, outputs = weight.values.shape
    dense = weight.values.new_zeros(groups, weight.m, outputs)
    dense.scatter_(1, slots(weight.indices, weight.m), weight.values)
    return dense.permute(2, 0, 1).reshape(outputs, weight.channels).contiguous()


def slots(indices: Tensor, m: int) -> Tensor:
    """The channel, within its group of ``m``, of each slot: int64 [groups, n, N].

    Args:
        indices: as in :class:`SemiStructuredWeight`, of all groups or of some.
        m: channels per group.

    Raises:
        ValueError: the slots of a group do not name different channels of it in order.
    """
    found = torch.stack([indices & 0xF, indices >> 4], dim=2).flatten(1, 2).long()
    if bool((found >= m).any()):
        raise ValueError(f"indices must be from 0 to {m - 1}, not {int(found.max())}")
    if bool((found[:, 1:] <= found[:, :-1]).any()):
        raise ValueError("indices must be ascending, and different, within a group")
    return found


def _check_pattern(n: int, m: int) -> None:
    if (n, m) not in PATTERNS:
        known = ", ".join(f"{n}:{m}" for n, m in PATTERNS)
        raise ValueError(f"n:m must be one of {known}, not {n}:{m}")


def _groups(weight: Tensor, n: int, m: int) -> Tensor:
    """``weight`` as [N, K / m, m]."""
    _check_pattern(n, m)
    operands.check_tensor("weight", weight, 2, operands.DTYPES)
    if weight.shape[1] % m:
        raise ValueError(f"weight must have a multiple of {m} channels, not {weight.shape[1]}")
    return weight.reshape(weight.shape[0], -1, m)


def _largest(groups: Tensor, n: int) -> Tensor:
    """Which ``n`` of the last dimension are largest in magnitude, the first of equal ones."""
    return groups.abs().sort(dim=2, descending=True, stable=True).indices[..., :n]
