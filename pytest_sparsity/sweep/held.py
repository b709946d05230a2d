"""Which of many comparisons hold for the run, once all of them are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.statistics.family import adjusted
from pytest_sparsity.sweep.regression import AccuracyComparison
from pytest_sparsity.sweep.sample_changes import SampleComparison

Compared = TypeVar("Compared", AccuracyComparison, SampleComparison)


def held_for_run(found: Sequence[Compared], *, error: float, seed: int) -> list[Compared]:
    """The comparisons, each regressed one with its p for the run; those above ``error`` suspect.

    Args:
        found: all comparisons of the run, those that are fine among them.
        error: chance that a run in which nothing is worse has one that is regressed.
        seed: of the joint draws of documents and items.
    """
    evidence = [each.evidence for each in found if each.evidence is not None]
    p = adjusted(evidence, seed=seed)
    return [
        each if each.evidence is None else _held(each, p[each.evidence.id], error, len(evidence))
        for each in found
    ]


def _held(one: Compared, p: float, error: float, decisions: int) -> Compared:
    if one.decision is not Decision.REGRESSED:
        return one
    if p <= error:
        return replace(one, reason=f"{one.reason}; holds for the run, p = {p:.2g}")
    reason = (
        f"{one.reason}; worse by itself, as one of {decisions} decisions may be by chance "
        f"(p = {p:.2g} for the run, regressed is at most {error:g})"
    )
    return replace(one, decision=Decision.SUSPECT, reason=reason)
