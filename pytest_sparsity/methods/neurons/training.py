"""Trains the predictors of a model's neurons on what the dense model does with held-in text."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.neurons.activity import active, down_sites, tail_of
from pytest_sparsity.methods.neurons.predictor import LayerPredictor, Predictor
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.prefill import PrefillPolicy, all_dense
from pytest_sparsity.methods.wina import column_norms
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.plain_layers import shape_of

#: Activations held in memory at a time; layers beyond it need another pass over the text.
_BYTES = 1 << 30


@dataclass(frozen=True)
class PredictorRecipe:
    """How predictors are trained; stored with them.

    Attributes:
        share: weights of a predictor by those of its feed-forward block.  PowerInfer's take 5
            to 9 % of their models (arXiv 2312.12456).
        epochs: times that the text is seen.
        batch: tokens per optimiser step.
        rate: AdamW's step size; half a cosine to zero.
        decay: AdamW's weight decay.
        held_out: share of the documents, the last ones, that are not trained on; the loss on
            them is stored.
        seed: of initial weights and order.
    """

    share: float = 0.1
    epochs: int = 6
    batch: int = 64
    rate: float = 4e-3
    decay: float = 1e-2
    held_out: float = 0.125
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """What one layer did on a text.

    Attributes:
        x: inputs of the block, [rows, H], in the model's dtype.
        active: boolean [rows, I], see :func:`~.activity.active`.
    """

    x: torch.Tensor
    active: torch.Tensor

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Several samples, one after the other."""
        return cls(torch.cat([s.x for s in samples]), torch.cat([s.active for s in samples]))


def train_predictor(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    recipe: PredictorRecipe,
    progress: Progress = silent,
) -> Predictor:
    """Train one predictor per layer, each by itself, with weighted binary cross-entropy.

    A layer's active neurons weigh as much as its inactive ones in total, as in Deja Vu (arXiv
    2310.17157): missing an active one is the error that costs accuracy.

    Args:
        model: dense.
        tokens: documents, int64 [T] each; the last ones are held out.
        prefill: positions that it keeps dense are not learnt from.
        recipe: how.
        progress: advances by one per layer.

    Raises:
        SparsityError: fewer than two documents, or the policy keeps every token dense, or the
            model has no neurons.
    """
    held_out = max(1, round(recipe.held_out * len(tokens)))
    if len(tokens) <= held_out:
        raise SparsityError(
            f"--sparsity-calibration: {len(tokens)} document is too little to train predictors of "
            "neurons on and to check them; give a longer text"
        )
    started = time.monotonic()
    layers: dict[int, LayerPredictor] = {}
    losses: list[float] = []
    passes = trained = 0
    downs = list(down_sites(model).values())
    with progress(f"train predictors {model.name}", len(downs), "layer") as task:
        for group in _groups(model, downs, sum(map(len, tokens))):
            samples = collect(model, tokens, prefill, group)
            passes += 1
            # Joined outside inference mode: gradients may be taken with the copies.
            work = []
            for down in group:
                found = samples.pop(down.name)
                train, test = Sample.joined(found[:-held_out]), Sample.joined(found[-held_out:])
                if not len(train.x) or not len(test.x):
                    raise all_dense(prefill, "calibration text")
                work.append((down.layer, train, test, hidden_width(model, down, recipe.share)))
            trained = len(work[0][1].x)
            done = in_parallel(lambda w: _train_layer(*w, recipe), work, device=model.device)
            for down, (layer, loss) in zip(group, done, strict=True):
                layers[down.layer] = layer
                losses.append(round(loss, 4))
                task.advance(note=f"loss {loss:.3f}")
    provenance: dict[str, Any] = {
        **learnt_from(model, prefill, recipe),
        "training_tokens": trained,
        "held_out_loss": losses,
        "tokens": passes * sum(map(len, tokens)),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Predictor(layers, provenance)


def learnt_from(model: LanguageModel, prefill: PrefillPolicy, recipe: Any) -> dict[str, Any]:
    """The provenance of trained predictors that does not depend on how training went."""
    return {
        "weights": model.weights_hash,
        "model": model.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "prefill": prefill.name,
        "tail": tail_of(model),
        "recipe": asdict(recipe),
    }


def mlp_inputs(model: LanguageModel, downs: Iterable[Site]) -> dict[str, str]:
    """The sites that read what the MLPs of ``downs`` read, each with its ``down``.

    Raises:
        SparsityError: a layer has no site ``up``.
    """
    inputs = {f"{down.layer}.{model.into_mlp(down.layer)}": down.name for down in downs}
    if missing := inputs.keys() - {site.name for site in model.sites}:
        raise SparsityError(
            f"model {model.name} has no sites {sorted(missing)[:3]}, from whose inputs its neurons "
            "could be predicted; leave cold_skip out of --sparsity-methods for it"
        )
    return inputs


def collect(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    downs: Sequence[Site],
) -> dict[str, list[Sample]]:
    """What the dense model does in the layers of ``downs``: by site, a sample per document.

    Raises:
        SparsityError: a layer has no site ``up``, whose input the block reads.
    """
    inputs = mlp_inputs(model, downs)
    norms = {down.name: column_norms(down, model) for down in downs}
    tail = tail_of(model)

    def visit(site: str, x: torch.Tensor) -> torch.Tensor | None:
        if site in inputs:
            return x.clone()
        return active(x, norms[site], tail) if site in norms else None

    found: dict[str, list[Sample]] = {down.name: [] for down in downs}
    for document in observe_documents(model, prefill, tokens, visit):
        for up, down in inputs.items():
            x, neurons = document[up], document[down]
            assert x is not None
            assert neurons is not None
            found[down].append(Sample(x, neurons))
    return found


def hidden_width(model: LanguageModel, down: Site, share: float) -> int:
    """Hidden width of a predictor with ``share`` of its block's weights, at least 1."""
    block = {s.kind: s.module for s in model.sites if s.layer == down.layer and s.kind in BLOCK}
    weights = sum(math.prod(shape_of(module)) for module in block.values())
    width = block[model.into_mlp(down.layer)].in_features
    return max(1, round(share * weights / (width + down.module.in_features)))


#: The kinds of sites that make up a feed-forward block; without a gate, or fused, it has two.
BLOCK = ("gate", "up", "gate_up", "down")


def _train_layer(
    number: int, train: Sample, test: Sample, rank: int, recipe: PredictorRecipe
) -> tuple[LayerPredictor, float]:
    """A trained predictor on the CPU or where the samples are, and its held-out loss."""
    device, width, neurons = train.x.device, train.x.shape[1], train.active.shape[1]
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + number)
    # Trained on inputs of unit scale, which is then folded into first: Adam's steps have one
    # size, whatever the scale of the model's activations is.
    scale = float(train.x.float().square().mean().sqrt()) or 1.0
    first = torch.randn(rank, width, generator=generator) / width**0.5
    second = 0.1 * torch.randn(neurons, rank, generator=generator) / rank**0.5
    often = train.active.float().mean(0).clamp(1e-3, 1 - 1e-3)
    weight = (1 - often.mean()) / often.mean()
    parameters = [first.to(device), second.to(device), torch.logit(often) + weight.log()]
    layer = LayerPredictor(*(parameter.requires_grad_() for parameter in parameters))
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    steps = recipe.epochs * max(1, len(train.x) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def loss(x: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
        scores = layer.scores(x.float() / scale)
        return binary_cross_entropy_with_logits(scores, neurons.float(), pos_weight=weight)

    for chosen in _batches(len(train.x), steps, recipe.batch, generator):
        optimiser.zero_grad()
        loss(train.x[chosen], train.active[chosen]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        final = float(loss(test.x, test.active))
    first, second, bias = (parameter.detach() for parameter in parameters)
    return LayerPredictor(first / scale, second, bias), final


def _batches(
    rows: int, steps: int, size: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Random rows, ``size`` of them if there are so many; each comes once before any again."""
    size = min(size, rows)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(rows, generator=generator)
        yield order[:size]
        order = order[size:]


def _groups(model: LanguageModel, downs: Sequence[Site], tokens: int) -> Iterator[list[Site]]:
    """Layers one after the other, as many at a time as their samples fit in memory."""
    group: list[Site] = []
    held = 0
    for down in downs:
        # x in the model's dtype, down [N, I] has its width N; a byte per neuron.
        width, neurons = shape_of(down.module)
        need = tokens * (width * model.dtype.itemsize + neurons)
        if group and held + need > _BYTES:
            yield group
            group, held = [], 0
        group.append(down)
        held += need
    yield group
