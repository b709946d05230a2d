"""The bound of an op whose author gives none: computed from its definition.

The definition is run in float64 several times, and after each operation its result is moved by
what a kernel's rounding may cost there (``arithmetic``): Monte-Carlo arithmetic (Parker 1997,
"Monte Carlo Arithmetic", UCLA CSD-970002), but for sums, which are moved as a whole.  Signs are
drawn at random, so that errors of many values add up like the root of the sum of their squares; and
two runs move all values the same way, since errors of equal values are equal.  The bound is twice
the root mean square of what the random runs give, or the largest difference of any run where that
is more, and the rounding of the result.

Decisions (``decisions``) are held at the definition's own; what is right where one falls to its
other side within its error is found by turning it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.reference.arithmetic import Moved, Random, Same
from pytest_sparsity.reference.decisions import Decided, keeping_equal, keeps_equal, ruled
from pytest_sparsity.reference.precision import Precision, output_bound

#: Runs with random signs, and what their root mean square is taken times.
_RUNS, _FACTOR = 8, 2.0
#: Decisions that are turned one by one; if there are more, several at a time.
_TURNED = 256
#: So many decisions are turned in every combination.
FEW = 6


def computed_bound(
    define: Callable[..., Any],
    operands: Mapping[str, Any],
    precision: Precision,
    outputs: Sequence[torch.dtype] | None = None,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """How far each element of a right kernel's result may be from the definition's, float64.

    Args:
        define: called with ``operands``; gives a tensor, or several.
        operands: floating-point tensors as float64.
        precision: in which dtypes the kernel works.
        outputs: dtypes of the tensors of its result; by default all are ``precision.output``.
        seed: of the signs.
    """
    return Outcomes(define, operands, precision, outputs, seed).widened


class Outcomes:
    """What right kernels may give: the definition's result, with decisions on the edge either way.

    Attributes:
        references: the definition's result.
    """

    references: tuple[Tensor, ...]

    def __init__(
        self,
        define: Callable[..., Any],
        operands: Mapping[str, Any],
        precision: Precision,
        outputs: Sequence[torch.dtype] | None = None,
        seed: int = 0,
    ) -> None:
        """Run the definition; the arguments are those of :func:`computed_bound`."""
        self._define, self._operands, self._precision = define, operands, precision
        self._keeps_equal = keeps_equal()  # here, and in every later run
        self._seed = seed
        self._decided: list[Decided] = []
        with ruled(self._note):
            self.references = self._run(operands)
        self._dtypes = outputs or [precision.output] * len(self.references)
        self._moves = [torch.zeros_like(each.distance) for each in self._decided]

    @cached_property
    def bounds(self) -> tuple[Tensor, ...]:
        """How far a right result may be off if all is decided as the definition does."""
        return self._with_output(self.references, self._errors)

    def bounds_if(self, turned: Collection[int]) -> tuple[Tensor, ...]:
        """How far it may be off :meth:`turned` if these decisions fall to their other side."""
        if not turned:
            return self.bounds
        references = self.turned(turned)
        return self._with_output(references, self._errors_of(references, turned))

    @cached_property
    def widened(self) -> tuple[Tensor, ...]:
        """How far it may be off if decisions on the edge fall to either side."""
        errors, near = self._errors, range(len(self.near))
        step = max(1, -(-len(near) // _TURNED))
        alone = [torch.zeros_like(error) for error in errors]
        together = [torch.zeros_like(error) for error in errors]
        for start in range(0, len(near), step):
            for total, away in zip(alone, self._away(near[start : start + step]), strict=True):
                total += away
        # Some change nothing alone, and something with others.
        several: list[Collection[int]] = list(_subsets(near, 2)) if len(near) <= FEW else [near]
        for turned in several:
            for most, away in zip(together, self._away(turned), strict=True):
                torch.maximum(most, away, out=most)
        pairs = zip(errors, alone, together, strict=True)
        return self._with_output(
            self.references, [error + torch.maximum(one, all_) for error, one, all_ in pairs]
        )

    @cached_property
    def near(self) -> list[tuple[int, int]]:
        """Decisions within their error of the edge: which of them, and of which value."""
        self._errors  # noqa: B018  # what moves the values
        return [
            (number, place)
            for number, (each, moved) in enumerate(zip(self._decided, self._moves, strict=True))
            # Twice: the runs show what errors are like, not the largest of them.
            for place in (each.distance <= 2 * moved).flatten().nonzero().flatten().tolist()
            if each.ties or bool(moved.flatten()[place] > 0)
        ]

    def turned(self, which: Collection[int]) -> tuple[Tensor, ...]:
        """The result with some decisions, by their places in :attr:`near`, on their other side."""

        def turn(decision: Decided, number: int) -> Tensor:
            return self._held(number, which)

        with ruled(turn):
            return self._run(self._operands)

    def _held(self, number: int, turned: Collection[int]) -> Tensor:
        """What a decision is held at, with some turned."""
        decided = self._decided[number]
        places = [place for n, place in (self.near[each] for each in turned) if n == number]
        if not places:
            return decided.chosen
        found = decided.chosen.clone().flatten()
        found[places] = decided.other.flatten()[places]
        return found.view(decided.chosen.shape)

    @cached_property
    def _errors(self) -> list[Tensor]:
        """What a right result may be off before it is rounded; notes how decisions are moved."""
        return self._errors_of(self.references, ())

    def _errors_of(self, references: tuple[Tensor, ...], turned: Collection[int]) -> list[Tensor]:
        def hold(decision: Decided, number: int) -> Tensor:
            before, held = self._decided[number], self._held(number, turned)
            away = (decision.measure - before.measure).abs().nan_to_num(nan=torch.inf)
            if not turned:
                torch.maximum(self._moves[number], away, out=self._moves[number])
            if held.dtype == torch.bool:
                return held
            # What is off by more than there is between whole numbers is not decided, but computed.
            return torch.where(away < 0.5, held, decision.chosen)

        squares = [torch.zeros_like(r, dtype=torch.float64) for r in references]
        most = [torch.zeros_like(each) for each in squares]
        for number in range(_RUNS + 2):
            same = number >= _RUNS
            lot = Random(self._seed * 1009 + number)
            signs = Same(1.0 if number % 2 else -1.0) if same else lot
            # Copies: a definition may work in place.
            copies = {name: _copy(value) for name, value in self._operands.items()}
            with ruled(hold), Moved(self._precision, signs, copies):
                found = self._run(copies)
            for place, (reference, result) in enumerate(zip(references, found, strict=True)):
                away = _between(result, reference)
                torch.maximum(most[place], away, out=most[place])
                if not same:
                    squares[place] += away**2
        return [
            torch.maximum(_FACTOR * (square / _RUNS).sqrt(), largest)
            for square, largest in zip(squares, most, strict=True)
        ]

    def _away(self, which: Collection[int]) -> list[Tensor]:
        pairs = zip(self.turned(which), self.references, strict=True)
        return [_between(result, reference) for result, reference in pairs]

    def _with_output(
        self, references: Sequence[Tensor], errors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Those, and the rounding of the result; infinite where it cannot be said."""
        found = []
        for reference, error, dtype in zip(references, errors, self._dtypes, strict=True):
            if dtype.is_floating_point:
                error = error + output_bound(reference.double().abs() + error, dtype)
                error = error.nan_to_num(nan=torch.inf, posinf=torch.inf)
            found.append(error)
        return tuple(found)

    def _run(self, operands: Mapping[str, Any]) -> tuple[Tensor, ...]:
        with keeping_equal(self._keeps_equal):
            found = self._define(**{name: _copy(value) for name, value in operands.items()})
        results = (found,) if isinstance(found, Tensor) else tuple(found)
        if any(result.is_complex() for result in results):
            raise ValueError("the result is complex: give torch.view_as_real of it")
        return results

    def _note(self, decision: Decided, number: int) -> Tensor:
        self._decided.append(decision)
        return decision.chosen


def _subsets(of: Sequence[int], least: int) -> Iterator[tuple[int, ...]]:
    """Those of at least so many."""
    for size in range(least, len(of) + 1):
        yield from combinations(of, size)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _between(result: Tensor, reference: Tensor) -> Tensor:
    """|result - reference|; 0 where both are the same infinity or NaN."""
    if result.shape != reference.shape:
        return torch.full(reference.shape, torch.inf, dtype=torch.float64)
    away = (result.double() - reference.double()).abs()
    same = (result == reference) | (result.isnan() & reference.isnan())
    return torch.where(same, 0.0, away.nan_to_num(nan=torch.inf))
