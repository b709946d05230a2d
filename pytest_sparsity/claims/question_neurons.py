"""Hot and cold neurons: what it costs to keep only some of them, the same number every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_sparsity.claims import question_answers as answers
from pytest_sparsity.claims import rules
from pytest_sparsity.claims.claim import Part, above, below, beside, conclude, untestable
from pytest_sparsity.claims.evidence import BrokenEvidence, Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.question_answers import FAMILIES, Answers
from pytest_sparsity.claims.question_cells import (
    EVALUATIONS,
    LEVEL,
    achieved,
    answered,
    divergence,
    text_damage,
    text_of,
    value,
)
from pytest_sparsity.core.files import locked
from pytest_sparsity.methods.neurons.report import (
    FILE,
    NeuronReport,
    read_reports,
    write_reports,
)
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import GENERATION, Cell, Configuration, on_text, product
from pytest_sparsity.sweep.neurons import neuron_reports

COLD, RANDOM, HOT, SKIP = "cold_only", "random_neurons", "hot_only", "powerinfer"
#: From the most to the least harmful by PowerInfer's premise; then what is shown beside: Deja
#: Vu's rule, and PowerInfer's with every neuron's contribution known.
METHODS = (COLD, RANDOM, HOT, SKIP, "deja_vu", "contribution")
#: The same sets chosen over the whole model, as PowerInfer's rule chooses, on text only.
MODEL_WIDE = tuple(f"{method}:model" for method in (COLD, RANDOM, HOT))
#: How far the shares of all weights that are skipped may be apart, where one is a mean: that of a
#: threshold is another on every text (relu-4m skips 34.3 % on austen where 36.4 % was asked for).
MATCHED = 0.03
#: Metrics that decide, per corpus, against each of the three others; and one on tasks.
_DECIDING = 3
_REASONING = EVALUATIONS[:2]
#: Documents per corpus on which the choice of neurons is looked at.
_DOCUMENTS = 8


class HotCold:
    """Keeping the cold neurons costs most."""

    number = "hot-cold"
    sentence = (
        "A model that is pruned to its cold neurons loses more than one pruned to hot or to "
        "random ones, and more than one that skips neurons as PowerInfer does."
    )
    definition = (
        f"{100 * LEVEL:g} % of the neurons of the feed-forward blocks are left out: for good, the "
        "same number in every layer, the most often active ones (cold_only), random ones or the "
        "least often active ones (hot_only); or, token by token, those whose predicted score is "
        "below one threshold, which all layers share and which skips that share on average "
        f"(powerinfer). Shares of weights skipped are within {100 * MATCHED:g} points of each "
        "other. PowerInfer prunes neither hot nor cold neurons: only powerinfer is its rule, the "
        "others are ablations of ours; beside, deciding nothing, Deja Vu's rule (a fixed number "
        "per layer and token), one threshold on what neurons contribute as if it were known, and "
        "the three sets chosen over the whole model. An active neuron is one whose activation "
        "is not 0 after ReLU, else one of the largest that hold 96 % of a token's energy; only "
        "with ReLU is leaving out inactive neurons lossless, and only up to the share that is "
        "naturally 0."
    )
    rule = (
        "Supported if cold_only has the higher log-perplexity and the larger KL from dense than "
        "each of the three others on every corpus, and answers fewer reasoning questions than "
        "powerinfer; refuted if one of these is reversed. Intervals are corrected for their number "
        "(Bonferroni)."
    )

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """Text, reasoning and greedy text of every way to choose neurons."""
        text, kept = [*map(on_text, settings.corpora)], _all(model).values()
        return [
            *product([Configuration(model), *kept], [*text, *_REASONING]),
            *product(kept, [GENERATION]),
            *product(_model_wide(model), text),
        ]

    def decide(self, evidence: Evidence) -> Finding:
        """Compare, and store what is known of the neurons."""
        found = _all(evidence.model)
        evidence.share_out(self.cells(evidence.model, evidence.settings))
        _check_matched(evidence, found[COLD], [found[RANDOM], found[HOT]], 1e-6)
        _check_matched(evidence, found[COLD], [found[SKIP]], MATCHED)
        corpora = evidence.settings.corpora
        confidence = rules.confidence(2 * _DECIDING * len(corpora) + 1)
        tasks = answered(evidence, list(found.values()), _REASONING)
        usable = answers.usable(tasks, FAMILIES[0])
        parts = [
            *(part for corpus in corpora for part in _on_text(evidence, corpus, confidence)),
            *_on_tasks(evidence, usable, confidence),
        ]
        reports = keep_reports(evidence)
        data = {
            "methods": [_method(evidence, c, n, usable) for n, c in enumerate(found.values())],
            "dense": _dense(evidence, usable),
            "tasks": [task.to_json() for task in tasks],
            "neurons": [_summary(report) for report in reports],
        }
        return conclude(self.number, evidence, parts, data)


def keep_reports(evidence: Evidence) -> list[NeuronReport]:
    """The reports of the model's neurons in the report folder, made if one is missing.

    Raises:
        CannotTest: they cannot be made.
    """
    session, model, settings = evidence.session, evidence.model, evidence.settings
    path = settings.report / FILE
    texts = [
        session.texts.calibration_corpus,
        *map(session.texts.evaluation_corpus, settings.corpora),
    ]
    lock = locked(settings.report / ".locks" / "neurons.lock")
    with evidence.needing(f"the neurons of {model}"), lock:
        loaded = session.models.load(model)
        known = {
            report.corpus_hash: report
            for report in read_reports(path)
            if (report.model, report.weights) == (model, loaded.weights_hash)
            and report.prefill == session.calibrations.prefill.name
            and report.dtype == str(loaded.dtype).removeprefix("torch.")
        }
        if not all(text.hash in known for text in texts):
            found = neuron_reports(session, model, LEVEL, _DOCUMENTS)
            write_reports(path, found)
            known = {report.corpus_hash: report for report in found}
    return [known[text.hash] for text in texts]


def _all(model: str) -> dict[str, Configuration]:
    return {method: Configuration(model, method, LEVEL) for method in METHODS}


def _model_wide(model: str) -> list[Configuration]:
    return [Configuration(model, method, LEVEL) for method in MODEL_WIDE]


def _check_matched(
    evidence: Evidence, cold: Configuration, others: Sequence[Configuration], within: float
) -> None:
    """All skip the same share of the weights, or they cannot be compared."""
    expected = achieved(evidence, cold)
    for other in others:
        share = achieved(evidence, other)
        if abs(share - expected) > within:
            raise BrokenEvidence(
                f"{other.id} skips {share:.4%} of the weights and {cold.id} {expected:.4%}"
            )


def _on_text(evidence: Evidence, corpus: str, confidence: float) -> list[Part]:
    """Log-perplexity and KL of cold_only less those of the others; and the others' order."""
    found = _all(evidence.model)
    dense, cold = Configuration(evidence.model), found[COLD]
    wide = _model_wide(evidence.model)
    losses = evidence.losses(corpus, [dense, *found.values(), *wide], confidence)
    parts = []
    for method in (RANDOM, HOT, SKIP):
        other = found[method]
        name = f"{COLD} less {method} on {corpus}"
        parts.append(above(f"log-perplexity, {name}", losses.increase(cold, other), "nats", 0.0))
        more = divergence(evidence, cold, corpus, other, confidence)
        parts.append(above(f"KL from dense, {name}", more, "nats", 0.0))
    for one, other in ((found[RANDOM], found[HOT]), (found[HOT], found[SKIP])):
        name = f"log-perplexity, {one.method} less {other.method} on {corpus}"
        parts.append(beside(name, losses.increase(one, other), "nats"))
    for configuration in (*(found[method] for method in METHODS[METHODS.index(SKIP) :]), *wide):
        change = losses.relative_increase(configuration, dense)
        label = f"perplexity, {configuration.method} against dense on {corpus}"
        parts.append(beside(label, change, "relative"))
    for method in METHODS[METHODS.index(SKIP) + 1 :]:
        name = f"log-perplexity, {SKIP} less {method} on {corpus}"
        parts.append(beside(name, losses.increase(found[SKIP], found[method]), "nats"))
    return parts


def _on_tasks(evidence: Evidence, tasks: Sequence[Answers], confidence: float) -> list[Part]:
    """Reasoning accuracy of cold_only less that of the others."""
    if not tasks:
        return [untestable("no reasoning task is evidence on this model")]
    seed, names = evidence.settings.seed, ", ".join(task.task for task in tasks)

    def label(method: str) -> str:
        return f"reasoning accuracy, {COLD} less {method} ({names})"

    less = answers.accuracy_difference(
        tasks, METHODS.index(COLD), METHODS.index(SKIP), seed=seed, confidence=confidence
    )
    return [
        below(label(SKIP), less, "points", 0.0),
        *(
            beside(
                label(method),
                answers.accuracy_difference(
                    tasks, METHODS.index(COLD), METHODS.index(method), seed=seed
                ),
                "points",
            )
            for method in (HOT, RANDOM)
        ),
    ]


def _method(
    evidence: Evidence, configuration: Configuration, cell: int, tasks: Sequence[Answers]
) -> dict[str, Any]:
    return {
        **text_damage(evidence, configuration),
        "accuracy": _accuracy(evidence, cell + 1, tasks),
    }


def _dense(evidence: Evidence, tasks: Sequence[Answers]) -> dict[str, Any]:
    return {
        "accuracy": _accuracy(evidence, 0, tasks),
        "chance": sum(task.chance for task in tasks) / len(tasks) if tasks else None,
        "tasks": [task.task for task in tasks],
        "corpus": text_of(evidence.settings),
    }


def _accuracy(evidence: Evidence, column: int, tasks: Sequence[Answers]) -> dict[str, Any] | None:
    """Mean over the tasks that are evidence; None if none is."""
    if not tasks:
        return None
    return value(answers.mean_accuracy(tasks, column, seed=evidence.settings.seed))


def _summary(report: NeuronReport) -> dict[str, Any]:
    """The figures of a report that a page shows; the curves are in the file of reports."""
    stability = report.stability
    return {
        "corpus": report.corpus,
        "tokens": report.tokens,
        "active": report.model_wide.active_share,
        "hot": report.model_wide.hot_share,
        "hot_layers": [layer.hot_share for layer in report.layers],
        "truncation": sum(report.truncation_error) / len(report.truncation_error),
        "overlap": None if stability is None else stability.overlap_model,
        "correlation": None if stability is None else stability.correlation_model,
        "recall": {quality.method: quality.mean_recall for quality in report.quality},
        "predictor": report.predictor,
        "cost": report.cost,
    }
