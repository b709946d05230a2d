"""The same neurons for every token: a model cut to its hot, its cold or to random neurons.

PowerInfer prunes neither: it skips, token by token, what is predicted to be inactive, and hot and
cold decide only where a neuron is computed.  These are ablations of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.levels import NATURAL
from pytest_sparsity.methods.neurons.activity import (
    NEURON_STATISTICS,
    calibrated_counts,
    down_sites,
)
from pytest_sparsity.methods.neurons.hot_set import PLACED, hot_blocks, hot_mask, hottest
from pytest_sparsity.methods.neurons.plans import ACTIVE, COUNT, SkipsNeurons, fixed_plan
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.topk_mask import dropped_count

Masks = dict[int, torch.Tensor]
Counts = Mapping[int, torch.Tensor]

#: How many neurons each layer keeps: the same number in all of them; as many as are among those
#: chosen from the whole model; or the same in blocks, as PowerInfer's solver places them.
LAYER, MODEL, CAPACITY = "layer", "model", "capacity"


#: How many are hot, of so many neurons.
Size = Callable[[int], int]


#: The hottest of a model's neurons, by scope.
_HOTTEST: Mapping[str, Callable[[Counts, Size], Masks]] = {
    LAYER: lambda counts, size: {n: hot_mask(c, size(len(c))) for n, c in counts.items()},
    MODEL: lambda counts, size: hottest(counts, size(sum(map(len, counts.values())))),
    CAPACITY: lambda counts, size: hot_blocks(counts, size(sum(map(len, counts.values())))),
}


class _Pruned(SkipsNeurons):
    """Keeps hot or cold neurons; counts and hot sets may be given.

    Args:
        scope: ``LAYER``, ``MODEL`` or ``CAPACITY``; ``NATURAL`` takes the hot set of a file.
    """

    base: str
    takes: tuple[str, ...]

    def __init__(self, scope: str = LAYER) -> None:
        if scope not in (*_HOTTEST, NATURAL):
            raise SparsityError(
                f"method {self.base}:{scope}: what stands behind the colon is {MODEL}, {CAPACITY} "
                f"or {NATURAL} (the hot set of a file); or leave it out"
            )
        self._scope = scope
        self.name = self.base if scope == LAYER else f"{self.base}:{scope}"
        self.takes = ("hot",) if scope == NATURAL else ("frequencies",)
        self.needs = self.takes if scope == NATURAL else ()
        self.wants: tuple[str, ...] = () if scope == NATURAL else NEURON_STATISTICS
        count = COUNT if scope == LAYER else "nearest, over the model"
        self.parameters: Mapping[str, object] = {"active": ACTIVE, "count": count, "scope": scope}
        if scope == CAPACITY:
            self.parameters = {**self.parameters, "block": PLACED}

    def variant(self, text: str) -> _Pruned:
        """The method of another scope.

        Raises:
            SparsityError: there is no such scope.
        """
        return type(self)(text)

    def _hot(self, calibrator: Calibrator, size: Size) -> Masks:
        """The hottest neurons, ``size`` of them, or the hot set that is given."""
        given = calibrator.given
        if self._scope == NATURAL:
            if given is None or given.hot is None:
                raise SparsityError(
                    f"method {self.name} needs the hot set of a file; name a *.gpuidx with "
                    "--sparsity-predictors"
                )
            return dict(given.hot)
        if given is not None and given.frequencies is not None:
            return _HOTTEST[self._scope](given.frequencies, size)
        return _HOTTEST[self._scope](calibrated_counts(calibrator).counts, size)


class HotOnly(_Pruned):
    """The model keeps its most often active neurons and loses the ``level`` coldest."""

    base = "hot_only"

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The most often active ``1 - level`` of the neurons."""
        hot = self._hot(calibrator, lambda neurons: neurons - dropped_count(level, neurons))
        return fixed_plan(self.name, calibrator, level, hot)


class ColdOnly(_Pruned):
    """The model loses its most often active neurons: the hottest ``level`` of them."""

    base = "cold_only"

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The least often active ``1 - level`` of the neurons."""
        hot = self._hot(calibrator, lambda neurons: dropped_count(level, neurons))
        cold = {layer: ~mask for layer, mask in hot.items()}
        return fixed_plan(self.name, calibrator, level, cold)


class RandomNeurons(SkipsNeurons):
    """Every layer keeps neurons drawn at random: the control of hot_only and cold_only.

    What a level keeps, lower levels keep as well.

    Args:
        seed: of the lot.
        scope: ``LAYER``, or ``MODEL`` for a lot over all neurons of the model.
    """

    wants: tuple[str, ...] = ()

    def __init__(self, seed: int = 0, scope: str = LAYER) -> None:
        if scope not in (LAYER, MODEL):
            raise SparsityError(
                f"method random_neurons:{scope}: what stands behind the colon is {MODEL}; or leave "
                "it out"
            )
        self._seed, self._scope = seed, scope
        self.name = "random_neurons" if scope == LAYER else f"random_neurons:{scope}"
        self.parameters: Mapping[str, object] = {"count": COUNT, "seed": seed}
        if scope != LAYER:
            self.parameters = {"count": "nearest, over the model", "seed": seed}

    def variant(self, text: str) -> RandomNeurons:
        """The method of another scope.

        Raises:
            SparsityError: there is no such scope.
        """
        return RandomNeurons(self._seed, text)

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """A seeded ``1 - level`` of the neurons."""
        widths = {s.layer: s.module.in_features for s in down_sites(calibrator.model).values()}
        if self._scope == MODEL:
            whole = self._kept(0, sum(widths.values()), level)
            parts = whole.split(list(widths.values()))  # type: ignore[no-untyped-call]
            masks = dict(zip(widths, parts, strict=True))
        else:
            masks = {n: self._kept(n, width, level) for n, width in widths.items()}
        return fixed_plan(self.name, calibrator, level, masks)

    def _kept(self, number: int, neurons: int, level: float) -> torch.Tensor:
        lot = torch.Generator().manual_seed(self._seed * 100_003 + number)
        mask = torch.ones(neurons, dtype=torch.bool)
        mask[torch.randperm(neurons, generator=lot)[: dropped_count(level, neurons)]] = False
        return mask
