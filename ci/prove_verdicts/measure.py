"""Measures the cells of every variant on the real model; what is known already is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import values
from accuracy_draws import loss_of, paired, scored
from degradations import changed, size_for
from values import Values
from variants import (
    AGAIN,
    BASE,
    FLOAT32,
    LOSSES,
    MODEL,
    ORDER,
    PACKED,
    PLAN,
    THREADS,
    Amount,
    worse,
)

from pytest_sparsity.core.progress import Progress
from pytest_sparsity.evaluation.perplexity import Window, score_documents, windows
from pytest_sparsity.models import parallel
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.configured_model import ConfiguredModel
from pytest_sparsity.sweep.inputs import GenerationInputs, TextInputs
from pytest_sparsity.sweep.measuring import measure
from pytest_sparsity.sweep.resolve import resolve
from pytest_sparsity.sweep.stores import Stores, make_stores

_HELD_OUT = 32  # documents that the size of a loss is found on
_SIZES = (0.021, 0.038)  # of noise: about 1.5 and 5 % of perplexity
_PROMPT = 32  # tokens, as in a sweep
_PACK = 100  # items that are packed together, of what is packed otherwise


def prove(out: Path, cache_folder: Path | None, progress: Progress) -> None:
    """Measure what ``out`` lacks of the plan.

    Args:
        out: lines of values, appended as cells finish.
        cache_folder: of models and calibrations; the user's by default.
        progress: shows every cell.
    """
    known = values.read(out)
    left = [
        (amount, [cell for cell in amount.cells() if _key(amount, cell) not in known])
        for amount in PLAN
    ]
    with progress("measure", sum(len(cells) for _, cells in left), "cell") as task:
        for amount, cells in left:
            if not cells:
                continue
            with _varied(amount.variant, cache_folder) as stores:
                for cell in cells:
                    values.add(out, _measured(stores, amount, cell))
                    task.advance(note=_key(amount, cell))


def _key(amount: Amount, cell: Cell) -> str:
    configuration = cell.configuration
    return values.key_of(amount.variant, configuration.method, configuration.level, cell.evaluation)


def _measured(stores: Stores, amount: Amount, cell: Cell) -> Values:
    inputs = resolve(stores, cell, {})  # a key would make the calibration again in float32
    draws = 1
    evaluation = inputs.evaluation
    if isinstance(evaluation, TextInputs):
        inputs = replace(inputs, evaluation=replace(evaluation, draw=amount.documents))
    elif isinstance(evaluation, GenerationInputs):
        text = stores.texts.first_corpus.documents
        prompts = windows(text, inputs.dense, _PROMPT)[: amount.prompts]
        inputs = replace(inputs, evaluation=replace(evaluation, prompts=prompts))
    else:
        draw = _PACK if amount.variant == PACKED else amount.items
        draws = amount.items // draw
        inputs = replace(inputs, evaluation=replace(evaluation, draw=draw))
    return values.of_record(amount.variant, measure(inputs, draws, None))


@contextmanager
def _varied(variant: str, cache_folder: Path | None) -> Iterator[Stores]:
    """The stores of a run of this variant; its model is as it was afterwards."""
    stores = _stores(cache_folder, "auto")
    if variant == FLOAT32:
        exact = _stores(cache_folder, "float32")  # skips what was calibrated in bfloat16
        configured = ConfiguredModel(exact.weights, stores.plans)
        yield replace(exact, plans=stores.plans, configured=configured)
        return
    if variant in (BASE, PACKED):
        yield stores
        return
    if variant == AGAIN:
        yield _unused(stores)
        return
    if variant == THREADS:
        with _two_threads():
            yield _unused(stores)
        return
    with ExitStack() as stack:
        model = stores.models.load(MODEL)
        # What depends on the weights as they were is made before they are changed.
        stores.calibrations.prepared(MODEL)
        if variant == ORDER:
            stack.enter_context(changed(model, ORDER, 0, 0.0))
        else:
            (loss,) = (loss for loss in set(LOSSES.values()) if worse(loss) == variant)
            size = size_for(loss, dict(_points(cache_folder)))
            stack.enter_context(changed(model, "noise", 0, size))
        yield _unused(stores)


def _unused(stores: Stores) -> Stores:
    """The same stores with nothing known of what the dense model gives."""
    return replace(stores, dense=replace(stores.dense))


@cache
def _stores(cache_folder: Path | None, dtype: str) -> Stores:
    settings = replace(default_settings(), models=(MODEL,), cache=cache_folder, dtype=dtype)
    return make_stores(settings)


@cache
def _points(cache_folder: Path | None) -> tuple[tuple[float, float], ...]:
    """Sizes of noise and what they cost, on text that no run sees: documents' second windows."""
    stores = _stores(cache_folder, "auto")
    model, length = stores.models.load(MODEL), stores.settings.sizes.window
    documents = [
        Window(window.id, window.tokens[length:])
        for corpus in stores.settings.corpora
        for window in windows(stores.texts.evaluation_corpus(corpus).documents, model, 2 * length)[
            : _HELD_OUT // len(stores.settings.corpora)
        ]
    ]
    before = scored(score_documents(model, documents))
    found = []
    for size in _SIZES:
        with changed(model, "noise", 0, size):
            now = scored(score_documents(model, documents))
        found.append((size, loss_of(paired(now, before))))
    return tuple(found)


@contextmanager
def _two_threads() -> Iterator[None]:
    """Every forward pass on two threads, where a sweep gives each one."""
    usual = parallel._single
    parallel._single = lambda: torch.set_num_threads(2)
    try:
        yield
    finally:
        parallel._single = usual
