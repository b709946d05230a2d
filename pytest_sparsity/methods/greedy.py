"""TEAL's block-wise greedy search: which sites of a block lose how much (Algorithm 1).

Within one decoder block, the site whose next step hurts the block's output least takes it,
until the block has lost its share (arXiv 2408.14690, section 4.4).  What differs from the
published code: a step is the same number of *weights* at every site by their true shapes
(there a table, wrong for some models), no site loses more than all it has (there p = 1.2 is
possible), and thresholds are quantiles of |x|, not of a symmetric fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.methods.calibration import Distribution
from pytest_sparsity.methods.prefill import PrefillPolicy, all_dense
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.plain_layers import shape_of

#: Levels are sums of steps: 50 steps of 1 % are not quite a half.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SearchStep:
    """One step of the search.

    Attributes:
        levels: site to the fraction that its input loses, in [0, 1].
        error: of the block's output, see :func:`output_error`.
    """

    levels: Mapping[str, float]
    error: float


#: The rows of a block, from dense.
Trail = list[SearchStep]


def search(
    model: LanguageModel,
    sequences: torch.Tensor,
    prefill: PrefillPolicy,
    distributions: Mapping[str, Distribution],
    trails: Mapping[int, Trail],
    *,
    until: float,
    step: float,
    progress: Progress = silent,
) -> dict[int, Trail]:
    """Continue the trail of every block until it has lost ``until`` of its weights.

    Args:
        model: dense, nothing attached.
        sequences: int64 [B, T], through which the blocks are looked at, on dense inputs.
        prefill: positions that it keeps dense stay so, and their error does not count.
        distributions: site to the distribution of its |x|.
        trails: layer to what has been found before; may be empty.
        until: fraction in [0, 1].
        step: fraction of a block's weights that one step takes.
        progress: advances by one per block.

    Returns:
        Layer to its trail, in natural order; the first row is dense.

    Raises:
        SparsityError: the policy keeps every position dense.
    """
    twin = model.twin()
    sites: dict[int, list[Site]] = {}
    for site in twin.sites:
        sites.setdefault(site.layer, []).append(site)
    sparse = _sparse_rows(sequences, prefill).to(model.device)
    blocks = {layer: twin.block_of(members) for layer, members in sites.items()}
    calls = _calls(twin, blocks, sequences)

    def extend(layer: int) -> Trail:
        block = Block(blocks[layer], sites[layer], calls[layer], sparse, distributions)
        return _extend(block, trails.get(layer, []), until, step)

    with progress(f"greedy levels {model.name}", len(blocks), "block") as task:
        found = {}
        done = in_parallel(extend, sites, device=model.device)
        for layer, trail in zip(sites, done, strict=True):
            found[layer] = trail
            task.advance()
    return found


def at_level(trail: Trail, weights: Mapping[str, int], level: float) -> dict[str, float]:
    """The levels of a block's sites where its trail crosses ``level``.

    The step that crosses it is cut short, so that the block loses exactly ``level``.

    Args:
        trail: of a search that came as far.
        weights: site to its number of weights.
        level: fraction of the block's weights.
    """
    before = trail[0].levels
    for row in trail:
        low, high = block_level(before, weights), block_level(row.levels, weights)
        if high >= level - _ROUNDING:
            share = min(1.0, (level - low) / (high - low)) if high > low else 0.0
            return {s: p + share * (row.levels[s] - p) for s, p in before.items()}
        before = row.levels
    raise ValueError(f"the search ended at {block_level(before, weights):.3f}, before {level}")


def block_level(levels: Mapping[str, float], weights: Mapping[str, int]) -> float:
    """Fraction of a block's weights that its sites' levels skip, by true shapes."""
    return sum(levels[s] * weights[s] for s in levels) / sum(weights[s] for s in levels)


def _extend(block: Block, trail: Trail, until: float, step: float) -> Trail:
    weights, total = block.weights, sum(block.weights.values())
    rows = list(trail) or [SearchStep(dict.fromkeys(weights, 0.0), 0.0)]
    levels = dict(rows[-1].levels)
    block.commit(block.run(levels))
    while block_level(levels, weights) < until - _ROUNDING:
        tried = {}
        for site, count in weights.items():
            if levels[site] < 1:
                candidate = {**levels, site: min(1.0, levels[site] + step * total / count)}
                tried[site] = candidate, block.run(candidate)
        # Of equal errors the first site takes the step: the result is the same everywhere.
        best = min(tried, key=lambda site: tried[site][1].error)
        levels, ran = tried[best]
        block.commit(ran)
        rows.append(SearchStep(levels, ran.error))
    return rows


@dataclass(frozen=True, eq=False)
class Ran:
    """What one run of a block gave: its error, and what every site computed from what."""

    error: float
    computed: Mapping[str, tuple[float, torch.Tensor, torch.Tensor]]


class Block:
    """One decoder block on fixed dense inputs, its sites sparsified at will.

    A site whose input and threshold are those of the committed run gives what it gave there:
    a candidate for ``down`` computes nothing but ``down``.

    Args:
        block: of a twin that nobody else runs; its linear layers get another ``forward``.
        sites: its sites.
        call: positional and keyword arguments of the block.
        sparse: boolean [B, T, 1], positions that are sparsified.
        distributions: site to the distribution of its |x|.
    """

    def __init__(
        self,
        block: nn.Module,
        sites: Sequence[Site],
        call: tuple[tuple[Any, ...], dict[str, Any]],
        sparse: torch.Tensor,
        distributions: Mapping[str, Distribution],
    ) -> None:
        self.weights = {site.name: math.prod(shape_of(site.module)) for site in sites}
        self._block, self._call, self._sparse = block, call, sparse
        self._distributions = distributions
        self._thresholds: dict[str, float] = {}
        self._committed: Mapping[str, tuple[float, torch.Tensor, torch.Tensor]] = {}
        self._computed: dict[str, tuple[float, torch.Tensor, torch.Tensor]] = {}
        self._target = self._output()
        for site in sites:
            layer = vars(site.module)
            layer["forward"] = self._forward(site.name, site.module.forward)

    def run(self, levels: Mapping[str, float]) -> Ran:
        """Run the block with each site losing its level."""
        self._thresholds = {s: self._distributions[s].quantile(p) for s, p in levels.items()}
        self._computed = {}
        error = output_error(self._target, self._output(), self._sparse)
        return Ran(error, self._computed)

    def commit(self, ran: Ran) -> None:
        """Make ``ran`` what later runs start from."""
        self._committed = ran.computed

    def _output(self) -> torch.Tensor:
        args, kwargs = self._call
        with torch.inference_mode():
            output = self._block(*args, **kwargs)
        found: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
        return found

    def _forward(self, site: str, linear: Any) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            threshold = self._thresholds[site]
            known = self._committed.get(site)
            if known is not None and known[0] == threshold and torch.equal(known[1], x):
                y = known[2]
            else:
                # OPT's MLP is given its tokens as rows, [B * T, H].
                sparse = self._sparse.reshape(*x.shape[:-1], 1)
                y = linear(torch.where(sparse, sparsify_activations(x, threshold), x))
            self._computed[site] = threshold, x, y
            return y

        return forward


def output_error(target: torch.Tensor, output: torch.Tensor, sparse: torch.Tensor) -> float:
    """Mean over sequences and channels of the L2 norm, over tokens, of what was lost.

    As in the published code; target and output are [B, T, H], and only positions marked in
    ``sparse`` [B, T, 1] count.
    """
    lost = (target.float() - output.float()).masked_fill(~sparse, 0.0)
    return float(lost.norm(dim=1).mean())


def _sparse_rows(sequences: torch.Tensor, prefill: PrefillPolicy) -> torch.Tensor:
    batch, length = sequences.shape
    places = torch.arange(length).expand(batch, length)
    dense = prefill.dense_positions(places, torch.full((batch, 1), length))
    sparse = torch.ones_like(places, dtype=torch.bool) if dense is None else ~dense
    if not bool(sparse.any()):
        raise all_dense(prefill, "sequences of the greedy search")
    return sparse[..., None]


def _calls(
    model: LanguageModel, blocks: Mapping[int, nn.Module], sequences: torch.Tensor
) -> dict[int, tuple[tuple[Any, ...], dict[str, Any]]]:
    """With what the dense model calls each block, in one pass."""
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def hook_of(layer: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[layer] = args, kwargs

        return hook

    with ExitStack() as hooks:
        for layer, block in blocks.items():
            hook = block.register_forward_pre_hook(hook_of(layer), with_kwargs=True)
            hooks.enter_context(hook)
        hidden_states(model, sequences)
    return calls
