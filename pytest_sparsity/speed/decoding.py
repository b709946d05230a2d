"""Decoding one sequence step by step, and whether two models' choices differ by rounding alone.

A sparse model is not a continuous function.  An activation that rounding moves across its
threshold is there or is not, the layers behind it pass that on to further activations near
theirs, and in the end logits are far apart.  So equal logits prove that kernels are right, but
unequal ones do not prove them wrong: what has to be shown is that every layer is right on the
input that it got (:func:`worst_layer`), and that where the activations of two models part, they
were equal up to rounding (:func:`first_flip`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.continuation import continuation
from pytest_sparsity.reference.operands import active
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.sparse_linear import (
    SparseLinearInputs,
    error_bound,
    sparse_linear,
)

#: Standard deviations of the rounding error of a difference of logits that count as a tie.
_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Fork:
    """A step at which two models that ought to differ by rounding choose different tokens.

    Attributes:
        step: from 0.
        tokens: what the first and the second one chose.
        gap: how far apart the exact logits of these tokens are.
        rounding: how far apart rounding alone may put them, see :func:`forks`.
    """

    step: int
    tokens: tuple[int, int]
    gap: float
    rounding: float

    @property
    def tie(self) -> bool:
        """Whether rounding explains it."""
        return self.gap <= self.rounding


def greedy_path(model: LanguageModel, prompt: Tensor, steps: int) -> list[int]:
    """The likeliest next token after ``prompt`` [1, T], ``steps`` times; one row per step."""
    path: list[int] = []
    feed = _feed(model, prompt)
    logits = next(feed)
    for _ in range(steps):
        path.append(int(logits.argmax()))
        logits = feed.send(path[-1])
    return path


def step_logits(model: LanguageModel, prompt: Tensor, path: Sequence[int]) -> Tensor:
    """Logits before each token of ``path`` when it is decoded: float32 [len(path), vocabulary]."""
    feed = _feed(model, prompt)
    rows = [next(feed)]
    rows += [feed.send(token) for token in path[:-1]]
    return torch.stack(rows)


def forks(first: Tensor, second: Tensor, exact: Tensor) -> list[Fork]:
    """Where the likeliest tokens of two models differ along one path.

    What rounding may do is taken from the first model, which is trusted, and not from the one
    under test: at each step its logits deviate from the exact ones with some standard deviation
    s over the vocabulary (without a common shift, which changes no order).  That covers all of
    the way through the layers, and activations that rounding moves across a threshold.  The
    difference of two logits then deviates by sqrt(2) s, and four times that is a tie.

    Args:
        first: logits [steps, vocabulary] of the trusted model.
        second: logits of the model under test, on the same path.
        exact: logits of the trusted model in higher precision, on the same path.
    """
    deviation = logit_error(first, exact)
    found = []
    pairs = zip(first.argmax(-1).tolist(), second.argmax(-1).tolist(), strict=True)
    for step, (a, b) in enumerate(pairs):
        if a != b:
            gap = abs(float(exact[step, a] - exact[step, b]))
            rounding = _DEVIATIONS * math.sqrt(2) * float(deviation[step])
            found.append(Fork(step, (a, b), gap, rounding))
    return found


def logit_error(logits: Tensor, exact: Tensor) -> Tensor:
    """Standard deviation over the vocabulary of the error of logits [steps, V]: [steps]."""
    return (logits.double() - exact.double()).std(-1, correction=0)


@dataclass(frozen=True)
class Flip:
    """The first activations that one model keeps and the other drops.

    Attributes:
        call: how many inputs of sites came before.
        site: whose input they are in.
        channels: how many they are.
        difference: largest difference of the two inputs, relative to the largest activation.
    """

    call: int
    site: str
    channels: int
    difference: float


def first_flip(
    first: Sequence[tuple[str, Tensor]], second: Sequence[tuple[str, Tensor]], plan: Plan
) -> Flip | None:
    """Where two decodings of the same tokens first keep different channels; None for nowhere.

    Args:
        first: what :func:`site_inputs` recorded of one of them.
        second: what it recorded of the other.
        plan: of both.
    """
    for call, ((site, a), (other, b)) in enumerate(zip(first, second, strict=True)):
        assert site == other, "both models run their layers in the same order"
        selector = plan.selectors[site]
        assert isinstance(selector, Threshold)
        channels = int((active(a, selector.value) != active(b, selector.value)).sum())
        if channels:
            difference = float((a - b).abs().max() / a.abs().max())
            return Flip(call, site, channels, difference)
    return None


@contextmanager
def site_inputs(model: LanguageModel) -> Iterator[list[tuple[str, Tensor]]]:
    """Records (site, its input [K]) at every decoding step, before anything is masked.

    Enter it before a plan is attached: hooks run in the order of their registration.
    """
    seen: list[tuple[str, Tensor]] = []

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            if args[0].shape[-2] == 1:
                seen.append((name, args[0].flatten().clone()))

        return hook

    with ExitStack() as hooks:
        for site in model.sites:
            hooks.enter_context(site.module.register_forward_pre_hook(hook_of(site.name)))
        yield seen


def worst_layer(
    model: LanguageModel, plan: Plan, prompt: Tensor, path: Sequence[int]
) -> tuple[float, str]:
    """Largest error over bound of any site's output while ``path`` is decoded, and its site.

    The reference is the float64 definition of ``sparse_linear`` on the input that the site got
    in this model, so that errors of layers before it do not matter.

    Args:
        model: with ``plan`` attached, computing its decoding steps with kernels.
        plan: of :class:`Threshold` selectors.
        prompt: [1, T].
        path: the tokens to decode.
    """
    worst = (0.0, "")

    def hook_of(site: Site) -> Any:
        selector = plan.selectors[site.name]
        assert isinstance(selector, Threshold)

        def hook(layer: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal worst
            if args[0].shape[-2] == 1:
                x, y = args[0].reshape(1, -1), output.reshape(1, -1)
                inputs = SparseLinearInputs(x, layer.weight, selector.value, layer.bias)
                bound = error_bound(inputs, Precision(x.dtype, torch.float32, torch.float32))
                used = float(tolerance_used(y, sparse_linear(inputs), bound).max())
                worst = max(worst, (used, site.name))

        return hook

    with ExitStack() as hooks:
        for site in model.sites:
            hooks.enter_context(site.module.register_forward_hook(hook_of(site)))
        step_logits(model, prompt, path)
    return worst


def _feed(model: LanguageModel, prompt: Tensor) -> Generator[Tensor, int, None]:
    """Yields the logits [V] after the prompt, then after each token that is sent."""
    with continuation(model, prompt) as under_way:
        while True:
            token = yield under_way.logits()[0, -1].float()
            under_way.add(prompt.new_tensor([[token]]))
