"""Hands selectors of neurons what they decide by, which other layers of the MLP see first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pytest_sparsity.methods.gated import ACTIVATED, activated_gate, activation_of
from pytest_sparsity.methods.plan import GATE, HIDDEN, INPUT, RESIDUAL, NeuronSelector, Plan
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.residual_stream import mlp_norms, residual_of
from pytest_sparsity.methods.topk_mask import kept
from pytest_sparsity.models import LanguageModel, Site

T = TypeVar("T")

#: What is to be observed besides the sites' inputs, by what selectors read.
_PLACES = {GATE: ACTIVATED, RESIDUAL: RESIDUAL}


class _Read(threading.local):
    """Per thread: what was read for which ``down`` site."""

    def __init__(self) -> None:
        self.of: dict[str, torch.Tensor] = {}


class SelectorInputs:
    """Hooks that keep, until ``down`` is reached, what its layer's selector reads.

    Args:
        model: whose forward passes are followed.
        neurons: name of a ``down`` site to the selector of its layer's neurons.

    Raises:
        ValueError: a selector reads what its layer does not have.
    """

    def __init__(self, model: LanguageModel, neurons: Mapping[str, NeuronSelector]) -> None:
        self._read = _Read()
        sites = {site.name: site for site in model.sites}
        self._elsewhere = {down for down, each in neurons.items() if each.reads != HIDDEN}
        hooks = [
            self._hook(model, sites, sites[down], neurons[down].reads) for down in self._elsewhere
        ]
        self._handles = [register(hook) for register, hook in hooks]  # all of them, or none

    def take(self, down: str, h: torch.Tensor) -> torch.Tensor:
        """What the selector of ``down`` reads; h is the input of ``down`` itself."""
        return self._read.of.pop(down) if down in self._elsewhere else h

    def forget(self) -> None:
        """The forward pass is over."""
        self._read.of.clear()

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _hook(
        self, model: LanguageModel, sites: Mapping[str, Site], down: Site, reads: str
    ) -> tuple[Callable[[Any], RemovableHandle], Callable[..., None]]:
        """A hook that keeps what is read for ``down``, and where to register it."""

        def keep_input(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._read.of[down.name] = args[0]

        if reads == RESIDUAL:
            return mlp_norms(model)[down.layer].register_forward_pre_hook, keep_input
        kind = {GATE: "gate", INPUT: model.into_mlp(down.layer)}.get(reads)
        source = sites.get(f"{down.layer}.{kind}")
        if source is None:
            raise ValueError(f"{down.name} is to be decided by {reads!r}, which it does not have")
        if reads == INPUT:
            return source.module.register_forward_pre_hook, keep_input
        act = activation_of(model, source)

        def keep_activated(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
            self._read.of[down.name] = act(output)

        return source.module.register_forward_hook, keep_activated


@dataclass(frozen=True, eq=False)
class Kept:
    """What a plan does to the dense input of one site, without the rows that stay dense.

    Attributes:
        x: the input, [R, K].
        kept: S(x), [R, K].
        read: what the decision was made by: x itself, or what a selector of neurons reads.
        neurons: which neurons are kept, boolean [R, K]; None where channels are selected.
    """

    x: torch.Tensor
    kept: torch.Tensor
    read: torch.Tensor
    neurons: torch.Tensor | None = None

    @property
    def dropped(self) -> int:
        """Channels whose weights need not be read, or neurons that were dropped."""
        left = self.kept if self.neurons is None else self.neurons
        return left.numel() - int(torch.count_nonzero(left))


def _source(layer: int, selector: NeuronSelector) -> str:
    """The place at which what a selector decides by is observed."""
    if selector.reads == INPUT:
        return f"{layer}.gate_up" if "gate_up" in selector.skips else f"{layer}.up"
    return activated_gate(layer) if selector.reads == GATE else residual_of(layer)


class _Keeping(Generic[T]):
    """Calls ``visit(site, kept)`` for every sparse site of a plan that the model comes to."""

    def __init__(self, plan: Plan, visit: Callable[[str, Kept], T]) -> None:
        self._plan = plan
        self._visit = visit
        self._read = _Read()
        self._sources = {
            _source(int(down.partition(".")[0]), selector): down
            for down, selector in plan.neurons.items()
            if selector.reads != HIDDEN
        }

    def __call__(self, place: str, x: torch.Tensor) -> T | None:
        plan, read = self._plan, self._read.of
        if (down := self._sources.get(place)) is not None:
            read[down] = x
        if place in plan.selectors:
            return self._visit(place, Kept(x, plan.selectors[place](x), x))
        if place in plan.neurons:
            by = read.pop(place, x)
            keep = plan.neurons[place].keeps(by).expand(x.shape)
            return self._visit(place, Kept(x, kept(x, keep), by, keep))
        return None


def observe_kept(
    model: LanguageModel,
    plan: Plan,
    documents: Sequence[torch.Tensor],
    visit: Callable[[str, Kept], T],
) -> Iterator[dict[str, T]]:
    """Per document, in order: sparse site to ``visit(site, kept)`` on dense activations.

    Args:
        model: dense, nothing attached.
        plan: defines S; nothing of it is attached.
        documents: int64 [T] each.
        visit: called from the threads that run the model.
    """
    found = observe_plans(model, [plan], documents, lambda _, site, kept: visit(site, kept))
    return (own for (own,) in found)


def observe_plans(
    model: LanguageModel,
    plans: Sequence[Plan],
    documents: Sequence[torch.Tensor],
    visit: Callable[[Plan, str, Kept], T],
) -> Iterator[list[dict[str, T]]]:
    """Per document, in order, and plan: sparse site to ``visit(plan, site, kept)``.

    The dense model runs once for all of them.

    Raises:
        ValueError: they do not keep the same positions dense.
    """
    prefill = plans[0].prefill
    if any(plan.prefill != prefill for plan in plans):
        raise ValueError("plans that are observed together must have one prefill policy")
    keeping = [_Keeping(plan, partial(visit, plan)) for plan in plans]
    read = {selector.reads for plan in plans for selector in plan.neurons.values()}
    also = {place for reads, place in _PLACES.items() if reads in read}

    def visit_place(place: str, x: torch.Tensor) -> list[T | None]:
        return [each(place, x) for each in keeping]

    for places in observe_documents(model, prefill, documents, visit_place, also=also):
        yield [
            {site: value for site, found in places.items() if (value := found[index]) is not None}
            for index in range(len(plans))
        ]
