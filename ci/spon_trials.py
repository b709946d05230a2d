"""Trains spontaneous vectors for TEAL in many ways and writes down what each of them gave.

    python ci/spon_trials.py --model smollm2-135m
    python ci/spon_trials.py --model relu-4m --level 0.6 --out trials.jsonl

One thing at a time is varied round the default recipe: sites, start, rate, budget, length of
sequences, layers and text; the mean residual without any training is among them.  Which recipe is
shipped must rest on the held-out divergence, that of the tail of every source, which no trial is
trained on: the recovery on the evaluation corpora is written beside it, and choosing by it would
make it worthless.  Trials that are in the file already are not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from pytest_sparsity.claims.finding import Effect
from pytest_sparsity.claims.losses import Losses
from pytest_sparsity.claims.page.trial_tables import trial_row
from pytest_sparsity.claims.page.trials import TriedRecipe, keep_trial, read_trials
from pytest_sparsity.claims.perplexity_claim import spon, teal
from pytest_sparsity.cli.train_vectors import training_text
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import on_stream
from pytest_sparsity.core.statistics import Vector, paired_ratio
from pytest_sparsity.evaluation.perplexity import Window, dense_states, score_documents
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.spon.library import text_hash
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.settings.options import MEAN_RESIDUAL
from pytest_sparsity.settings.settings import PROFILES, default_settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.stores import Stores, make_stores

OUT = Path(__file__).parents[1] / "docs" / "findings" / "trials.jsonl"
ZEROS = "zeros"
#: Sequences of the default length at the end of every source that no trial is trained on.
KEPT_APART = 16


@dataclass(frozen=True)
class Attempt:
    """One way to train vectors.

    Attributes:
        name: what is different from the default.
        recipe: how.
        start: ``zeros`` or ``mean_residual``.
        wikipedia: whether it is trained on that as well as on the calibration corpora.
    """

    name: str
    recipe: Recipe = field(default_factory=Recipe)
    start: str = ZEROS
    wikipedia: bool = True


def attempts(layers: int) -> Iterator[Attempt]:
    """The default recipe for a model of so many layers, and what differs from it in one thing."""

    def changed(name: str, **changes: Any) -> Attempt:
        return Attempt(name, replace(Recipe(), **changes))

    yield Attempt("default")
    yield Attempt("mean residual, not trained", replace(Recipe(), steps=0), MEAN_RESIDUAL)
    yield Attempt("starts from the mean residual", start=MEAN_RESIDUAL)
    for steps in (30, 300):
        yield changed(f"{steps} steps", steps=steps)
    for rate in (1e-1, 1e-2):
        yield changed(f"rate {rate:g}", rate=rate)
    for kinds in (("o", "down"), ("q", "k", "v", "o"), ("gate", "up"), ("down",)):
        yield changed(f"sites {', '.join(kinds)}", sites=kinds)
    half = layers // 2
    yield changed("first half of the layers", layers=(0, half - 1))
    yield changed("second half of the layers", layers=(half, layers - 1))
    yield Attempt("without Wikipedia", wikipedia=False)
    base = Recipe()
    longer = {"length": 2 * base.length, "sequences": base.sequences // 2}
    yield changed(f"sequences of {longer['length']} tokens, as many tokens", **longer)
    yield changed("4 times the tokens per step", sequences=4 * base.sequences)


class Judge:
    """Compares vectors with TEAL alone, on text kept apart and on the evaluation corpora.

    Args:
        stores: models and corpora.
        plan: of TEAL, without vectors.
        name: of the model.
        kept: tokens by source that no vectors are trained on.
    """

    def __init__(self, stores: Stores, plan: Plan, name: str, kept: Mapping[str, torch.Tensor]):
        self._model, self._plan, self._seed = stores.models.load(name), plan, stores.settings.seed
        self._kept = list(_sequences(kept, self._model.first_tokens))
        self._states = dense_states(self._model, self._kept)
        documents = stores.settings.sizes.documents
        corpora = stores.settings.corpora
        self._texts = {corpus: stores.texts.windows(name, corpus)[:documents] for corpus in corpora}
        self._dense = self._likelihoods(self._model)
        self._alone, self._alone_divergence = self._measured(plan)

    def judge(self, vectors: SpontaneousVectors) -> dict[str, Any]:
        """The figures of a :class:`TriedRecipe` that tell how good vectors are."""
        plan = replace(self._plan, bias=vectors.fold(self._model))
        found, divergence = self._measured(plan)
        before, after = self._alone_divergence, divergence
        removed = paired_ratio(before - after, before, seed=self._seed)
        predicted = sum(len(window.tokens) - 1 for window in self._kept)
        losses = [self._losses(corpus, found[corpus]) for corpus in self._texts]
        name, level = self._model.name, plan.level
        with_, without, dense = spon(name, level), teal(name, level), Configuration(name)
        return {
            "held_out": tuple(round(float(kl.sum()) / predicted, 6) for kl in (before, after)),
            "removed": Effect("held-out KL", removed, "share"),
            "lost": tuple(Effect(x.corpus, x.increase(without, dense), "nats") for x in losses),
            "recovered": tuple(
                Effect(x.corpus, x.recovered(with_, without, dense), "share") for x in losses
            ),
        }

    def _measured(self, plan: Plan) -> tuple[dict[str, Vector], Vector]:
        """Under a plan: negative log-likelihoods by corpus; KL of the text kept apart."""
        twin = self._model.twin()
        with sparsify(twin, plan):
            scored = score_documents(twin, self._kept, self._states)
            return self._likelihoods(twin), np.array([float(d["kl"]) for d in scored])

    def _likelihoods(self, model: LanguageModel) -> dict[str, Vector]:
        return {
            corpus: -np.array([sum(d["log_likelihoods"]) for d in score_documents(model, text)])
            for corpus, text in self._texts.items()
        }

    def _losses(self, corpus: str, found: Vector) -> Losses:
        name, level = self._model.name, self._plan.level
        nll = {
            Configuration(name): self._dense[corpus],
            teal(name, level): self._alone[corpus],
            spon(name, level): found,
        }
        tokens = np.array([len(window.tokens) - 1.0 for window in self._texts[corpus]])
        return Losses(corpus, tokens, nll, self._seed, confidence=0.95)


def trials(
    stores: Stores, name: str, level: float, wanted: Sequence[Attempt], known: Sequence[TriedRecipe]
) -> Iterator[TriedRecipe]:
    """Every attempt's trial: the one that is known, or one that is made now."""
    model, plan = stores.models.load(name), stores.plans.plan(teal(name, level))
    length = KEPT_APART * Recipe().length
    text = training_text(stores, name)
    kept = {source: tokens[-length:] for source, tokens in text.items()}
    judge = None
    for attempt in wanted:
        streams = {
            source: tokens[:-length]
            for source, tokens in text.items()
            if attempt.wikipedia or source != "wikipedia"
        }
        key = {
            "weights": model.weights_hash,
            "method": plan.method,
            "level": level,
            "prefill": plan.prefill.name,
            "start": attempt.start,
            "recipe": asdict(attempt.recipe),
            "text": list(streams),
            "text_hash": text_hash(streams)[:16],
            "kept_hash": text_hash(kept)[:16],
            "documents": {
                c: stores.texts.evaluation_corpus(c).hash for c in stores.settings.corpora
            },
            "sizes": asdict(stores.settings.sizes),
        }
        key = json.loads(json.dumps(key))  # as it is read
        found = next((trial for trial in known if trial.key == key), None)
        if found is not None:
            yield found
            continue
        judge = judge or Judge(stores, plan, name, kept)
        start = None
        if attempt.start == MEAN_RESIDUAL:
            start = mean_residual(
                model, plan, stores.texts.calibration_tokens(name), stores.progress
            )
        vectors = train(
            model, plan, list(streams.values()), attempt.recipe, stores.progress, start=start
        )
        cost = vectors.provenance
        yield TriedRecipe(
            model=name,
            level=level,
            name=attempt.name,
            key=key,
            **judge.judge(vectors),
            tokens=cost["training_tokens"],
            seconds=cost["seconds"],
        )


def _sequences(kept: Mapping[str, torch.Tensor], lead: Sequence[int]) -> Iterator[Window]:
    length = Recipe().length
    for source, tokens in kept.items():
        for start in range(0, len(tokens) - length + 1, length):
            row = tokens[start : start + length - len(lead)].tolist()
            yield Window(f"{source}:{start}", torch.tensor([*lead, *row]))


def main() -> None:
    """Make the trials that are missing, and print all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="known name of the model")
    parser.add_argument("--level", type=float, default=0.5, help="of TEAL")
    parser.add_argument("--profile", default="full", choices=PROFILES, help="how many documents")
    parser.add_argument("--out", type=Path, default=OUT, help="file that trials are appended to")
    given = parser.parse_args()
    settings = replace(
        default_settings(), models=(given.model,), levels=(given.level,), profile=given.profile
    )
    stores = make_stores(settings, on_stream(sys.stderr))
    known = read_trials(given.out) if given.out.exists() else []
    layers = 1 + max(site.layer for site in stores.models.load(given.model).sites)
    made = []
    for trial in trials(stores, given.model, given.level, list(attempts(layers)), known):
        if trial not in known:
            keep_trial(given.out, trial)
        made.append(trial)
    print(tabulate(map(trial_row, made), headers="keys", disable_numparse=True))


if __name__ == "__main__":
    try:
        main()
    except SparsityError as error:
        sys.exit(f"ERROR: {error}")
