"""Decisions of the accuracy gate on the real model: identical, as good, and worse by a known loss.

Everything is decided by the package's own ``judge_change``.  What it is compared with sees the
same documents (``rivals_accuracy``).
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from accuracy_draws import (
    Pair,
    Scored,
    counted,
    disjoint,
    exactly,
    loss_of,
    paired,
    scored,
    spread,
)
from accuracy_summary import summary
from degradations import changed, size_for

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.evaluation.perplexity import Window, score_documents, windows
from pytest_sparsity.models import load_model
from pytest_sparsity.settings.options import TRAINED
from pytest_sparsity.settings.settings import PROFILES, default_settings
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.measuring import measure
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.regression import judge_change
from pytest_sparsity.sweep.resolve import resolve
from pytest_sparsity.sweep.stores import Stores, make_stores

__all__ = ["Study", "Variant", "prove", "rows", "summary"]

Row = Mapping[str, Any]
NOTHING, FLOAT32, ORDER = "nothing", "float32", "order"
_DENSE = Configuration("smollm2-135m")
_TEAL = Configuration("smollm2-135m", "teal", 0.5)


@dataclass(frozen=True)
class Variant:
    """A model that is held against the same model with nothing changed.

    Attributes:
        change: of ``degradations``, ``float32`` (instead of bfloat16), or nothing.
        seed: of the change.
        loss: of perplexity that it is sized for: 0.01 is +1 %; 0 of what is harmless.
        level: of TEAL, in both models.
        draws: of the default number of documents, per corpus; all if None.
    """

    change: str
    seed: int = 0
    loss: float = 0.0
    level: float = 0.0
    draws: int | None = None

    @property
    def base(self) -> Variant:
        """The model with nothing changed."""
        return replace(self, change=NOTHING, seed=0, loss=0.0)

    @property
    def id(self) -> str:
        """Readable name of what was changed, without how much of it was measured."""
        return f"{self.change} {self.seed} {self.loss:g} teal-{self.level:g}"


@dataclass(frozen=True)
class Study:
    """What is measured, by default about a quarter of an hour on one core."""

    model: str = "smollm2-135m"
    corpora: tuple[str, ...] = default_settings().corpora
    documents: int = PROFILES["quick"].sizes.documents
    #: Decided on in parts of so many: whole draws would be few.
    items: int = PROFILES["quick"].sizes.items // 4
    #: Scored by two fresh processes, so many draws of each.
    identical: tuple[tuple[Configuration, str, int], ...] = field(
        default_factory=lambda: (
            *((_DENSE, f"perplexity:{corpus}", 5) for corpus in default_settings().corpora),
            (_TEAL, "perplexity:austen", 1),
            *(
                (configuration, f"task:{task}", 4)
                for configuration in (_DENSE, _TEAL, replace(_TEAL, spon=TRAINED))
                for task in ("sva", "basic_pattern", "basic_common_knowledge")
            ),
        )
    )
    #: Scored otherwise: first what the next ones are compared with.
    variants: tuple[Variant, ...] = (
        Variant("noise", 0, 0.01),
        Variant("noise", 1, 0.01),
        Variant("rounding", 0, 0.01),
        Variant("noise", 0, 0.02),
        Variant("rounding", 1, 0.02),
        Variant("noise", 1, 0.05),
        Variant("rounding", 0, 0.05),
        Variant(ORDER, 0, draws=2),
        Variant(FLOAT32, 0, draws=1),
        Variant(NOTHING, level=0.5, draws=2),
        Variant(ORDER, 0, level=0.5, draws=2),
    )
    #: Two sizes to find others by: about 1.5 % and 5 % of perplexity.
    sizes: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {"noise": (0.021, 0.038), "rounding": (0.068, 0.125)}
    )
    held_out: int = 32
    #: Numbers of documents whose power is worked out, and decisions on each from every variant.
    numbers: tuple[int, ...] = (16, 32, 64, 96, 128, 192, 256, 384)
    resamples: int = 50


def prove(out: Path, cache: Path | None, progress: Progress, study: Study | None = None) -> None:
    """Measure and decide; what ``out`` holds is not done again.

    Args:
        out: JSON lines, appended as results come.
        cache: folder of models and calibrations; the user's by default.
        progress: shows every cell, variant and number of documents.
        study: what is measured; all of it by default.
    """
    study = study or Study()
    found = _Rows(out)
    _identical(found, study, cache, progress)
    _scores(found, study, cache, progress)
    _decisions(found, study)
    _power(found, study, progress)


def rows(out: Path) -> list[Row]:
    """What is in the file; an incomplete last line is not."""
    with suppress(FileNotFoundError):
        lines = out.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    return []


class _Rows:
    """The rows of a file by their keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_key = {row["key"]: row for row in rows(path)}
        if self.by_key:  # so that what was cut off does not spoil the next line
            path.write_text("".join(f"{json.dumps(row)}\n" for row in self.by_key.values()))

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def add(self, key: str, **row: Any) -> None:
        """Append a row."""
        self.by_key[key] = {"key": key, **row}
        with self._path.open("a") as file:
            file.write(json.dumps(self.by_key[key]) + "\n")

    def scored(self, variant: Variant, corpus: str) -> list[Scored]:
        """The documents of a variant that was scored."""
        documents = self.by_key[_scores_key(variant, corpus)]["documents"]
        return [(id, tokens, nll) for id, tokens, nll in documents]


def _scores_key(variant: Variant, corpus: str) -> str:
    return f"scores {variant.id} {corpus}"


def _identical(found: _Rows, study: Study, cache: Path | None, progress: Progress) -> None:
    """The same cells in two fresh processes, decided on in disjoint parts."""
    cells = [(Cell(configuration, name), draws) for configuration, name, draws in study.identical]
    left = [(cell, draws) for cell, draws in cells if f"identical {cell.id}" not in found]
    if not left:
        return
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(2)]
        task = stack.enter_context(progress("score in two processes", len(left), "cell"))
        for cell, draws in left:
            before, now = (
                Record.from_json(pool.submit(_measured, cache, cell, draws).result())
                for pool in pools
            )
            dense = cell.configuration.method == "dense"
            if cell.kind == "perplexity" and dense:
                key = _scores_key(Variant(NOTHING), cell.subject)
                found.add(key, kind="scores", documents=scored(before.units))
            size = study.documents if cell.kind == "perplexity" else study.items
            judged = [
                judge_change(*pair, seed=0)
                for pair in zip(_parts(now, size), _parts(before, size), strict=True)
            ]
            found.add(
                f"identical {cell.id}",
                kind="identical",
                cell=cell.id,
                evaluation=cell.kind,
                units=len(now.units),
                size=size,
                decisions=Counter(one.decision.value for one in judged),
                equal=sum(one.decision is Decision.OK and one.change is None for one in judged),
            )
            task.advance(note=cell.id)


def _parts(record: Record, size: int) -> Iterator[Record]:
    """A record in disjoint parts of ``size`` units; a rest is left out."""
    (name,) = {"documents", "items", "prompts"} & set(record.measured)
    for start in range(0, len(record.units) - size + 1, size):
        part = record.units[start : start + size]
        yield replace(record, measured={**record.measured, name: part})


def _measured(cache: Path | None, cell: Cell, draws: int) -> str:
    """A record as the sweep makes it, as JSON; runs in a process of its own."""
    stores = _stores(cell.configuration.model, cache)
    inputs = resolve(stores, cell, stores.keys.of(cell))
    return measure(inputs, draws, None).to_json()


@cache
def _stores(model: str, cache: Path | None) -> Stores:
    return make_stores(replace(default_settings(), models=(model,), cache=cache))


def _scores(found: _Rows, study: Study, cache: Path | None, progress: Progress) -> None:
    """Score every variant on the documents of every corpus."""
    left = [
        (variant, corpus)
        for variant in study.variants
        for corpus in study.corpora
        if _scores_key(variant, corpus) not in found
    ]
    if not left:
        return
    stores = _stores(study.model, cache)
    with progress("score variants", len(left), "variant") as task:
        for variant, corpus in left:
            documents = stores.texts.windows(study.model, corpus)
            if variant.draws is not None:
                documents = documents[: study.documents * variant.draws]
            size = _size(found, study, stores, variant, corpus)
            units = _scored_by(stores, study.model, variant, size, documents)
            found.add(
                _scores_key(variant, corpus), kind="scores", size=size, documents=scored(units)
            )
            task.advance(note=f"{variant.id} {corpus}")


def _scored_by(
    stores: Stores, model: str, variant: Variant, size: float, documents: Sequence[Window]
) -> list[dict[str, Any]]:
    judged = dense = stores.models.load(model)
    if variant.change == FLOAT32:
        judged = load_model(dense.source, dtype="float32", cache=stores.cache)
    elif variant.level:  # shares its weights with the dense model, and was calibrated on them
        judged, _ = stores.configured.attached(Configuration(model, "teal", variant.level))
    if variant.change in (NOTHING, FLOAT32):
        return score_documents(judged, documents)
    with changed(dense, variant.change, variant.seed, size):
        return score_documents(judged, documents)


def _size(found: _Rows, study: Study, stores: Stores, variant: Variant, corpus: str) -> float:
    """How much of a change costs what it shall, found on text that no decision sees.

    That is the second window of documents: what follows the first one, which is scored.
    """
    if not variant.loss:
        return 0.0
    key = f"sizes {variant.change} {variant.seed} {corpus}"
    if key not in found:
        model, length = stores.models.load(study.model), stores.settings.sizes.window
        texts = stores.texts.evaluation_corpus(corpus).documents
        both = windows(texts, model, 2 * length)[: study.held_out]
        seconds = [Window(window.id, window.tokens[length:]) for window in both]
        before = scored(score_documents(model, seconds))
        points = {}
        for size in study.sizes[variant.change]:
            now = _scored_by(stores, study.model, variant, size, seconds)
            points[size] = loss_of(paired(scored(now), before))
        found.add(key, kind="sizes", points=list(points.items()))
    return size_for(variant.loss, dict(found.by_key[key]["points"]))


def _decisions(found: _Rows, study: Study) -> None:
    """Decide on every variant in disjoint draws of the default number of documents."""
    for variant, corpus in _compared(study):
        key = f"decisions {variant.id} {corpus}"
        if key in found:
            continue
        pairs = _pairs(found, variant, corpus)
        found.add(
            key,
            kind="draws",
            **_facts(variant, corpus),
            documents=study.documents,
            true=loss_of(pairs),
            spread=spread(pairs),
            **counted(disjoint(pairs, study.documents)),
        )


def _power(found: _Rows, study: Study, progress: Progress) -> None:
    """Decide on documents drawn with replacement, the loss over all of them made exact.

    What a draw may show differs between documents as was measured; only the mean is moved, so that
    the loss is the one that is asked for, and not what the size found on other text comes to.
    """
    with progress("decide on drawn documents", len(study.numbers), "number") as task:
        for number in study.numbers:
            for variant, corpus in _compared(study):
                key = f"power {variant.id} {corpus} {number}"
                if key in found:
                    continue
                pairs = exactly(variant.loss, _pairs(found, variant, corpus))
                drawn = random.Random(key)
                draws = [drawn.choices(pairs, k=number) for _ in range(study.resamples)]
                found.add(
                    key,
                    kind="power",
                    **_facts(variant, corpus),
                    documents=number,
                    true=variant.loss,
                    **counted(draws),
                )
            task.advance(note=f"{number} documents")


def _compared(study: Study) -> Iterator[tuple[Variant, str]]:
    return (
        (variant, corpus)
        for variant in study.variants
        for corpus in study.corpora
        if variant.change != NOTHING
    )


def _facts(variant: Variant, corpus: str) -> dict[str, Any]:
    return {
        "change": variant.change,
        "seed": variant.seed,
        "loss": variant.loss,
        "level": variant.level,
        "corpus": corpus,
    }


def _pairs(found: _Rows, variant: Variant, corpus: str) -> list[Pair]:
    """The documents of a variant, each with the same one of the model it is held against."""
    return paired(found.scored(variant, corpus), found.scored(variant.base, corpus))
