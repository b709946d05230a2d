"""Changes of a model's weights, reproducible from a seed: by so much worse, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pytest_sparsity.models import LanguageModel, Site

Change = Callable[[LanguageModel, int, float], None]


def noise(model: LanguageModel, seed: int, size: float) -> None:
    """Add Gaussian noise of ``size`` standard deviations of its weights to every linear layer.

    Every weight is a little wrong: what a kernel with a wrong last step of accumulation, or a
    worse checkpoint, amounts to.
    """
    generator = torch.Generator().manual_seed(seed)
    for site in model.sites:
        weight = site.module.weight.float()
        drawn = torch.randn(weight.shape, generator=generator)
        _set(site, weight + size * weight.std() * drawn)


def rounding(model: LanguageModel, seed: int, size: float) -> None:
    """Round every linear layer to steps of ``size`` standard deviations of each output's weights.

    A coarser quantisation to the nearest, each output's grid with an offset of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    for site in model.sites:
        weight = site.module.weight.float()
        step = size * weight.std(1, keepdim=True)
        offset = torch.rand(len(weight), 1, generator=generator)
        _set(site, ((weight / step + offset).round() - offset) * step)


def order(model: LanguageModel, seed: int, size: float) -> None:
    """Put the neurons of every MLP in another order: the same function, summed otherwise."""
    del size
    generator = torch.Generator().manual_seed(seed)
    sites = {(site.layer, site.kind): site for site in model.sites}
    for layer, kind in sites:
        if kind != "down":
            continue
        weight = sites[layer, "down"].module.weight
        shuffled = torch.randperm(weight.shape[1], generator=generator)
        _set(sites[layer, "down"], weight[:, shuffled])
        for before in ("gate", "up"):
            if (layer, before) in sites:
                _set(sites[layer, before], sites[layer, before].module.weight[shuffled])


CHANGES: Mapping[str, Change] = {"noise": noise, "rounding": rounding, "order": order}


@contextmanager
def changed(model: LanguageModel, change: str, seed: int, size: float) -> Iterator[None]:
    """``model`` with its weights changed in place, and bit by bit as it was afterwards."""
    weights = {site: site.module.weight.clone() for site in model.sites}
    try:
        CHANGES[change](model, seed, size)
        yield
    finally:
        for site, weight in weights.items():
            _set(site, weight)


def size_for(loss: float, points: Mapping[float, float]) -> float:
    """The size of a change that costs ``loss`` of perplexity, by two sizes that were tried.

    To second order the log-perplexity rises by a * size + b * size^2.

    Args:
        loss: 0.01 is +1 %.
        points: size to the loss that it cost, two of them.

    Raises:
        ValueError: more did not cost more, so that nothing can be said.
    """
    (one, first), (two, second) = sorted(points.items())
    slope, other = math.log1p(first) / one, math.log1p(second) / two
    b = (other - slope) / (two - one)
    a = slope - b * one
    if second <= first or b <= 0:
        raise ValueError(f"sizes {one:g} and {two:g} cost {first:.2%} and {second:.2%}")
    return (math.sqrt(a * a + 4 * b * math.log1p(loss)) - a) / (2 * b)


def _set(site: Site, weight: Tensor) -> None:
    with torch.no_grad():
        site.module.weight.copy_(weight)
