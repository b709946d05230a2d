"""What sparsity takes from a model's right answers, by task and by family of tasks.

A loss is the share lost of what the dense model knows beyond guessing: 0 is no loss, 1 leaves
guesses.  So tasks of different difficulty can be compared, and put together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_sparsity.claims.evidence import BrokenEvidence
from pytest_sparsity.core.statistics import Interval, Table, Vector, bootstrap, rank_correlation
from pytest_sparsity.evaluation.evidence import refusal
from pytest_sparsity.sweep.record import Record, is_right

#: Families of tasks, the one that the question is about first.
FAMILIES = ("reasoning", "knowledge", "language")


@dataclass(frozen=True, eq=False)
class Answers:
    """Right answers to one task, of the dense model and of sparse ones, on the same items.

    Attributes:
        task: its name.
        family: one of ``FAMILIES``.
        chance: share right by guessing.
        right: [items, 1 + cells], 1 where right; the dense model's come first.
        achieved: share of the weights skipped, per sparse cell.
        refused: why the task is no evidence on this model; empty if it is.
    """

    task: str
    family: str
    chance: float
    right: Table
    achieved: tuple[float, ...]
    refused: str

    @classmethod
    def of(
        cls, dense: Record, sparse: Sequence[Record], achieved: Sequence[float], items: int
    ) -> Answers:
        """What the records of one task's evaluation say about its first ``items`` items.

        Raises:
            BrokenEvidence: they are not about the same items.
        """
        measured = dense.measured
        units = [record.units[:items] for record in (dense, *sparse)]
        ids = [[unit["id"] for unit in own] for own in units]
        if any(own != ids[0] for own in ids):
            raise BrokenEvidence(f"{dense.cell.id} and others were not measured on the same items")
        right = np.array([[float(is_right(measured, u)) for u in own] for own in units]).T
        chance = float(measured["chance"])
        return cls(
            task=dense.cell.subject,
            family=measured["family"],
            chance=chance,
            right=right,
            achieved=tuple(achieved),
            refused=refusal(int(right[:, 0].sum()), len(right), chance),
        )

    @property
    def accuracy(self) -> Vector:
        """Share right, the dense model's first, [1 + cells]."""
        return np.asarray(self.right.mean(axis=0))

    def beyond(self, sums: Table) -> Table:
        """Right answers of the dense model beyond guessing, [draws, 1], from sums over items."""
        return sums[:, :1] - self.chance * len(self.right)

    def lost(self, sums: Table) -> Table:
        """Share lost by every cell, [draws, cells], from sums over items, [draws, 1 + cells]."""
        return _share(sums[:, :1] - sums[:, 1:], self.beyond(sums))

    def to_json(self) -> dict[str, Any]:
        """Plain data; a string of 0 and 1 per item."""
        right = ["".join(str(int(mark)) for mark in item) for item in self.right]
        return {
            "task": self.task,
            "family": self.family,
            "chance": self.chance,
            "right": right,
            "achieved": list(self.achieved),
            "refused": self.refused,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Answers:
        """Read what :meth:`to_json` made."""
        right = np.array([[float(mark) for mark in item] for item in content["right"]])
        return cls(**{**content, "right": right, "achieved": tuple(content["achieved"])})


def usable(tasks: Sequence[Answers], family: str) -> list[Answers]:
    """The tasks of a family on which the dense model is above chance."""
    return [task for task in tasks if task.family == family and not task.refused]


def family_lost(tasks: Sequence[Answers], sums: Sequence[Table]) -> Table:
    """Share lost of what is known beyond guessing in all of these tasks, [draws, cells].

    A task on which more is known counts more: the mean of shares would be at the mercy of one
    that is hardly above chance.
    """
    pairs = list(zip(tasks, sums, strict=True))
    lost = np.sum([each[:, :1] - each[:, 1:] for _, each in pairs], axis=0)
    return _share(lost, np.sum([task.beyond(each) for task, each in pairs], axis=0))


def lost_share(
    tasks: Sequence[Answers], cell: int, *, seed: int, confidence: float = 0.95
) -> Interval:
    """Share that a cell lost on ``tasks``, with a bootstrap over items."""

    def figure(sums: Sequence[Table]) -> Vector:
        return np.asarray(family_lost(tasks, sums)[:, cell])

    return _drawn([t.right for t in tasks], figure, seed, confidence)


def accuracy_difference(
    tasks: Sequence[Answers], cell: int, other: int, *, seed: int, confidence: float = 0.95
) -> Interval:
    """Accuracy of one cell less that of another, as a mean over ``tasks``."""

    def figure(sums: Sequence[Table]) -> Vector:
        own = [
            (each[:, 1 + cell] - each[:, 1 + other]) / len(task.right)
            for task, each in zip(tasks, sums, strict=True)
        ]
        return np.asarray(np.mean(own, axis=0))

    return _drawn([t.right for t in tasks], figure, seed, confidence)


def mean_accuracy(tasks: Sequence[Answers], column: int, *, seed: int) -> Interval:
    """Mean accuracy over ``tasks``: of the dense model with 0, of cell n with n + 1."""

    def figure(sums: Sequence[Table]) -> Vector:
        pairs = zip(tasks, sums, strict=True)
        return np.asarray(np.mean([each[:, column] / len(t.right) for t, each in pairs], axis=0))

    return bootstrap([t.right for t in tasks], figure, seed=seed)


def excess(
    tasks: Sequence[Answers],
    others: Sequence[Answers],
    cell: int,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """How much larger a share a cell lost on ``tasks`` than on ``others``."""

    def figure(sums: Sequence[Table]) -> Vector:
        own, other = sums[: len(tasks)], sums[len(tasks) :]
        return np.asarray((family_lost(tasks, own) - family_lost(others, other))[:, cell])

    groups = [task.right for task in (*tasks, *others)]
    return _drawn(groups, figure, seed, confidence)


def excess_over_text(
    tasks: Sequence[Answers],
    cell: int,
    documents: Table,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """How much larger a share a cell lost on ``tasks`` than of the probability of text.

    Args:
        tasks: of one family.
        cell: which one.
        documents: per document the increase of its negative log-likelihood, in nats, and its
            tokens, [documents, 2].
        seed: of the bootstrap.
        confidence: of the interval.

    The share lost of a token's probability (its geometric mean) is
    1 - exp(-increase per token) = 1 - dense perplexity / sparse perplexity.
    """

    def figure(sums: Sequence[Table]) -> Vector:
        text = sums[-1]
        return np.asarray(
            family_lost(tasks, sums[:-1])[:, cell] + np.expm1(-text[:, 0] / text[:, 1])
        )

    groups = [*(task.right for task in tasks), documents]
    return _drawn(groups, figure, seed, confidence)


def correlation(tasks: Sequence[Answers], *, seed: int, confidence: float = 0.95) -> Interval:
    """Spearman's correlation of achieved sparsity with the share lost, over tasks and cells.

    Args:
        tasks: of one family, of one backbone or of several.  Levels of a task share its items,
            and an item is drawn for all of them; shares skipped are taken as known.
        seed: of the bootstrap over items.
        confidence: of the interval.
    """

    def figure(sums: Sequence[Table]) -> Table:
        pairs = zip(tasks, sums, strict=True)
        return np.concatenate([task.lost(each) for task, each in pairs], axis=1)

    return rank_correlation(
        [share for task in tasks for share in task.achieved],
        [task.right for task in tasks],
        figure,
        seed=seed,
        confidence=confidence,
    )


def _drawn(
    groups: Sequence[Table],
    figure: Callable[[Sequence[Table]], Vector],
    seed: int,
    confidence: float,
) -> Interval:
    """A bootstrap over items, without limits where no draw differs from another.

    If no item changed in the sample none does in a draw; that is no proof that none ever would.
    """
    found = bootstrap(groups, figure, seed=seed, confidence=confidence)
    if found.low < found.high:
        return found
    note = "no limits: no item changed, so that drawing items shows no spread"
    return replace(found, low=-math.inf, high=math.inf, detectable=math.inf, note=note)


def _share(lost: Table, beyond: Table) -> Table:
    """``lost`` over ``beyond``; NaN in a draw in which the dense model is not above chance.

    Rounded, or shares that are equal would differ in their last bit and be ranked.
    """
    return np.where(beyond > 0, np.round(lost / beyond, 12), np.nan)
