"""Fits one layer's predictor of neurons to a stream of text, with gradients in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pytest_sparsity.methods.neurons.predictor import LINEAR, RELU, LayerPredictor

#: What each rule has between the two matrices.
BETWEEN = {"powerinfer": RELU, "deja_vu": LINEAR}


@dataclass(frozen=True)
class FitRecipe:
    """How predictors are fitted; stored with them.

    Attributes:
        rule: ``powerinfer``, second relu(first v) (arXiv 2312.12456 and its engine), or
            ``deja_vu``, second first v (arXiv 2310.17157 and its published code).
        share: weights of a predictor by those of its feed-forward block.
        tokens: budget: most tokens of training text.
        first: tokens of the first round; each round that follows doubles the text.
        least_gain: rounds go on while the held-out recall rises by this much at least.
        passes: times that each piece of text is gone over, before the next one is.
        batch: tokens per optimiser step.
        rate: AdamW's step size, constant.
        decay: AdamW's weight decay.
        averaging: predictors are the average of the weights after all steps, where step i
            counts as i^averaging: it is good at any time, which no falling rate is.
        zero: the need (see :func:`needs`) to which a score of 0 belongs.
        cap: the need above which more of it matters less and less.
        seed: of initial weights and order.
    """

    rule: str = "powerinfer"
    share: float = 0.1
    tokens: int = 65_536
    first: int = 8_192
    least_gain: float = 0.01
    passes: int = 4
    batch: int = 128
    rate: float = 4e-3
    decay: float = 1e-2
    averaging: float = 8.0
    zero: float = 0.06
    cap: float = 1.5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Observed:
    """What one layer did on a text.

    Attributes:
        v: the residual stream before the MLP's norm, [rows, H], in the model's dtype.
        adds: |h_j| ||d_j||, what each neuron adds to the stream, times the gain of a norm behind
            the MLP if there is one, bfloat16 [rows, I]: its range is float32's, and one part in
            256 is nothing to what is learnt from it.
    """

    v: torch.Tensor
    adds: torch.Tensor


def scale_of(seen: Observed) -> float:
    """What the energies (h_j ||d_j||)^2 of a layer's neurons are divided by to be comparable.

    The geometric mean of the energies of the residual stream and of what the neurons add to it
    (their median tokens', which a few huge activations do not move), per neuron.  By the former
    alone a layer that adds much more than there is, as the first one does, would keep
    everything; by the latter alone one that hardly adds anything would keep as much as others.
    """
    stream = seen.v.float().square().sum(-1).median()
    added = seen.adds.float().square().sum(-1).median()
    return float((stream * added).sqrt()) / seen.adds.shape[1]


def needs(adds: torch.Tensor, scale: float) -> torch.Tensor:
    """How much each neuron is needed: its energy in units of ``scale``, float32 [rows, I]."""
    return adds.float().square() / max(scale, torch.finfo(torch.float32).tiny)


def gradients(
    v: torch.Tensor,
    target: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    between: str,
    shift: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the binary cross-entropy of sigmoid(scores - shift) with ``target``.

    The loss is the mean over rows of the sum over neurons.  Products are made in v's dtype,
    which all have.

    Args:
        v: [rows, H].
        target: in [0, 1], [rows, I].
        first: [R, H].
        second: [I, R].
        between: ``RELU`` or ``LINEAR``.
        shift: is taken from the scores.

    Returns:
        Those by first and second, float32.
    """
    before = v @ first.T
    hidden = torch.relu(before) if between == RELU else before
    error = torch.sigmoid(hidden @ second.T - shift).sub_(target)
    back = error @ second
    if between == RELU:
        back = back * (before > 0)
    return (back.T @ v).float() / len(v), (error.T @ hidden).float() / len(v)


class LayerFit:
    """The predictor of one layer while it is fitted.

    It regresses on the need r of every neuron: sigmoid(score - shift) is to be the mean of
    r / (r + cap) given v, with shift = log(cap / zero), so that the score is about
    log(mean r / zero) where r is small.  One threshold on such scores skips, in all layers, the
    neurons from which least is to be expected.  Classes (active or not) tell apart what hardly
    differs and treat alike what differs a lot, and weights for classes move the scores of each
    layer by another amount.

    Args:
        number: of the layer.
        rank: hidden width of the predictor.
        seen: text from which scales, frequencies and the mean of v are taken, once.
        recipe: how.
    """

    def __init__(self, number: int, rank: int, seen: Observed, recipe: FitRecipe) -> None:
        width, neurons = seen.v.shape[1], seen.adds.shape[1]
        self.scale = scale_of(seen)
        self._recipe = recipe
        self._between = BETWEEN[recipe.rule]
        self._shift = math.log(recipe.cap / recipe.zero)
        self._lot = torch.Generator().manual_seed(recipe.seed * 100_003 + number)
        # Learnt from channels of unit scale, which is then folded into first: the stream has
        # channels a thousand times as large as others, and Adam's steps have one size.
        self._channels = seen.v.float().square().mean(0).sqrt()
        self._channels[self._channels == 0] = 1.0
        first = torch.randn(rank, width, generator=self._lot) / width**0.5
        second = 0.1 * torch.randn(neurons, rank, generator=self._lot) / rank**0.5
        self._first, self._second = (w.to(seen.v.device) for w in (first, second))
        # In place of a bias: the first hidden unit is about 1 on every token.
        mean = (seen.v.float() / self._channels).mean(0)
        often = self.target(seen.adds).mean(0).clamp(1e-4, 1 - 1e-4)
        self._first[0] = mean / mean.square().sum().clamp(min=1e-12)
        self._second[:, 0] = torch.logit(often) + self._shift
        self._average = [self._first.clone(), self._second.clone()]
        self._steps = 0
        weights = [self._first.requires_grad_(), self._second.requires_grad_()]
        self._optimiser = torch.optim.AdamW(
            weights, lr=recipe.rate, weight_decay=recipe.decay, fused=True
        )

    def target(self, adds: torch.Tensor) -> torch.Tensor:
        """What is regressed on: r / (r + cap), float32 [rows, I]."""
        r = needs(adds, self.scale)
        return r / (r + self._recipe.cap)

    @torch.no_grad()
    def learn(self, seen: Observed) -> None:
        """Go over a piece of text, ``passes`` times, each in another order of its batches."""
        dtype = torch.bfloat16 if seen.v.dtype == torch.bfloat16 else torch.float32
        size = min(self._recipe.batch, len(seen.v))
        order = torch.randperm(len(seen.v), generator=self._lot).to(seen.v.device)
        # Batch by batch: what is made on the way stays in a core's cache.
        batches = [
            (
                (seen.v[rows].float() / self._channels).to(dtype),
                self.target(seen.adds[rows]).to(dtype),
            )
            for rows in order[: len(order) // size * size].view(-1, size)
        ]
        for _ in range(self._recipe.passes):
            for number in torch.randperm(len(batches), generator=self._lot).tolist():
                self._step(*batches[number])

    def _step(self, v: torch.Tensor, target: torch.Tensor) -> None:
        weights = self._first, self._second
        first, second = (weight.to(v.dtype) for weight in weights)
        self._first.grad, self._second.grad = gradients(
            v, target, first, second, self._between, self._shift
        )
        self._optimiser.step()
        self._steps += 1
        power = self._recipe.averaging
        for mean, weight in zip(self._average, weights, strict=True):
            mean.lerp_(weight, (power + 1) / (power + self._steps))

    def predictor(self) -> LayerPredictor:
        """What has been learnt so far, to be read from the stream itself."""
        first, second = self._average[0] / self._channels, self._average[1]
        # A power of two, which changes no score, between the two, so that both are far from
        # the ends of float16, in which predictors are stored.
        ratio = float(second.abs().max() / first.abs().max().clamp(min=1e-30))
        factor = 2.0 ** round(math.log2(ratio) / 2) if 0 < ratio < math.inf else 1.0
        return LayerPredictor(first * factor, second / factor, None, self._between)
