"""Which neurons a token keeps: a fixed set, the best ones, or those that a predictor says."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pytest_sparsity.methods.neurons.activity import contribution
from pytest_sparsity.methods.neurons.predictor import LayerPredictor
from pytest_sparsity.methods.plan import HIDDEN
from pytest_sparsity.methods.topk_mask import keep_largest

_WORD = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class FixedNeurons:
    """The same neurons at every token: structured pruning.

    Attributes:
        mask: boolean [I], on the model's device.
        skips: see :class:`~..plan.NeuronSelector`.
    """

    mask: torch.Tensor
    skips: tuple[str, ...]
    reads: str = HIDDEN

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """The mask, for h [..., I]."""
        return self.mask.expand(read.shape)


@dataclass(frozen=True, eq=False)
class LargestNeurons:
    """The neurons that add most to a token's output, the same number at every token.

    It decides by h, and counts gate and up as skipped, which gave it h.  It ranks neurons one by
    one and knows nothing of what cancels, so it is a reference and no bound.  Of exact zeros it
    drops as many as it can before anything else, so that after ReLU a level below the share of
    zeros changes nothing.

    Attributes:
        dropped: neurons dropped per token.
        norms: Euclidean norms of down's columns, float32 [I].
        skips: see :class:`~..plan.NeuronSelector`.
        recall: expected share of the best neurons that is kept; below 1, as many others,
            drawn evenly, are kept in place of those missed, so that precision is the same.
        seed: of the draw.
    """

    dropped: int
    norms: torch.Tensor
    skips: tuple[str, ...]
    recall: float = 1.0
    seed: int = 0
    reads: str = HIDDEN

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Boolean [..., I] for h [..., I]."""
        count = read.shape[-1] - self.dropped
        best = keep_largest(contribution(read.detach(), self.norms), count)
        if self.recall == 1:
            return best
        # The best that are found, then random others; missed ones only if no others are left.
        lot = even_draw(read.detach(), self.seed)
        return keep_largest(
            torch.where(best, torch.where(lot < self.recall, 3.0, 0.0), 1 + lot), count
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _ByPredictor:
    """What selectors with a predictor have in common.

    Attributes:
        predictor: of the layer, on the model's device.
        skips: see :class:`~..plan.NeuronSelector`.
        reads: what the predictor reads, of the same.
    """

    predictor: LayerPredictor
    skips: tuple[str, ...]
    reads: str

    @property
    def weights(self) -> int:
        """See :class:`~..plan.NeuronSelector`."""
        return self.predictor.weights

    def scores(self, read: torch.Tensor) -> torch.Tensor:
        """Of the neurons, [..., I], for what the predictor reads, [..., H]."""
        return self.predictor.scores(read.detach())


@dataclass(frozen=True, eq=False)
class PredictedNeurons(_ByPredictor):
    """The neurons that a predictor gives the highest scores, the same number at every token.

    That is Deja Vu's rule (arXiv 2310.17157); PowerInfer's is :class:`ScoredNeurons`.

    Attributes:
        dropped: neurons dropped per token.
    """

    dropped: int

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Boolean [..., I] for what the predictor reads, [..., H]."""
        scores = self.scores(read)
        return keep_largest(scores, scores.shape[-1] - self.dropped)


@dataclass(frozen=True, eq=False)
class ScoredNeurons(_ByPredictor):
    """The neurons whose score is at least a threshold, which all layers share: PowerInfer's rule.

    Attributes:
        threshold: scores below it, strictly, are skipped; a score that is NaN is not.
    """

    threshold: float

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Boolean [..., I] for what the predictor reads, [..., H]."""
        return ~(self.scores(read) < self.threshold)


@dataclass(frozen=True, eq=False)
class NonzeroNeurons:
    """The neurons that are not exactly 0, as if that were known before they are computed.

    Attributes:
        skips: see :class:`~..plan.NeuronSelector`.
    """

    skips: tuple[str, ...]
    reads: str = HIDDEN

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Boolean [..., I] for h [..., I]."""
        return read != 0


@dataclass(frozen=True, eq=False)
class ContributingNeurons:
    """The neurons that contribute at least a value that all layers share, as if it were known.

    Attributes:
        value: neurons with |h_j| ||d_j|| below it are skipped, and those that contribute nothing.
        norms: Euclidean norms of down's columns, float32 [I].
        skips: see :class:`~..plan.NeuronSelector`.
    """

    value: float
    norms: torch.Tensor
    skips: tuple[str, ...]
    reads: str = HIDDEN

    def keeps(self, read: torch.Tensor) -> torch.Tensor:
        """Boolean [..., I] for h [..., I]."""
        found = contribution(read.detach(), self.norms)
        return ~(found < self.value) & (found != 0)


def even_draw(h: torch.Tensor, seed: int) -> torch.Tensor:
    """Numbers in [0, 1), evenly spread, float32 like h [..., I].

    They are a hash (MurmurHash3's finaliser) of each value, its place and ``seed``: the same
    values give the same numbers, whatever the batch, the thread and what was drawn before.
    """
    bits = h.float().contiguous().view(torch.int32).to(torch.int64)
    place = torch.arange(h.shape[-1], device=h.device) + (seed + 1) * 0x9E3779B1
    z = (bits ^ (place * 0x85EBCA77)) & _WORD
    z = ((z ^ (z >> 16)) * 0x85EBCA6B) & _WORD
    z = ((z ^ (z >> 13)) * 0xC2B2AE35) & _WORD
    z = z ^ (z >> 16)
    return (z >> 8).float() / (1 << 24)
