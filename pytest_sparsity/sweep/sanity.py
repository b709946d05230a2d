"""Checks of the measurement itself, which every sweep makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from pytest_sparsity.evaluation.perplexity import score_documents
from pytest_sparsity.methods.attach import AchievedSparsity, sparsify
from pytest_sparsity.methods.levels import has_level
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.reads import Kept, observe_kept
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.sweep.budgets import Budget
from pytest_sparsity.sweep.cell import Cell, Configuration, on_text
from pytest_sparsity.sweep.comparison import compare, perplexity_change
from pytest_sparsity.sweep.grid import levels_of
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession
from pytest_sparsity.sweep.verdict import Verdict, judge

#: What a broken model must exceed where the thresholds name no budget: doubled perplexity.
DOUBLED = 1.0

_BROKEN = "broken"


def changed_at_level_zero(session: SweepSession, model: LanguageModel) -> list[str]:
    """Documents on which the model at level 0 is not bit for bit the dense one.

    The last hidden states are compared: the logits are a function of them.
    """
    plan = Plan("threshold", 0.0, {site.name: Threshold(0.0) for site in model.sites})
    documents = session.texts.windows(model.name, session.settings.corpora[0])[:4]
    dense = [hidden_states(model, document.tokens) for document in documents]
    twin = model.twin()
    with sparsify(twin, plan):
        sparse = [hidden_states(twin, document.tokens) for document in documents]
    return [
        document.id
        for document, a, b in zip(documents, dense, sparse, strict=True)
        if not torch.equal(a, b)
    ]


class _Rolled:
    """A deliberate bug: every channel gets its neighbour's activation."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, 1, -1)


def verdicts_on_broken(session: SweepSession, model: LanguageModel) -> list[Verdict]:
    """Verdicts on a model whose down projections, or all sites without them, read one off.

    It is held against every perplexity budget of the model on the first corpus or, if
    there is none, against doubled perplexity.  A verdict other than fail means that the
    budget, or the measurement, would let anything pass.
    """
    corpus = session.settings.corpora[0]
    dense = session.record(Cell(Configuration(model.name), on_text(corpus)))
    broken, roll = model.twin(), _Rolled()
    downs = [site for site in model.sites if site.kind == "down"]
    plan = Plan(_BROKEN, 0.0, {site.name: roll for site in downs or model.sites})
    documents = session.texts.windows(model.name, corpus)[: len(dense.units)]
    with sparsify(broken, plan):
        units = score_documents(broken, documents)
    cell = Cell(Configuration(model.name, _BROKEN), dense.cell.evaluation)
    record = Record(cell, {}, {"documents": units}, {}, dense.when)
    metrics = compare(record, dense, None, seed=session.settings.seed)
    change = next(c for c in metrics if c.metric == dense.cell.evaluation)
    budgets = [
        budget
        for budget in session.budgets
        if budget.configuration.model == model.name and budget.metric == change.metric
    ]
    doubled = Budget(cell.configuration, change.metric, DOUBLED, False, "the sanity check")
    return [judge(change, budget) for budget in budgets or [doubled]]


def better_when_sparser(session: SweepSession, model: str) -> list[str]:
    """Pairs of neighbouring levels of which the sparser is significantly better."""
    found = []
    for evaluation in map(on_text, session.settings.corpora):
        for ladder in _ladders(session, model):
            for low, high in itertools.pairwise(ladder):
                change = perplexity_change(
                    session.record(Cell(high, evaluation)),
                    session.record(Cell(low, evaluation)),
                    seed=session.settings.seed,
                )
                if change.high < 0:
                    found.append(f"{high.id} has {change:+.1%} of {low.id}'s {evaluation}")
    return found


def _ladders(session: SweepSession, model: str) -> Iterator[list[Configuration]]:
    """Per weights and method, its configurations without SPON by rising level, from dense."""
    for weights in session.settings.weights:
        for method in session.settings.methods:
            levels = sorted(levels_of(session.settings, method))
            dense = Configuration(model, weights=weights)
            yield [dense, *(replace(dense, method=method, level=level) for level in levels)]


def sparse_configurations(session: SweepSession, model: str) -> list[Configuration]:
    """The sparse configurations of a model that have a level, without spontaneous neurons."""
    ladders = _ladders(session, model)
    return [c for ladder in ladders for c in ladder[1:] if has_level(c.method)]


@dataclass(frozen=True)
class Dropped:
    """What a plan dropped, as fractions of the model's weights.

    Attributes:
        achieved: really dropped.
        asked: what the method was to drop: the targets of its sites, weighted by the weights
            that each saves, or the natural zeros where there are more of them.
        over: how much more may be dropped: natural zeros among what an exact count keeps.
        exact: whether the method drops exact counts.
    """

    achieved: float
    asked: float
    over: float
    exact: bool

    def within(self, points: float) -> bool:
        """Whether ``achieved`` is what was asked for, or within ``points`` for thresholds."""
        room = 1e-9 if self.exact else points
        return self.asked - room <= self.achieved <= self.asked + self.over + room


def dropped_when_dense(session: SweepSession, configuration: Configuration) -> Dropped:
    """What a configuration's selectors drop of the dense activations.

    It is measured on held-out text of the first evaluation corpus, and says whether the
    calibration holds there.  In the sparse model itself activations are smaller than in
    the dense one, since every layer's input has lost something, so that thresholds from
    dense activations drop more than they were asked to (see :func:`dropped_when_sparse`).

    A threshold's target below the rate of natural zeros, as after ReLU, is a plateau: the
    zeros are dropped, all of them, and that is what is asked.
    """
    plan = session.plans.plan(configuration)
    model = session.weights.model(configuration.model, configuration.weights)
    documents = session.texts.windows(model.name, session.settings.corpora[0])
    first = documents[: session.settings.sizes.documents]
    totals = {site: torch.zeros(3, dtype=torch.int64) for site in plan.sparse_sites}

    def visit(site: str, found: Kept) -> torch.Tensor:
        zeros = found.read.numel() - int(torch.count_nonzero(found.read))
        return torch.tensor([found.dropped, found.x.numel(), zeros])

    for found in observe_kept(model, plan, [document.tokens for document in first], visit):
        for site, counted in found.items():
            totals[site] += counted
    achieved, asked, over = (AchievedSparsity(model.sites, plan.skipped_sites) for _ in range(3))
    for site, counts in totals.items():
        dropped, seen, zeros = map(int, counts)
        target = round(plan.target(site) * seen)
        for saved in plan.saved_by(site):
            achieved.add(saved, dropped, seen)
            asked.add(saved, target if plan.exact else max(target, zeros), seen)
            over.add(saved, zeros if plan.exact and site in plan.selectors else 0, seen)
    return Dropped(achieved.weighted, asked.weighted, over.weighted, plan.exact)


def dropped_when_sparse(session: SweepSession, configuration: Configuration) -> float:
    """Fraction of the model's weights that a configuration really skips, on the first corpus."""
    cell = Cell(configuration, on_text(session.settings.corpora[0]))
    return float(session.record(cell).measured["achieved"]["weighted"])
