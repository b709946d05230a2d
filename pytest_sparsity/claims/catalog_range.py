"""Claim 5: how far a model can be compressed within a budget, with spontaneous neurons and without.

The compression ratio of activation sparsity is bits of all weights over bits of the weights that
are read for a token, 1 / (1 - skipped): what counts where memory traffic bounds decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pytest_sparsity.claims import claim, rules
from pytest_sparsity.claims.claim import Part, conclude
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.perplexity_claim import spon, teal
from pytest_sparsity.core.statistics import Interval, Table, Vector
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell, Configuration, on_text, product

BUDGET = 0.25  # relative increase of perplexity
LEVELS = (0.25, 0.4, 0.5)
FURTHER = 0.6  # where there are vectors for it
QUANTISED = ("int8", "int4")


def furthest(loss: Table, skipped: Vector, budget: float) -> Vector:
    """Share of weights skipped at which the loss reaches a budget, interpolated linearly.

    Args:
        loss: increase of log-perplexity, [draws, points], by rising sparsity.
        skipped: share of the weights skipped at each point, [points], rising from 0.
        budget: in nats.

    Returns:
        [draws]; infinite where the budget is not reached within the points, NaN where it is
        exceeded at the first.
    """
    found = np.full(len(loss), np.inf)
    for upper in range(loss.shape[1] - 1, 0, -1):  # the first crossing has the last word
        before, after = loss[:, upper - 1], loss[:, upper]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (budget - before) / (after - before)
        reached = skipped[upper - 1] + part * (skipped[upper] - skipped[upper - 1])
        found = np.where((before <= budget) & (after > budget), reached, found)
    return np.where(loss[:, 0] > budget, np.nan, found)


def range_ratio(with_spon: Vector, without: Vector, last: float) -> Vector:
    """Furthest compression ratio with spontaneous neurons over that without.

    A side that stays within its budget gets at least as far as the last point, which then stands
    for it, as it does for a side that is known to get further; if both do, nothing is known (NaN).

    Args:
        with_spon: shares of weights skipped, from :func:`furthest`.
        without: the same without spontaneous neurons.
        last: share of the weights skipped at the last point, of two that differ the lesser.
    """
    ratio = compression(with_spon, last) / compression(without, last)
    return np.where((with_spon >= last) & (without >= last), np.nan, ratio)


def compression(skipped: Vector, last: float) -> Vector:
    """Compression ratio at these shares of weights skipped, or at ``last`` if that is less."""
    return np.asarray(1 / (1 - np.minimum(skipped, last)))


class Range:
    """Claim 5: spontaneous neurons let a model be compressed further."""

    number = "5"
    sentence = "SPON extends the range in which a model can be compressed."
    definition = (
        "The furthest compression ratio, 1 / (1 - share of weights skipped), at which perplexity "
        f"is at most {BUDGET:.0%} above the dense model's: that of TEAL with trained spontaneous "
        "neurons over that of TEAL alone. Between the levels that are measured, skipped weights "
        "are interpolated linearly in log-perplexity. Beside, in the full profile: the same with "
        "int8 and int4 weights, over the bits of the weights as loaded."
    )
    rule = (
        "Supported if the ratio of the two is above 1 on every corpus, refuted if it is not on "
        "one; intervals from a bootstrap over documents, the same draw for all levels. Where "
        "only one stays within the budget up to the last level, that level stands for it; where "
        "both do, the data do not decide."
    )

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """Every cell that is needed, and those that are measured if there are vectors."""
        sparse = [make(model, level) for level in (*LEVELS, FURTHER) for make in (teal, spon)]
        quantised = [c for weights in _quantised(settings) for c in _points(model, LEVELS, weights)]
        needed = [Configuration(model), *sparse, *quantised]
        return product(needed, map(on_text, settings.corpora))

    def decide(self, evidence: Evidence) -> Finding:
        """Compare how far the model can be compressed with and without them, on every corpus.

        Raises:
            CannotTest: a cell cannot be measured.
            BrokenEvidence: what was measured contradicts itself.
        """
        corpora = evidence.settings.corpora
        evidence.need_vectors(spon(evidence.model, level) for level in LEVELS)
        evidence.share_out(self.cells(evidence.model, evidence.settings))
        confidence = rules.confidence(len(corpora))
        parts = [part for c in corpora for part in self._on(evidence, c, confidence)]
        for weights in _quantised(evidence.settings):
            parts += [p for c in corpora for p in self._with(evidence, c, weights)]
        return conclude(self.number, evidence, parts, {"budget": BUDGET})

    def _on(self, evidence: Evidence, corpus: str, confidence: float) -> list[Part]:
        model = evidence.model
        more = evidence.has(Cell(spon(model, FURTHER), on_text(corpus)))
        levels = (*LEVELS, FURTHER) if more else LEVELS
        on, off = ([Configuration(model), *(f(model, x) for x in levels)] for f in (spon, teal))
        skipped_on, skipped_off = (_skipped(evidence, points, corpus) for points in (on, off))
        last = min(float(skipped_on[-1]), float(skipped_off[-1]))
        losses = evidence.losses(corpus, [*on, *off], confidence)

        def shares(table: Table) -> tuple[Vector, Vector]:
            loss = table - table[:, :1]  # the first column is the dense model's, twice
            budget = math.log1p(BUDGET)
            return (
                furthest(loss[:, : len(on)], skipped_on, budget),
                furthest(loss[:, len(on) :], skipped_off, budget),
            )

        def figure(statistic: Callable[[Table], Vector]) -> Interval:
            return losses.figure([*on, *off], statistic)

        ratio = figure(lambda table: range_ratio(*shares(table), last))
        with_spon = figure(lambda table: compression(shares(table)[0], last))
        without = figure(lambda table: compression(shares(table)[1], last))
        return [
            claim.above(f"ratio of the furthest compressions on {corpus}", ratio, "times", 1),
            _reached(f"furthest compression with SPON on {corpus}", with_spon, 1 / (1 - last)),
            _reached(f"furthest compression by TEAL alone on {corpus}", without, 1 / (1 - last)),
        ]

    def _with(self, evidence: Evidence, corpus: str, weights: str) -> list[Part]:
        """Furthest compression of quantised weights with spontaneous neurons, if there are any."""
        model = evidence.model
        dense, *sparse = _points(model, LEVELS, weights)
        there = [c for c in sparse if evidence.has(Cell(c, on_text(corpus)))]
        if not there:
            return []
        columns = [Configuration(model), dense, *there]
        losses = evidence.losses(corpus, columns)
        skipped = _skipped(evidence, columns[1:], corpus)
        bits = evidence.record(Cell(dense, on_text(corpus))).measured["compression"]["bits"]
        fewer = 8 * evidence.session.models.load(model).dtype.itemsize / bits

        last = float(skipped[-1])

        def statistic(table: Table) -> Vector:
            loss = table[:, 1:] - table[:, :1]
            share = furthest(loss, skipped, math.log1p(BUDGET))
            return np.asarray(fewer * compression(share, last))

        label = f"furthest compression with {weights} and SPON on {corpus}"
        return [_reached(label, losses.figure(columns, statistic), fewer / (1 - last))]


def _reached(label: str, compressed: Interval, most: float) -> Part:
    """A furthest compression; if it is that of the last point, it is at least so much."""
    if math.isnan(compressed.estimate):
        note = "beyond the budget before anything is skipped"
        return claim.beside(label, replace(compressed, note=note), "times")
    censored = math.isclose(compressed.estimate, most)
    return claim.beside(f"{label}, at least" if censored else label, compressed, "times")


def _quantised(settings: Settings) -> Sequence[str]:
    return QUANTISED if settings.profile == "full" else ()


def _points(model: str, levels: Sequence[float], weights: str) -> list[Configuration]:
    return [Configuration(model, weights=weights), *(spon(model, x, weights) for x in levels)]


def _skipped(evidence: Evidence, points: Sequence[Configuration], corpus: str) -> Vector:
    """Share of weights skipped: 0 at the first point, which is dense."""
    rest = [
        evidence.record(Cell(c, on_text(corpus))).measured["achieved"]["weighted"]
        for c in points[1:]
    ]
    return np.array([0.0, *rest])
