"""The hot and cold neurons of a session's models: a line per model and corpus in the report."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_sparsity.methods.neurons.activity import calibrated_counts, count_neurons
from pytest_sparsity.methods.neurons.quality import selection_quality
from pytest_sparsity.methods.neurons.report import NeuronReport, Stability, neuron_report
from pytest_sparsity.sweep.session import SweepSession

#: Whose choice of neurons is compared with the best one.
COMPARED = ("powerinfer", "deja_vu", "cold_skip", "hot_only", "random_neurons", "cold_only")
#: Whose predictors are told about.
_PREDICTED = "powerinfer"


def neuron_reports(
    session: SweepSession,
    model: str,
    level: float,
    documents: int,
    methods: Sequence[str] = COMPARED,
) -> list[NeuronReport]:
    """What is known of a model's neurons, on the calibration text and every evaluation corpus.

    Args:
        session: models, texts and methods.
        model: short name; its weights as loaded.
        level: share of neurons dropped where methods are compared.
        documents: of every evaluation corpus.
        methods: whose choice is compared with the best one, on held-out text.

    Raises:
        SparsityError: the model has no neurons, or a corpus cannot be had.
    """
    calibrator = session.calibrations.calibrator(model)
    loaded, prefill = calibrator.model, calibrator.prefill
    text, first = session.texts.calibration_corpus, calibrated_counts(calibrator)
    name = f"{text.name} ({text.split})"
    found = [neuron_report(loaded, name, text.hash, prefill, first)]
    predictor = None
    plans = [session.methods.method(method).plan(calibrator, level) for method in methods]
    if _PREDICTED in methods:
        made = session.methods.method(_PREDICTED).predictor(calibrator)  # type: ignore[attr-defined]
        predictor = {**made.provenance, "size": made.weights}
    for corpus in map(session.texts.evaluation_corpus, session.settings.corpora):
        tokens = [w.tokens for w in session.texts.windows(model, corpus.name)[:documents]]
        counts = count_neurons(loaded, tokens, prefill, session.progress)
        found.append(
            neuron_report(
                loaded,
                f"{corpus.name} ({corpus.split})",
                corpus.hash,
                prefill,
                counts,
                Stability.between(first, counts, name),
                selection_quality(loaded, plans, tokens),
                predictor,
            )
        )
    return found
