"""Does reasoning suffer from sparsity, and before anything else does?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pytest_sparsity.claims import question_answers as answers
from pytest_sparsity.claims import rules
from pytest_sparsity.claims.claim import Part, above, beside, conclude, untestable
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.question_answers import FAMILIES, Answers
from pytest_sparsity.claims.question_cells import (
    BESIDE,
    EVALUATIONS,
    LEVEL,
    METHODS,
    answered,
    divergence,
    documents_of,
    greedy_steps,
    levels,
    sources,
    text_damage,
    text_of,
    value,
)
from pytest_sparsity.core.statistics import paired_mean, paired_ratio
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    EXACT_MATCH,
    GENERATION,
    Cell,
    Configuration,
    on_text,
    product,
)
from pytest_sparsity.sweep.metric import NOT_NEGATIVE, paired

REASONING, *OTHERS = FAMILIES
#: Divergence on chains of thought needs no right answers, so the harder task will do.
CHAINS = f"{DIVERGENCE}:gsm8k"
#: The answer's likelihood after a chain that is given.
AFTER_CHAIN = f"{ANSWER_LIKELIHOOD}:chain_sums"
#: Generated with its chain of thought; the one of the bundled tasks that small models can do.
GENERATED = f"{EXACT_MATCH}:chain_handover"


class SparsityReasoning:
    """Part of the question: does more sparsity cost more reasoning?"""

    number = "sparsity-reasoning"
    sentence = "The more of a model is skipped, the more of its reasoning is lost."
    definition = (
        "Spearman's rank correlation between the share of weights really skipped and the share "
        "lost of the accuracy beyond guessing, over the reasoning tasks and levels of a method; "
        "interval over all orders of these cells that the data do not rule out, their joint error "
        "by a bootstrap over items, drawn together for all levels. Methods: "
        f"{', '.join(METHODS)} (PowerInfer's rule, one threshold on the scores of all layers; its "
        f"level is the mean share of neurons); beside, deciding nothing, {', '.join(BESIDE)} (Deja "
        "Vu's rule, the same number of neurons in every layer and at every token). Tasks "
        "at which the dense model is at chance are refused. Knowledge and language tasks are "
        "reported beside, and KL and greedy text, because multiple choice can stay flat while "
        "text is garbage."
    )
    rule = (
        f"Supported if the {100 * rules.confidence(len(METHODS)):g} % interval is above 0 for "
        "every method; refuted if it is at or below 0 for one."
    )

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """Text, tasks and greedy text of every method and level."""
        sparse = [
            Configuration(model, m, level)
            for m in (*METHODS, *BESIDE)
            for level in levels(settings)
        ]
        text = on_text(text_of(settings))
        return [
            *product([Configuration(model), *sparse], [text, *EVALUATIONS]),
            *product(sparse, [GENERATION]),
        ]

    def decide(self, evidence: Evidence) -> Finding:
        """Correlate sparsity with the share lost, per method and family of tasks."""
        evidence.share_out(self.cells(evidence.model, evidence.settings))
        parts: list[Part] = []
        damage: list[dict[str, Any]] = []
        found: dict[str, list[Answers]] = {}
        for method in (*METHODS, *BESIDE):
            sparse = _sparse(evidence, method)
            found[method] = answered(evidence, sparse, EVALUATIONS)
            parts += _correlations(evidence, method, found[method])
            damage += [text_damage(evidence, configuration) for configuration in sparse]
            parts += _alarms(evidence, Configuration(evidence.model, method, LEVEL))
        data = {
            "text": damage,
            "lost": [p for m, tasks in found.items() for p in _points(evidence, m, tasks)],
            "answers": {m: [task.to_json() for task in tasks] for m, tasks in found.items()},
            "sources": sources(evidence, EVALUATIONS),
        }
        return conclude(self.number, evidence, parts, data)


class ReasoningFirst:
    """Part of the question: does reasoning suffer before everything else does?"""

    number = "reasoning-first"
    sentence = (
        "Reasoning suffers first: at equal sparsity it loses more than knowledge, language and "
        "perplexity do."
    )
    definition = (
        f"TEAL at level {LEVEL:g}. The share lost of the right answers beyond guessing, over the "
        "tasks of a family: reasoning less knowledge, reasoning less language. Of text, the share "
        "lost of a token's probability, 1 - dense perplexity / sparse perplexity: reasoning less "
        "text. Beside, deciding nothing: KL(dense || sparse) per token of chains of thought "
        "(GSM8K) over that of prose at the same positions (chains follow worked examples and are "
        "easier to predict, which alone lowers this ratio), other levels, PowerInfer's rule and "
        "answers that are generated."
    )
    rule = (
        f"Supported if the {100 * rules.confidence(3):.4g} % intervals of the three differences "
        "are above 0; refuted if one is at or below."
    )

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """Text and tasks at one level, and chains of thought."""
        dense, teal = Configuration(model), Configuration(model, METHODS[0], LEVEL)
        sparse = [Configuration(model, m, level) for m in METHODS for level in levels(settings)]
        text = on_text(text_of(settings))
        return [
            *product([dense, *sparse], [text, *EVALUATIONS]),
            *product([dense, teal], [AFTER_CHAIN]),
            Cell(teal, CHAINS),
            *(product(_generating(model), [GENERATED]) if _generates(settings) else []),
        ]

    def decide(self, evidence: Evidence) -> Finding:
        """Compare what reasoning lost with what knowledge, language and text lost."""
        evidence.share_out(self.cells(evidence.model, evidence.settings))
        model, seed = evidence.model, evidence.settings.seed
        teal = Configuration(model, METHODS[0], LEVEL)
        parts = [
            *_leads(evidence, METHODS[0], LEVEL, rules.confidence(3)),
            _chains(evidence, teal),
            *(
                part
                for method in METHODS
                for level in levels(evidence.settings)
                if (method, level) != (METHODS[0], LEVEL)
                for part in _reported(_leads(evidence, method, level, 0.95))
            ),
            _after_chain(evidence, teal),
        ]
        data: dict[str, Any] = {"sources": sources(evidence, (CHAINS, AFTER_CHAIN))}
        if _generates(evidence.settings):
            configurations = _generating(model)[1:]
            (task,) = answered(evidence, configurations, [GENERATED])
            data["generated"] = task.to_json()
            data["sources"] += sources(evidence, [GENERATED])
            parts += [
                beside(
                    f"{c.method} {c.level:g}: share of right generated answers lost ({task.task})",
                    # Of all right answers: a text that holds no answer is wrong, and no guess.
                    answers.lost_share([replace(task, chance=0.0)], cell, seed=seed),
                    "share",
                )
                for cell, c in enumerate(configurations)
                if not task.refused
            ]
        return conclude(self.number, evidence, parts, data)


def _sparse(evidence: Evidence, method: str) -> list[Configuration]:
    return [Configuration(evidence.model, method, level) for level in levels(evidence.settings)]


def _generates(settings: Settings) -> bool:
    """Generating takes minutes per configuration; the other profiles leave it to ``full``."""
    return settings.profile == "full"


def _generating(model: str) -> list[Configuration]:
    return [Configuration(model), *(Configuration(model, method, LEVEL) for method in METHODS)]


def _correlations(evidence: Evidence, method: str, tasks: Sequence[Answers]) -> list[Part]:
    """By family; that of reasoning decides."""
    parts = []
    for family in FAMILIES:
        own = answers.usable(tasks, family)
        decides = family == REASONING and method in METHODS
        if not own:
            if decides:
                parts.append(untestable(_refused(tasks)))
            continue
        confidence = rules.confidence(len(METHODS)) if decides else 0.95
        found = answers.correlation(own, seed=evidence.settings.seed, confidence=confidence)
        label = f"{method}: sparsity against loss, {family} ({', '.join(t.task for t in own)})"
        part = above(label, found, "correlation", 0.0)
        parts += [part] if decides else _reported([part])
    return parts


def _refused(tasks: Sequence[Answers]) -> str:
    """Why nothing can be said about reasoning."""
    why = "; ".join(f"{t.task}: {t.refused}" for t in tasks if t.family == REASONING)
    return f"no reasoning task is evidence on this model ({why})"


def _alarms(evidence: Evidence, configuration: Configuration) -> list[Part]:
    """What shows damage that multiple choice may not."""
    corpus, name = text_of(evidence.settings), f"{configuration.method} {configuration.level:g}"
    steps = evidence.settings.sizes.new_tokens
    return [
        beside(
            f"{name}: KL from dense on {corpus}",
            divergence(evidence, configuration, corpus),
            "nats",
        ),
        beside(
            f"{name}: greedy tokens of {steps} before the text leaves dense's",
            greedy_steps(evidence, configuration),
            "count",
        ),
    ]


def _points(evidence: Evidence, method: str, tasks: Sequence[Answers]) -> list[dict[str, Any]]:
    """Share lost by family and level, for the figure."""
    return [
        {
            "method": method,
            "level": level,
            "achieved": own[0].achieved[cell],
            "family": family,
            "tasks": [task.task for task in own],
            "lost": value(answers.lost_share(own, cell, seed=evidence.settings.seed)),
        }
        for family in FAMILIES
        if (own := answers.usable(tasks, family))
        for cell, level in enumerate(levels(evidence.settings))
    ]


def _leads(evidence: Evidence, method: str, level: float, confidence: float) -> list[Part]:
    """What reasoning loses beyond knowledge, language and text."""
    seed = evidence.settings.seed
    configuration = Configuration(evidence.model, method, level)
    tasks = answered(evidence, [configuration], EVALUATIONS)
    reasoning = answers.usable(tasks, REASONING)
    name, parts = f"{method} {level:g}: share of reasoning lost", []
    if not reasoning:
        return [untestable(_refused(tasks))]
    for family in OTHERS:
        others = answers.usable(tasks, family)
        if not others:
            parts.append(untestable(f"no {family} task is evidence on this model"))
            continue
        more = answers.excess(reasoning, others, 0, seed=seed, confidence=confidence)
        parts.append(above(f"{name}, less {family}", more, "points", 0.0))
    corpus = text_of(evidence.settings)
    documents = documents_of(evidence, configuration, corpus)
    more = answers.excess_over_text(reasoning, 0, documents, seed=seed, confidence=confidence)
    return [*parts, above(f"{name}, less text ({corpus})", more, "points", 0.0)]


def _chains(evidence: Evidence, configuration: Configuration) -> Part:
    """KL on chains of thought over KL on prose at the same positions."""
    cell = Cell(configuration, CHAINS)
    units = evidence.record(cell).units[: cell.units(evidence.settings.sizes)]
    sums = [[unit[part]["kl"] for unit in units] for part in ("reasoning", "prose")]
    ratio = paired_ratio(*sums, seed=evidence.settings.seed, bounds=NOT_NEGATIVE)
    name = f"{configuration.method} {configuration.level:g}"
    return beside(f"{name}: KL on chains of thought over KL on prose", ratio, "times")


def _after_chain(evidence: Evidence, configuration: Configuration) -> Part:
    """What the right answer loses after a chain of thought that is given."""
    cell = Cell(configuration, AFTER_CHAIN)
    dense, sparse = evidence.record(cell.dense), evidence.record(cell)
    pairs = paired(dense, sparse)[: cell.units(evidence.settings.sizes)]
    change = paired_mean(
        [before["answer"] - after["answer"] for before, after in pairs],
        [float(before["answer_tokens"]) for before, _ in pairs],
        seed=evidence.settings.seed,
    )
    name = f"{configuration.method} {configuration.level:g}"
    task = AFTER_CHAIN.partition(":")[2]
    label = f"{name}: log-perplexity of the answer after its reference chain ({task})"
    return beside(label, change, "nats")


def _reported(parts: Iterable[Part]) -> list[Part]:
    """The same figures as parts that decide nothing."""
    effects = (part.effect for part in parts if part.effect is not None)
    return [beside(effect.label, effect.interval, effect.unit) for effect in effects]
