"""From the name of a cell to what it is measured from: the one place that looks things up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_sparsity.evaluation.harness import HarnessTask
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY, Cell
from pytest_sparsity.sweep.inputs import (
    CellInputs,
    DivergenceInputs,
    GenerationInputs,
    TaskInputs,
    TextInputs,
)
from pytest_sparsity.sweep.stores import Stores


def resolve(stores: Stores, cell: Cell, key: Mapping[str, Any]) -> CellInputs:
    """Make or find the model of a cell and what it is evaluated on; measures nothing.

    What the dense model gives is computed later, and only for the text that is measured.

    Args:
        stores: of the run.
        cell: what to measure.
        key: of the cell, see :class:`~.record_key.RecordKeys`.

    Raises:
        MissingVectors: the cell needs trained vectors, and none fit.
        SparsityError: the model or the text cannot be had, or the evaluation cannot score the
            task.
    """
    configuration = cell.configuration
    if configuration.method == "dense":
        model, attached = stores.weights.model(configuration.model, configuration.weights), None
    else:
        model, attached = stores.configured.attached(configuration)
    return CellInputs(
        cell=cell,
        key=key,
        model=model,
        attached=attached,
        dense=stores.models.load(configuration.model),
        evaluation=_evaluation(stores, cell),
        facts=_facts(stores, cell),
    )


def _evaluation(stores: Stores, cell: Cell) -> TextInputs | GenerationInputs | TaskInputs:
    texts, dense, sizes = stores.texts, stores.dense, stores.settings.sizes
    model, is_reference = cell.configuration.model, cell.configuration.is_reference
    draw = cell.units(sizes)
    if cell.kind == PERPLEXITY:
        states = None if is_reference else dense.states(model, cell.subject)
        return TextInputs(texts.windows(model, cell.subject), draw, states)
    if cell.kind == GENERATION:
        return GenerationInputs(texts.prompts(model), sizes.new_tokens, dense.paths(model))
    task = texts.task_of(cell.evaluation)
    if cell.kind != DIVERGENCE or isinstance(task, HarnessTask):
        return TaskInputs(task, draw, dense.share)
    states_of_probes = None if is_reference else dense.probe_states(model, task.name)
    prose = texts.first_corpus.documents
    return DivergenceInputs(task, draw, dense.share, prose, states_of_probes)


def _facts(stores: Stores, cell: Cell) -> dict[str, Any]:
    configuration = cell.configuration
    facts: dict[str, Any] = {}
    if notice := stores.models.load(configuration.model).notice:
        facts["model_notice"] = notice
    if first_tokens := stores.models.load(configuration.model).first_tokens:
        facts["first_tokens"] = list(first_tokens)
    if cell.kind == PERPLEXITY:
        documents = stores.texts.evaluation_corpus(cell.subject).documents
        read = stores.texts.windows(configuration.model, cell.subject)
        if left_out := len(documents) - len(read):
            facts["left_out"] = left_out
    if configuration.method != "dense":
        facts["preparation"] = stores.plans.preparation(configuration)
    if configuration.weights != LOADED:
        made = stores.weights.compressed(configuration.model, configuration.weights)
        facts["compression"] = made.provenance
    return facts
