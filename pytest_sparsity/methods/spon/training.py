"""Trains spontaneous vectors by KL(dense || sparse) on the logits, weights frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.prefill import all_dense
from pytest_sparsity.methods.reads import Kept, observe_kept
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import KINDS, LanguageModel, Site
from pytest_sparsity.models.cached import without_cache
from pytest_sparsity.models.divergence import kl_gradient
from pytest_sparsity.models.forward import in_turn
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.weights import plain_weight


@dataclass(frozen=True)
class Recipe:
    """How vectors are trained; stored with them.

    Attributes:
        steps: optimiser steps at most.
        sequences: sequences per step.
        length: tokens per sequence.
        rate: Adam's step size, in units of the mean magnitude that sparsification takes
            from each site's input, E|x - S(x)|, and what compression of weights is worth.
        warmup: steps of linear warm-up; a cosine to zero follows.
        held_out: training sequences kept apart for early stopping.
        check_every: steps between two looks at the held-out divergence.
        patience: looks without improvement after which training stops; before that, each
            sends it back to the best vectors, at half the rate.
        sites: kinds of sites that get a vector; a fused site does if all its parts do, and one of
            another kind if all kinds are named.
        layers: first and last layer that get vectors, inclusive; None for all.
        seed: of the choice of sequences.
    """

    steps: int = 100
    sequences: int = 6
    length: int = 256
    rate: float = 3e-2
    warmup: int = 5
    held_out: int = 8
    check_every: int = 20
    patience: int = 3
    sites: tuple[str, ...] = KINDS
    layers: tuple[int, int] | None = None
    seed: int = 0

    def chooses(self, site: Site) -> bool:
        """Whether ``site`` gets a vector."""
        inside = self.layers is None or self.layers[0] <= site.layer <= self.layers[1]
        # One vector cannot make up for what a layer loses in several places.
        inside = inside and site.places == 1
        whole = set(self.sites) >= set(KINDS)  # sites outside attention and MLP have no part there
        return inside and (whole or set(site.parts) <= set(self.sites))


def train(
    model: LanguageModel,
    plan: Plan,
    streams: Sequence[torch.Tensor],
    recipe: Recipe,
    progress: Progress = silent,
    teacher: LanguageModel | None = None,
    start: SpontaneousVectors | None = None,
) -> SpontaneousVectors:
    """Minimise E[KL(softmax z_dense || softmax z_sparse(a))] over the vectors a.

    The teacher is ``model`` itself, dense, unless its weights were compressed and the vectors
    are to make up for that, too; the student is a twin of ``model`` with ``plan`` attached and
    W a folded into its biases, exactly as it will run.  The vectors with the lowest held-out
    divergence are returned: those it started from, zero by default, if none was better.

    Args:
        model: dense.
        plan: what the vectors make up for; its own bias must be empty.
        streams: training text, one int64 token stream [T] per source; sequences are drawn
            from the sources in turn.
        recipe: how.
        progress: advances by one per step, with the loss.
        teacher: the model as it was loaded, dense; ``model`` by default.
        start: vectors of this model to start from, zero at sites that they lack.

    Returns:
        Vectors whose provenance holds the recipe, the loss curve and the cost.

    Raises:
        SparsityError: a stream is too short, the recipe chooses no site of the plan, the
            plan's policy keeps every token dense, or the loss is not finite.
    """
    sparse = set(plan.sparse_sites)
    chosen = [s for s in model.sites if s.name in sparse and recipe.chooses(s)]
    if not chosen:
        raise SparsityError(
            f"--sparsity-spon-sites and --sparsity-spon-layers leave no site of {model.name} "
            "to train; name at least one kind of site and a layer that exists"
        )
    draw = _Sequences(streams, recipe, model.first_tokens)
    teacher = teacher or model
    scale = _lost_magnitude(model, plan, draw.held_out, _changed(model, teacher))
    weights = [plain_weight(site, model.name).float() for site in chosen]
    a = [torch.zeros(w.shape[1], device=w.device) for w in weights]
    for vector, site in zip(a, chosen, strict=True):
        if start is not None and site.name in start.a:
            vector.copy_(start.a[site.name])
        vector.requires_grad_()
    steps = _Steps(a, [scale[site.name] for site in chosen], recipe)
    twin = model.twin()
    zeros = {s.name: torch.zeros(w.shape[0]) for s, w in zip(chosen, weights, strict=True)}
    started = time.monotonic()
    losses: list[float] = []
    held_out: list[tuple[int, float]] = []
    label = f"train spon {model.name} {plan.method} {plan.level:.2f}"
    with sparsify(twin, replace(plan, bias=zeros)), progress(label, recipe.steps, "step") as task:
        modules = {site.name: site.module for site in twin.sites}
        layers = [modules[site.name] for site in chosen]
        own = [layer.bias.detach().clone() for layer in layers]
        biases = [layer.bias for layer in layers]
        for bias in biases:
            bias.requires_grad_()
        student = _Student(teacher, twin, biases)

        def fold() -> None:
            with torch.no_grad():
                for bias, base, w, vector in zip(biases, own, weights, a, strict=True):
                    bias.copy_(base.float() + w @ vector)

        def check(step: int) -> _Checked:
            loss, _ = student.loss(draw.held_out, gradient=False)
            held_out.append((step, round(loss, 5)))
            return _Checked(loss, step, [p.detach().clone() for p in a])

        fold()
        best = check(0)
        step = 0
        while step < recipe.steps and best.loss > 0:  # or there is nothing to make up for
            fold()
            loss, gradients = student.loss(draw.next(), gradient=True)
            if not math.isfinite(loss):
                raise SparsityError(
                    f"training spontaneous vectors for {model.name} at level {plan.level:.2f} "
                    f"diverged at step {step}; train with a lower rate"
                )
            steps.take([w.T @ gradient for w, gradient in zip(weights, gradients, strict=True)])
            step += 1
            losses.append(round(loss, 5))
            task.advance(note=f"KL {loss:.3f}")
            if step % recipe.check_every == 0 or step == recipe.steps:
                fold()
                now = check(step)
                if now.loss < best.loss:
                    best = now
                elif step - best.step >= recipe.patience * recipe.check_every:
                    break
                else:
                    steps.go_back(best.vectors)
    provenance: dict[str, Any] = {
        "setting": "trained",
        "weights": model.weights_hash,
        "teacher": teacher.weights_hash,
        "model": model.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "method": plan.method,
        "level": plan.level,
        "prefill": plan.prefill.name,
        "start": "zeros" if start is None else start.provenance.get("setting", "given"),
        "recipe": asdict(recipe),
        "steps": step,
        "training_tokens": step * recipe.sequences * recipe.length,
        "seconds": round(time.monotonic() - started, 1),
        "loss": losses,
        "held_out_loss": held_out,
    }
    vectors = {site.name: vector for site, vector in zip(chosen, best.vectors, strict=True)}
    return SpontaneousVectors(vectors, provenance)


class _Checked(NamedTuple):
    """The held-out loss of vectors after so many steps."""

    loss: float
    step: int
    vectors: list[torch.Tensor]


class _Steps:
    """Adam's steps on the vectors, each in units of what its site loses."""

    def __init__(self, a: list[torch.Tensor], scales: list[float], recipe: Recipe) -> None:
        self._a = a
        groups = [{"params": [p], "lr": recipe.rate * s} for p, s in zip(a, scales, strict=True)]
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: _schedule(step, recipe)
        )

    def take(self, gradients: list[torch.Tensor]) -> None:
        """One optimiser step with these gradients, one per vector."""
        for vector, gradient in zip(self._a, gradients, strict=True):
            vector.grad = gradient
        self._optimiser.step()
        self._schedule.step()

    def go_back(self, vectors: list[torch.Tensor]) -> None:
        """Go on from earlier vectors, more carefully.

        Steps of one size for every batch sometimes leave the valley for good (seen at twice the
        default rate: the loss triples within five steps).
        """
        with torch.no_grad():
            for vector, value in zip(self._a, vectors, strict=True):
                vector.copy_(value)
        self._optimiser.state.clear()
        self._schedule.base_lrs = [rate / 2 for rate in self._schedule.base_lrs]
        for group in self._optimiser.param_groups:
            group["lr"] /= 2  # the next step's has been set already


class _Student:
    """The sparse twin, its dense teacher, and the biases that are trained."""

    def __init__(
        self, teacher: LanguageModel, twin: LanguageModel, biases: list[torch.nn.Parameter]
    ) -> None:
        self._teacher, self._twin, self._biases = teacher, twin, biases

    def loss(self, batch: torch.Tensor, *, gradient: bool) -> tuple[float, list[torch.Tensor]]:
        """Mean KL per token of ``batch`` [B, T], and its gradients by the biases."""

        def work(part: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
            part = part.to(self._teacher.device)
            with torch.no_grad(), in_turn(self._teacher):
                dense = self._teacher.decoder(
                    input_ids=part, **without_cache(self._teacher)
                ).last_hidden_state
            with torch.set_grad_enabled(gradient), in_turn(self._twin):
                sparse = self._twin.decoder(
                    input_ids=part, **without_cache(self._twin)
                ).last_hidden_state
            total, by_hidden = kl_gradient(
                self._teacher, dense.flatten(0, -2), self._twin, sparse.detach().flatten(0, -2)
            )
            if not gradient:
                return total, []
            # An expert that no token came to has no gradient.
            found = torch.autograd.grad(
                sparse, self._biases, by_hidden.reshape(sparse.shape), materialize_grads=True
            )
            return total, [g.float() for g in found]

        parts = in_parallel(work, batch[:, None].unbind(), device=self._teacher.device)
        total = 0.0
        sums: list[torch.Tensor] = []
        for loss, gradients in parts:
            total += loss
            sums = [s + g for s, g in zip(sums, gradients, strict=True)] if sums else gradients
        return total / batch.numel(), [s / batch.numel() for s in sums]


class _Sequences:
    """Draws sequences from the sources in turn; the tail of each source is held out."""

    def __init__(
        self, streams: Sequence[torch.Tensor], recipe: Recipe, first_tokens: Sequence[int]
    ) -> None:
        apart = math.ceil(recipe.held_out / len(streams)) * recipe.length
        for number, stream in enumerate(streams):
            if len(stream) < apart + 2 * recipe.length:
                raise SparsityError(
                    f"training text {number + 1} has {len(stream)} tokens; spontaneous vectors "
                    f"need at least {apart + 2 * recipe.length} per source: use a longer "
                    "calibration corpus"
                )
        self._streams = [stream[:-apart] for stream in streams]
        tails = torch.cat([stream[-apart:].view(-1, recipe.length) for stream in streams])
        self._recipe, self._drawn = recipe, 0
        self._first = torch.tensor(first_tokens, dtype=torch.long)
        self.held_out = self._led(tails[: recipe.held_out])
        self._generator = torch.Generator().manual_seed(recipe.seed)

    def next(self) -> torch.Tensor:
        """A batch [sequences, length]."""
        length = self._recipe.length
        rows = []
        for _ in range(self._recipe.sequences):
            stream = self._streams[self._drawn % len(self._streams)]
            self._drawn += 1
            start = int(torch.randint(len(stream) - length + 1, (1,), generator=self._generator))
            rows.append(stream[start : start + length])
        return self._led(torch.stack(rows))

    def _led(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows, behind what must stand before every text of the model."""
        kept = rows[:, : rows.shape[1] - len(self._first)]
        return torch.cat([self._first.expand(len(rows), -1), kept], 1)


def _schedule(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    rest = max(1, recipe.steps - recipe.warmup)  # the scheduler asks for step = steps, too
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / rest))


def _changed(model: LanguageModel, teacher: LanguageModel) -> dict[str, float]:
    """Site to ||W - W'|| / ||W||: how far its weights are from the teacher's."""
    if model is teacher:
        return {}
    found = {}
    for site, original in zip(model.sites, teacher.sites, strict=True):
        own, loaded = site.module.weight.float(), original.module.weight.float()
        found[site.name] = float((own - loaded).norm() / loaded.norm().clamp_min(1e-30))
    return found


def _lost_magnitude(
    model: LanguageModel, plan: Plan, batch: torch.Tensor, changed: Mapping[str, float]
) -> dict[str, float]:
    """Mean magnitude of what sparsification takes from every site, E|x - S(x)|, on ``batch``.

    A weight that is off by a share of its size loses about that share of its input, which
    adds up with the rest as independent errors do; it is all there is at level 0.

    It is the size of what a vector has to make up for, at every site and level; the mean
    and not the root mean square, or a few outlying channels would set the pace of all.

    Args:
        model: dense.
        plan: whose selectors define S.
        batch: int64 [B, T].
        changed: site to the relative change of its weights; empty for none.
    """

    def lost(site: str, found: Kept) -> tuple[float, int]:
        x = found.x.float()
        dropped = float((x - found.kept.float()).abs().sum())
        share = changed.get(site, 0.0)
        return math.hypot(dropped, share * float(x.abs().sum())), x.numel()

    totals = dict.fromkeys(plan.sparse_sites, (0.0, 0))
    for found in observe_kept(model, plan, batch.unbind(), lost):
        for site, (total, count) in found.items():
            totals[site] = (totals[site][0] + total, totals[site][1] + count)
    return _shared_by_experts(model, totals, plan)


def _shared_by_experts(
    model: LanguageModel, totals: Mapping[str, tuple[float, int]], plan: Plan
) -> dict[str, float]:
    """Means of sums and counts; experts that no token came to have that of their layer."""
    pools: dict[str, tuple[float, int]] = {}
    place = {site.name: site.pool for site in model.sites}
    for site, (total, count) in totals.items():
        before = pools.get(place[site], (0.0, 0))
        pools[place[site]] = before[0] + total, before[1] + count
    if not all(count for _, count in pools.values()):
        raise all_dense(plan.prefill, "training sequences")
    return {
        site: total / count if count else pools[place[site]][0] / pools[place[site]][1]
        for site, (total, count) in totals.items()
    }
