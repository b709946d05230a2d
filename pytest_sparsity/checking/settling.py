"""Holds a result against all that right kernels may give where decisions are on the edge.

A result is right if there is one way to decide what is on the edge with which all of it is right.
Decisions that reach different parts of the result (those of different rows, say) are told apart
first, and tried at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_sparsity.reference.ops import Output
from pytest_sparsity.reference.precision import tolerance_used
from pytest_sparsity.reference.stochastic import FEW, Outcomes

Tensors = tuple[Tensor, ...]
#: Decisions that are looked at one by one; of more, only the first.
_MOST = 256
#: Times that decisions are gone through which are too many to be tried in every combination.
_PASSES = 4
#: Share of the bound that stands for what must be exact and is not.
_WRONG = 1e300


class KernelResult:
    """What a kernel gave, in the parts that are right or wrong by themselves.

    A part is an element, or a set along the last dimension.
    """

    def __init__(self, tensors: Tensors, outputs: Sequence[Output]) -> None:
        self._tensors, self._outputs = tensors, outputs

    def used(self, references: Tensors, bounds: Sequence[Tensor | None]) -> Tensor:
        """The share of the bound that a part takes: float64 [parts]; more than 1 if it is wrong."""
        found = []
        for tensor, reference, bound, declared in zip(
            self._tensors, references, bounds, self._outputs, strict=True
        ):
            if tensor.shape != reference.shape:
                used = _filled(tensor, declared, torch.inf)
            elif declared.kind == "numbers" and bound is not None:
                exact = (tensor == reference.to(tensor.dtype)) & (bound == 0)
                used = torch.where(exact, 0.0, tolerance_used(tensor, reference, bound))
            else:
                used = (~_alike(tensor, reference, declared)).double() * _WRONG
            found.append(used.flatten())
        return torch.cat(found)

    def changed(self, before: Tensors, after: Tensors) -> Tensor:
        """Which parts of the definition's result differ: bool [parts]."""
        found = []
        for tensor, one, two, declared in zip(
            self._tensors, before, after, self._outputs, strict=True
        ):
            if one.shape == two.shape == tensor.shape:
                found.append(~_alike(one, two, declared).flatten())
            else:
                found.append(_filled(tensor, declared, 1.0).bool().flatten())
        return torch.cat(found)

    def distances(self, references: Tensors) -> Tensor:
        """How many elements of each part are not right: [parts]; of numbers 0."""
        found = []
        for tensor, reference, declared in zip(
            self._tensors, references, self._outputs, strict=True
        ):
            if declared.kind == "numbers":
                away = _filled(tensor, declared, 0.0)
            elif tensor.shape != reference.shape:
                away = _filled(tensor, declared, torch.inf)
            elif declared.kind == "set":
                same = (
                    in_order(tensor)[..., :, None]
                    == in_order(reference.to(tensor.dtype))[..., None, :]
                )
                away = (~same.any(-1)).sum(-1).double()
            else:
                away = (~_alike(tensor, reference, declared)).double()
            found.append(away.flatten())
        return torch.cat(found)


def settle(
    result: KernelResult,
    outcomes: Outcomes,
    bounds: Callable[[Collection[int]], Sequence[Tensor | None]],
) -> float | None:
    """The share of the bound that a result takes if decisions on the edge fall as it has them.

    Args:
        result: that is wrong if all is decided as the definition does.
        outcomes: of the definition.
        bounds: if some decisions are turned; None for outputs that must be exact.

    Returns:
        None if there is no way to decide with which it is right.
    """
    near = outcomes.near[:_MOST]
    if not near:
        return None

    def used_if(turned: set[int]) -> Tensor:
        return result.used(outcomes.turned(turned), bounds(turned))

    groups = _groups(result, outcomes, len(near))
    start = used_if(set())
    wrong = [group for group in groups if bool((start[group.reached] > 1).any())]
    few = [group for group in wrong if len(group.decisions) <= FEW]
    many = [group for group in wrong if len(group.decisions) > FEW]
    chosen: set[int] = set()
    for number in range(1, 2**FEW):
        trying = {group: subset for group in few if (subset := group.subset(number))}
        if not trying:
            break
        used = used_if(set().union(*trying.values()))
        for group, subset in trying.items():
            if bool((used[group.reached] <= 1).all()):
                few.remove(group)
                chosen |= subset
    chosen = _approached(result, outcomes, many, chosen) if many else chosen
    used = used_if(chosen)
    if many:
        wide = [
            None if bound is None else torch.maximum(bound, wider)
            for bound, wider in zip(bounds(()), outcomes.widened, strict=True)
        ]
        of_many = torch.stack([group.reached for group in many]).any(0)
        within = result.used(outcomes.references, wide)
        used = torch.where(of_many, torch.minimum(used, within), used)
    largest = float(used.max())
    return largest if largest <= 1 else None


def in_order(chosen: Tensor) -> Tensor:
    """Sets along the last dimension, ascending: equal ones look alike, whatever their padding."""
    last = torch.iinfo(chosen.dtype).max
    return torch.where(chosen < 0, last, chosen).sort(-1).values


def _alike(output: Tensor, expected: Tensor, declared: Output) -> Tensor:
    """Which elements, or which sets along the last dimension, are equal."""
    if declared.kind == "set":
        return (in_order(output) == in_order(expected.to(output.dtype))).all(-1)
    wanted = expected.to(output.dtype)
    equal = output == wanted
    return equal | (output.isnan() & wanted.isnan()) if output.is_floating_point() else equal


def _filled(tensor: Tensor, declared: Output, value: float) -> Tensor:
    """A value for each part of an output."""
    shape = tensor.shape[:-1] if declared.kind == "set" else tensor.shape
    return torch.full(shape, value, dtype=torch.float64, device=tensor.device)


@dataclass(frozen=True, eq=False)
class _Group:
    """Decisions on the edge that reach parts of the result which no others reach.

    Attributes:
        decisions: their numbers.
        reached: bool [parts].
    """

    decisions: Sequence[int]
    reached: Tensor

    def subset(self, number: int) -> set[int]:
        """One of the subsets of its decisions, by the bits of a number; empty beyond the last."""
        if number >= 2 ** len(self.decisions):
            return set()
        return {each for place, each in enumerate(self.decisions) if number >> place & 1}


def _groups(result: KernelResult, outcomes: Outcomes, count: int) -> list[_Group]:
    def reached(decisions: Collection[int]) -> Tensor:
        return result.changed(outcomes.references, outcomes.turned(decisions))

    reach = torch.stack([reached((each,)) for each in range(count)])
    idle = (~reach.any(1)).nonzero().flatten().tolist()
    if idle:  # alone they change nothing: two that both must hold, say
        reach[idle] = reached(idle)
    linked = (reach.double() @ reach.double().T) > 0
    groups = []
    left = set(range(count))
    while left:
        group, more = set[int](), {min(left)}
        while more:
            group |= more
            more = set(linked[sorted(more)].any(0).nonzero().flatten().tolist()) - group
        left -= group
        groups.append(_Group(sorted(group), reach[sorted(group)].any(0)))
    return groups


def _approached(
    result: KernelResult, outcomes: Outcomes, groups: Sequence[_Group], chosen: set[int]
) -> set[int]:
    """``chosen`` and decisions of large groups that make exact parts of the result more alike."""

    def away(turned: set[int]) -> float:
        return float(result.distances(outcomes.turned(turned)).sum())

    least = away(chosen)
    for _ in range(_PASSES):
        before = least
        for each in (each for group in groups for each in group.decisions):
            if least and (nearer := away(chosen ^ {each})) < least:
                least, chosen = nearer, chosen ^ {each}
        if least == before:
            break
    return chosen
