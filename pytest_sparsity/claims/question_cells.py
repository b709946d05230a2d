"""What the parts of the question measure, and how it is read from the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.question_answers import Answers
from pytest_sparsity.core.statistics import Interval, Table, paired_mean
from pytest_sparsity.settings.settings import QUICK_TASKS, Settings
from pytest_sparsity.sweep.cell import GENERATION, TASK, Cell, Configuration, on_text
from pytest_sparsity.sweep.metric import NOT_NEGATIVE

#: Thresholds on the inputs of all layers, and PowerInfer: neurons whose predicted score is below
#: one threshold.
METHODS = ("teal", "powerinfer")
#: The other rule by which neurons are predicted, shown beside: so many per layer and token.
BESIDE = ("deja_vu",)
#: Where one level is compared.
LEVEL = 0.5
#: Two tasks of every family; which are evidence depends on the dense model.
EVALUATIONS = tuple(f"{TASK}:{name}" for name in QUICK_TASKS)

_LEVELS = (0.25, 0.4, 0.5)


def levels(settings: Settings) -> tuple[float, ...]:
    """The levels over which damage is correlated with sparsity."""
    return (*_LEVELS, 0.6) if settings.profile == "full" else _LEVELS


def text_of(settings: Settings) -> str:
    """The corpus that tasks are compared with: the first one."""
    return settings.corpora[0]


def achieved(evidence: Evidence, configuration: Configuration) -> float:
    """Share of the model's weights that a configuration skips on the first corpus."""
    cell = Cell(configuration, on_text(text_of(evidence.settings)))
    return float(evidence.record(cell).measured["achieved"]["weighted"])


def answered(
    evidence: Evidence, configurations: Sequence[Configuration], evaluations: Iterable[str]
) -> list[Answers]:
    """The answers of sparse configurations to every task, beside the dense model's."""
    shares = [achieved(evidence, configuration) for configuration in configurations]
    dense = Configuration(evidence.model)
    return [
        Answers.of(
            evidence.record(Cell(dense, evaluation)),
            [evidence.record(Cell(c, evaluation)) for c in configurations],
            shares,
            evidence.settings.sizes.items,
        )
        for evaluation in evaluations
    ]


def documents_of(evidence: Evidence, configuration: Configuration, corpus: str) -> Table:
    """Per document the increase of its negative log-likelihood and its tokens, [documents, 2]."""
    dense = Configuration(evidence.model)
    losses = evidence.losses(corpus, [dense, configuration])
    return np.column_stack([losses.nll[configuration] - losses.nll[dense], losses.tokens])


def divergence(
    evidence: Evidence,
    configuration: Configuration,
    corpus: str,
    less: Configuration | None = None,
    confidence: float = 0.95,
) -> Interval:
    """KL(dense || configuration) per token, in nats; if asked, less that of another."""
    units = evidence.settings.sizes.documents
    own = evidence.record(Cell(configuration, on_text(corpus))).units[:units]
    values = np.array([document["kl"] for document in own])
    if less is not None:
        other = evidence.record(Cell(less, on_text(corpus))).units[:units]
        values = values - np.array([document["kl"] for document in other])
    tokens = [float(document["tokens"]) for document in own]
    return paired_mean(
        values,
        tokens,
        seed=evidence.settings.seed,
        confidence=confidence,
        bounds=NOT_NEGATIVE if less is None else None,
    )


def greedy_steps(evidence: Evidence, configuration: Configuration) -> Interval:
    """Tokens that a configuration generates before the first one that dense would not."""
    cell = Cell(configuration, GENERATION)
    prompts = evidence.record(cell).units[: cell.units(evidence.settings.sizes)]
    steps = [
        float(p["tokens"] if p["first_divergence"] is None else p["first_divergence"])
        for p in prompts
    ]
    longest = max(1, *(p["tokens"] for p in prompts))
    return paired_mean(steps, seed=evidence.settings.seed, bounds=(0, longest))


def text_lost(increase: Interval) -> Interval:
    """Share lost of the probability of a token, from the increase of log-perplexity."""
    return replace(
        increase,
        estimate=-math.expm1(-increase.estimate),
        low=-math.expm1(-increase.low),
        high=-math.expm1(-increase.high),
        detectable=math.nan,
    )


def sources(evidence: Evidence, evaluations: Iterable[str]) -> list[dict[str, str]]:
    """Where the items of evaluations of tasks come from, as plain data."""
    tasks = (evidence.session.texts.task(e.partition(":")[2]) for e in evaluations)
    return [{"task": t.name, "licence": t.licence, "hash": t.hash[:16]} for t in tasks]


def value(interval: Interval) -> dict[str, Any]:
    """A value with its limits as plain data; None where there is none."""
    found = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    plain: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in found.items()}
    return {**plain, "n": interval.n}


def text_damage(evidence: Evidence, configuration: Configuration) -> dict[str, Any]:
    """What a configuration costs on text and when it generates, as plain data."""
    corpus = text_of(evidence.settings)
    dense = Configuration(evidence.model)
    increase = evidence.losses(corpus, [dense, configuration]).increase(configuration, dense)
    return {
        "method": configuration.method,
        "level": configuration.level,
        "achieved": achieved(evidence, configuration),
        "corpus": corpus,
        "increase": value(increase),
        "lost": value(text_lost(increase)),
        "kl": value(divergence(evidence, configuration, corpus)),
        "greedy": value(greedy_steps(evidence, configuration)),
    }
