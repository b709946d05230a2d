"""The decisions of a run, each over all units that were measured: what runs are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from values import Values, key_of
from variants import BASE, DENSE, TEAL

from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep import budgets
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, Cell, Configuration
from pytest_sparsity.sweep.changes import ACCURACY_TOLERANCE, PERPLEXITY_TOLERANCE
from pytest_sparsity.sweep.grid import evaluations
from pytest_sparsity.sweep.session import BUNDLED_BUDGETS

Vector = npt.NDArray[np.float64]
#: The least and the greatest value of a unit, by what is measured.
SHARE, DIFFERENCE, DIVERGENCE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)


@dataclass(frozen=True)
class Population:
    """One decision, over all units that were measured.

    Attributes:
        id: the cell and the metric.
        cell: what is measured together.
        evaluation: what its units are of; decisions with as many units of it are drawn together.
        damage: per unit, how much worse it is; nats of a document, -1, 0 or 1 of an item.
        weights: what the damage of a unit is summed over, such as tokens.
        limit: the mean damage that is allowed.
        relative: whether damage is the logarithm of what is judged, the relative change of
            perplexity.
        bounds: the least and greatest damage of a unit by its weight; None if there are none.
        equal: whether a unit is equal to the last bit, so that no statistics are needed.
        now: per unit, what other rules see of the model that is judged: nats, or 1 of an item
            that is right; empty where no other rule judges it.
        before: the same of what it is held against.
    """

    id: str
    cell: str
    evaluation: str
    damage: Vector
    weights: Vector
    limit: float
    relative: bool
    bounds: tuple[float, float] | None
    equal: npt.NDArray[np.bool_]
    now: Vector
    before: Vector

    @property
    def units(self) -> int:
        """Documents, items or prompts that were measured."""
        return len(self.damage)

    @property
    def kind(self) -> str:
        """Of its evaluation: perplexity, task or generation."""
        return self.evaluation.partition(":")[0]

    @property
    def truth(self) -> float:
        """The mean damage of the population."""
        return float(self.damage.sum() / self.weights.sum())

    def at_its_limit(self) -> Population:
        """The same with a budget that is exactly what is true."""
        return replace(self, limit=self.truth)

    def worse_by(self, loss: float) -> Population:
        """The same documents, with what is missing of a loss added to each token: 0.01 is +1 %.

        The loss of all documents is then exactly that.
        """
        shift = self.weights * (math.log1p(loss) - self.truth)
        return replace(
            self,
            damage=self.damage + shift,
            now=self.now + shift,
            equal=np.zeros_like(self.equal),
        )

    def with_lost(self, share: float, seed: int) -> Population:
        """The same items, of which so many more are no longer right: a share of all items."""
        right = np.flatnonzero(self.now > 0)
        lost = np.random.default_rng(seed).permutation(right)[: round(share * self.units)]
        now, damage, equal = self.now.copy(), self.damage.copy(), self.equal.copy()
        now[lost] -= 1
        damage[lost] += 1
        equal[lost] = False
        return replace(self, now=now, damage=damage, equal=equal)


def gate(known: Mapping[str, Values], variant: str) -> list[Population]:
    """Decisions of the accuracy gate: a variant against the model with nothing changed."""
    found = []
    for configuration in (DENSE, *TEAL):
        for evaluation in evaluations(default_settings()):
            pair = _pair(known, configuration, evaluation, variant)
            if pair is not None:
                found.append(_change(*pair))
    return found


def sweep(known: Mapping[str, Values]) -> list[Population]:
    """Decisions of a sweep: each sparse model against dense, with the bundled budgets."""
    limits = budgets.load(BUNDLED_BUDGETS)
    found: list[Population] = []
    for configuration in TEAL:
        for evaluation in evaluations(default_settings()):
            sparse = known.get(_key(BASE, configuration, evaluation))
            dense = known.get(_key(BASE, DENSE, evaluation))
            if sparse is None or dense is None:
                continue
            for metric, population in _metrics(sparse, dense, Cell(configuration, evaluation)):
                budget = limits.find(configuration, metric)
                assert budget is not None, metric
                perplexity = metric.startswith(PERPLEXITY)
                limit = math.log1p(budget.limit) if perplexity else budget.limit
                found.append(replace(population, id=f"{configuration.id} {metric}", limit=limit))
    return found


def _pair(
    known: Mapping[str, Values], configuration: Configuration, evaluation: str, variant: str
) -> tuple[Values, Values] | None:
    now = known.get(_key(variant, configuration, evaluation))
    before = known.get(_key(BASE, configuration, evaluation))
    return None if now is None or before is None else (now, before)


def _key(variant: str, configuration: Configuration, evaluation: str) -> str:
    return key_of(variant, configuration.method, configuration.level, evaluation)


def _change(now: Values, before: Values) -> Population:
    n = min(now.units, before.units)
    equal = np.array([now.mark(unit) == before.mark(unit) for unit in range(n)])
    name, ones, nothing = f"{now.method}-{now.level:g} {now.evaluation}", np.ones(n), np.empty(0)
    (metric,) = {"nll", "right", "off"} & set(now.columns)
    ours, theirs = (_column(side, metric, n) for side in (now, before))
    if metric == "nll":
        return Population(
            id=name,
            cell=name,
            evaluation=now.evaluation,
            damage=ours - theirs,
            weights=_column(now, "tokens", n),
            limit=math.log1p(PERPLEXITY_TOLERANCE),
            relative=True,
            bounds=None,
            equal=equal,
            now=ours,
            before=theirs,
        )
    items = metric == "right"
    return Population(
        id=name,
        cell=name,
        evaluation=now.evaluation,
        damage=theirs - ours if items else ours - theirs,
        weights=ones,
        limit=ACCURACY_TOLERANCE,
        relative=False,
        bounds=DIFFERENCE,
        equal=equal,
        now=ours if items else nothing,
        before=theirs if items else nothing,
    )


def _metrics(sparse: Values, dense: Values, cell: Cell) -> Iterator[tuple[str, Population]]:
    """Every metric of a cell that has a budget."""
    n = min(sparse.units, dense.units) if cell.kind != GENERATION else sparse.units

    def made(damage: Vector, weights: Vector, bounds: tuple[float, float] | None) -> Population:
        return Population(
            id="",
            cell=cell.id,
            evaluation=cell.evaluation,
            damage=damage,
            weights=weights,
            limit=0.0,
            relative=bounds is None,
            bounds=bounds,
            equal=np.zeros(n, dtype=bool),
            now=np.empty(0),
            before=np.empty(0),
        )

    if cell.kind == PERPLEXITY:
        tokens = _column(sparse, "tokens", n)
        rise = _column(sparse, "nll", n) - _column(dense, "nll", n)
        yield f"perplexity:{cell.subject}", made(rise, tokens, None)
        yield f"kl:{cell.subject}", made(_column(sparse, "kl", n), tokens, DIVERGENCE)
        other = tokens - _column(sparse, "agreement", n)
        yield f"agreement:{cell.subject}", made(other, tokens, SHARE)
    elif cell.kind == GENERATION:
        yield f"path:{GENERATION}", made(_column(sparse, "off", n), np.ones(n), SHARE)
    else:
        lost = _column(dense, "right", n) - _column(sparse, "right", n)
        yield f"accuracy:{cell.subject}", made(lost, np.ones(n), DIFFERENCE)


def _column(values: Values, name: str, n: int) -> Vector:
    return np.array(values.columns[name][:n], dtype=np.float64)
