"""Layers in sequence: each one is compressed on the inputs that the compressed ones before it give.

As GPTQ, SparseGPT and Wanda publish it (Wanda, arXiv 2306.11695, section 3), but in one forward
pass of the whole decoder: when a block is reached it is run once as it is, to see the inputs of
its matrices, then compressed, and then run for good.  What the architecture hands its blocks
(masks, rotary angles, windows) is thus always right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.cached import without_cache
from pytest_sparsity.models.forward import in_turn
from pytest_sparsity.models.parallel import in_parallel

Statistic = Callable[[torch.Tensor], torch.Tensor]
Replace = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def compress_in_sequence(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    statistic: Statistic,
    replace: Replace,
    progress: Progress,
    label: str,
) -> None:
    """Replace the weights of ``model``, block after block, in place.

    Every token counts, the first one of a document too, and so it does in the published code.

    Args:
        model: a twin, whose sites get new weights.
        tokens: calibration documents of one length, int64 [T] each.
        statistic: of the inputs [rows, K] of a matrix; made once for those that share them.
        replace: (weight [N, K], statistic) to the new weight.
        progress: advances by one per block.
        label: what is done, for ``progress``.

    Raises:
        SparsityError: there is no text, its documents differ in length, or an activation is not
            finite.
    """
    if not tokens or len({len(document) for document in tokens}) != 1:
        raise SparsityError(
            "calibration of weights needs documents of one length, and at least one; use a longer "
            "--sparsity-calibration corpus"
        )
    blocks = list(_blocks(model))
    with ExitStack() as hooks, progress(label, len(blocks), "block") as task:
        for block, sites in blocks:

            def before(
                block: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                sites: Sequence[Site] = sites,
            ) -> None:
                _compress_block(
                    model.device, sites, lambda: block.forward(*args, **kwargs), statistic, replace
                )
                task.advance()

            handle = block.register_forward_pre_hook(before, with_kwargs=True)
            hooks.callback(handle.remove)

        def run(batch: torch.Tensor) -> None:
            # Not inference mode: weights made in it could not take part in training.
            with torch.no_grad(), in_turn(model):
                model.decoder(input_ids=batch.to(model.device), **without_cache(model))

        # One batch in one thread: the result does not depend on how many there are.
        for _ in in_parallel(run, [torch.stack(list(tokens))], device=model.device):
            pass


def _compress_block(
    device: torch.device,
    sites: Sequence[Site],
    forward: Callable[[], Any],
    statistic: Statistic,
    replace: Replace,
) -> None:
    with _inputs(sites) as seen:
        forward()
    # An expert that no token came to is compressed by what came to the others of its layer.
    pools: dict[str, list[torch.Tensor]] = {}
    for site in sites:
        if site.name in seen:
            pools.setdefault(site.pool, []).append(seen[site.name])
    seen |= {s.name: torch.cat(pools[s.pool]) for s in sites if s.name not in seen}
    distinct = {id(x): x for x in seen.values()}
    made = in_parallel(lambda x: _statistic(x, statistic), distinct.values(), device=device)
    found = dict(zip(distinct, made, strict=True))

    def work(site: Site) -> torch.Tensor:
        return replace(site.module.weight.detach(), found[id(seen[site.name])])

    # All of them before any is put in place: a weight may be shared.
    for site, weight in list(zip(sites, in_parallel(work, sites, device=device), strict=True)):
        put(site, weight)


def put(site: Site, weight: torch.Tensor) -> None:
    """Give ``site`` a weight of its own; whatever shared the old one keeps it."""
    site.module.weight = nn.Parameter(weight, requires_grad=False)


def _statistic(x: torch.Tensor, statistic: Statistic) -> torch.Tensor:
    found = statistic(x.reshape(-1, x.shape[-1]))
    if not bool(torch.isfinite(found).all()):
        raise SparsityError(
            "the activations on the calibration text contain NaN or infinity, or are too large "
            "to be squared; the weights are damaged or their dtype overflows: try "
            "--sparsity-dtype float32"
        )
    return found


@contextmanager
def _inputs(sites: Sequence[Site]) -> Iterator[dict[str, torch.Tensor]]:
    """Site to its input in the forward pass inside."""
    seen: dict[str, torch.Tensor] = {}

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen[name] = args[0]

        return hook

    with ExitStack() as hooks:
        for site in sites:
            handle = site.module.register_forward_pre_hook(hook_of(site.name))
            hooks.callback(handle.remove)
        yield seen


def _blocks(model: LanguageModel) -> Iterator[tuple[nn.Module, list[Site]]]:
    """Per layer the innermost module that holds all of its sites, and those."""
    for _, members in groupby(model.sites, key=lambda site: site.layer):
        sites = list(members)
        yield model.block_of(sites), sites
