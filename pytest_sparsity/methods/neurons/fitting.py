"""Fits predictors of neurons that read the residual stream, as PowerInfer's and Deja Vu's do.

Text comes in rounds, each of which doubles it, until predictions on held-out text get no better.
A piece of text is run through the model once, learnt by all layers and forgotten, so that
memory does not grow with the text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.neurons.activity import active, contribution, down_sites, tail_of
from pytest_sparsity.methods.neurons.layer_fit import FitRecipe, LayerFit, Observed
from pytest_sparsity.methods.neurons.predictor import LayerPredictor, Predictor
from pytest_sparsity.methods.neurons.training import hidden_width, learnt_from
from pytest_sparsity.methods.plan import RESIDUAL
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.prefill import PrefillPolicy, all_dense
from pytest_sparsity.methods.residual_stream import mlp_norms, norms_behind, residual_of
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.parallel import in_parallel

__all__ = ["FitRecipe", "fit_predictor"]

#: Activations of training text held in memory at a time; at least one document.
_BYTES = 3 << 28

#: Scores are told apart by their leading 16 bits.
_BUCKETS = 1 << 16


def fit_predictor(
    model: LanguageModel,
    training: Sequence[torch.Tensor],
    held_out: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    recipe: FitRecipe,
    progress: Progress = silent,
) -> Predictor:
    """Fit one predictor per layer until held-out recall stops rising.

    Of all rounds' predictors, those with the highest recall are returned.  They do not depend
    on the number of threads or processes, nor on how long anything took.

    Args:
        model: dense, nothing attached.
        training: documents, int64 [T] each, which are learnt from in this order.
        held_out: others, from which recall is measured, see :func:`_recall`.
        prefill: positions that it keeps dense are not learnt from.
        recipe: how.
        progress: advances by one per document of training text within the budget.

    Returns:
        Predictors whose provenance holds, besides what ``train_predictor`` tells, ``curve``, a pair
        of tokens and recall per round, and ``stopped``: ``recall`` (a round raised the held-out
        recall by less than ``least_gain``), ``budget`` (the next document would have been beyond
        the budget of tokens) or ``text`` (there was no more).

    Raises:
        SparsityError: no text to learn from, or none held out, or the policy keeps every token
            of either dense; the model has no neurons or no stream before them, or its
            activations are not finite.
    """
    within = _within(training, recipe.tokens)
    if not within or not held_out:
        raise SparsityError(
            f"--sparsity-calibration: {len(training)} documents to train predictors of neurons on, "
            f"{len(within)} of them within {recipe.tokens} tokens, and {len(held_out)} to check "
            "them are too little; give a longer text"
        )
    started = time.monotonic()
    observer = _Observer(model, prefill)
    checked = observer.joined(held_out, "held-out text")
    fits: dict[int, LayerFit] = {}
    curve: list[tuple[int, float]] = []
    best: dict[int, LayerPredictor] = {}
    seen = learnt = 0
    stopped = "budget" if len(within) < len(training) else "text"
    with progress(f"fit predictors {model.name}", len(within), "document") as task:
        for text in _rounds(within, recipe.first):
            for piece in observer.pieces(text, recipe.first):
                samples = observer.joined(piece, "training text")
                learnt += len(next(iter(samples.values())).v)
                _learn(model, observer.downs, fits, samples, recipe)
                del samples  # or the next piece would be collected beside it
                seen += sum(map(len, piece))
                task.advance(len(piece), note=f"recall {curve[-1][1]:.3f}" if curve else "")
            layers = {layer: fit.predictor() for layer, fit in fits.items()}
            before = max((recall for _, recall in curve), default=-math.inf)
            curve.append((seen, round(_recall(model, checked, fits, layers), 4)))
            if curve[-1][1] > before:
                best = layers
            if curve[-1][1] - before < recipe.least_gain:
                stopped = "recall"
                break
    provenance: dict[str, Any] = {
        **learnt_from(model, prefill, recipe),
        "training_tokens": learnt,
        "curve": [list(point) for point in curve],
        "stopped": stopped,
        "tokens": seen + sum(map(len, held_out)),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Predictor(best, provenance, RESIDUAL)


class _Observer:
    """Runs text through a dense model and gives what its layers did.

    Raises:
        SparsityError: the model has no neurons, or no stream before them.
    """

    def __init__(self, model: LanguageModel, prefill: PrefillPolicy) -> None:
        self._model, self._prefill = model, prefill
        self.downs = {site.layer: site for site in down_sites(model).values()}
        # Traced here: inside an observation the hooks would see the trace's own pass.
        self._streams = {residual_of(layer) for layer in mlp_norms(model)}
        self._behind = norms_behind(model)
        self._norms = {site.name: column_norms(site, self._model) for site in self.downs.values()}

    def joined(self, documents: Sequence[torch.Tensor], text: str) -> dict[int, Observed]:
        """By layer, all rows of ``documents``, which an error calls ``text``.

        Raises:
            SparsityError: there are none, or some are not finite.
        """
        # Written where it stays: documents joined afterwards would leave as much memory again in
        # holes that are too small for anything else.
        most = sum(map(len, documents))
        joined: dict[int, Observed] = {}
        rows = added = 0
        found = observe_documents(
            self._model, self._prefill, documents, self._visit, also=[RESIDUAL]
        )
        for document in found:
            for layer, down in self.downs.items():
                v, adds = document[residual_of(layer)], document[down.name]
                assert v is not None
                assert adds is not None
                if layer not in joined:
                    joined[layer] = Observed(*(x.new_empty(most, x.shape[1]) for x in (v, adds)))
                added = len(v)
                joined[layer].v[rows : rows + added] = v
                joined[layer].adds[rows : rows + added] = adds
            rows += added
        if not rows:
            raise all_dense(self._prefill, text)
        return {
            layer: self._checked(layer, Observed(o.v[:rows], o.adds[:rows]), text)
            for layer, o in joined.items()
        }

    def pieces(
        self, documents: Sequence[torch.Tensor], tokens: int
    ) -> Iterator[list[torch.Tensor]]:
        """``documents`` in order, by ``tokens`` at most, and as many at a time as fit in memory.

        A longer document is a piece of its own.
        """
        row = sum(
            down.module.out_features * self._model.dtype.itemsize + down.module.in_features * 2
            for down in self.downs.values()
        )
        most = min(tokens, _BYTES // row)
        piece: list[torch.Tensor] = []
        for document in documents:
            if piece and sum(map(len, piece)) + len(document) > most:
                yield piece
                piece = []
            piece.append(document)
        if piece:
            yield piece

    def _visit(self, place: str, x: torch.Tensor) -> torch.Tensor | None:
        if place in self._streams:
            return x.clone()
        if place in self._norms:
            adds = contribution(x, self._norms[place])
            layer = int(place.partition(".")[0])
            if layer in self._behind:
                adds *= gain(x, self.downs[layer].module, self._behind[layer])
            return adds.to(torch.bfloat16)
        return None

    def _checked(self, layer: int, found: Observed, text: str) -> Observed:
        if not all(bool(torch.isfinite(x.sum(dtype=torch.float64))) for x in (found.v, found.adds)):
            raise SparsityError(
                f"the activations of model {self._model.name} in layer {layer} contain NaN or "
                f"infinity on the {text}; the weights are damaged or their dtype overflows: try "
                "--sparsity-dtype float32"
            )
        return found


@torch.no_grad()
def gain(h: torch.Tensor, down: nn.Linear, norm: nn.Module) -> torch.Tensor:
    """How much larger a token's sum of neurons gets in the norm behind it: ||norm(y)|| / ||y||.

    A norm gives all tokens about the same size, whatever the size of what it reads.  Without this
    factor neurons of different layers cannot be compared: in Gemma 3 270M it is 4 in the first
    layer and 5,000 in the last.

    Args:
        h: inputs of ``down``, [rows, I].
        down: its output is y, [rows, N].
        norm: reads y.

    Returns:
        float32 [rows, 1]; 0 where y is 0.
    """
    y = down.forward(h)  # not down(h), whose hooks are what observes it
    size = y.float().norm(dim=-1, keepdim=True)
    grown: torch.Tensor = norm(y).float().norm(dim=-1, keepdim=True)
    return torch.where(size > 0, grown / size, 0.0)


def _learn(
    model: LanguageModel,
    downs: Mapping[int, Site],
    fits: dict[int, LayerFit],
    samples: Mapping[int, Observed],
    recipe: FitRecipe,
) -> None:
    """Let every layer learn a piece of text; the first piece also starts them."""

    def learn(layer: int) -> LayerFit:
        sample, fit = samples[layer], fits.get(layer)
        if fit is None:
            rank = hidden_width(model, downs[layer], recipe.share)
            fit = LayerFit(layer, rank, sample, recipe)
        fit.learn(sample)
        return fit

    fits.update(zip(downs, in_parallel(learn, downs, device=model.device), strict=True))


def _within(documents: Sequence[torch.Tensor], budget: int) -> list[torch.Tensor]:
    """The first documents that have ``budget`` tokens at most together."""
    found: list[torch.Tensor] = []
    for document in documents:
        if sum(map(len, found)) + len(document) > budget:
            break
        found.append(document)
    return found


def _rounds(documents: Sequence[torch.Tensor], first: int) -> Iterator[list[torch.Tensor]]:
    """The text of each round: after it ``first`` tokens are seen, then twice as many each."""
    text: list[torch.Tensor] = []
    seen, goal = 0, first
    for document in documents:
        text.append(document)
        seen += len(document)
        if seen >= goal:
            yield text
            text = []
            while goal <= seen:
                goal *= 2
    if text:
        yield text


def _recall(
    model: LanguageModel,
    checked: Mapping[int, Observed],
    fits: Mapping[int, LayerFit],
    layers: Mapping[int, LayerPredictor],
) -> float:
    """The share of what is needed that is kept, where as many neurons are kept as are active.

    All (token, neuron) pairs of all layers are put in the order of their scores, and the first
    of them kept, as one threshold for the model does: as many as there are active ones
    (:func:`~.activity.active`), and those with the threshold's score.  A layer's recall is the
    sum of its kept pairs' targets (:meth:`LayerFit.target`) by that of all its pairs; returned
    is the mean over layers.
    """
    tail = tail_of(model)

    def count(layer: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        seen = checked[layer]
        place = _order(layers[layer].scores(seen.v)).flatten()
        pairs = torch.bincount(place, minlength=_BUCKETS)
        needed = fits[layer].target(seen.adds).flatten().double()
        # Contributions are their own neurons here, with columns of norm 1.
        ones = torch.ones(seen.adds.shape[1], device=seen.adds.device)
        often = int(active(seen.adds, ones, tail).sum())
        return pairs, torch.bincount(place, needed, minlength=_BUCKETS), often

    counted = list(in_parallel(count, layers, device=model.device))
    pairs = torch.stack([pairs for pairs, _, _ in counted]).sum(0)
    kept = pairs.flip(0).cumsum(0)
    last = int(torch.searchsorted(kept, sum(often for _, _, often in counted)))
    lowest = max(0, _BUCKETS - 1 - last)
    shares = [
        float(needed[lowest:].sum() / total) if (total := float(needed.sum())) > 0 else 1.0
        for _, needed, _ in counted
    ]
    return sum(shares) / len(shares)


def _order(scores: torch.Tensor) -> torch.Tensor:
    """Places in [0, 2^16) that rise with the scores, int64, by their values in bfloat16."""
    bits = scores.to(torch.bfloat16).view(torch.int16).to(torch.int64)
    return torch.where(bits < 0, ~bits & 0x7FFF, bits + (1 << 15))
