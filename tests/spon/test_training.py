from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.spon import training
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.models import KINDS, load_model, parallel
from pytest_sparsity.models.compression.compress import compress
from pytest_sparsity.models.tiny import tensors_hash

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = Recipe(
    steps=8, sequences=4, length=32, warmup=2, held_out=4, check_every=4, rate=2e-1, patience=2
)


def text(seed: int, length: int = 2000) -> torch.Tensor:
    """Tokens with some structure: a random walk over the bytes."""
    steps = torch.randint(-3, 4, (length,), generator=torch.Generator().manual_seed(seed))
    return (steps.cumsum(0) + 100 * seed) % 256


STREAMS = [text(1), text(2)]


def plan_of(model: Any, level: float = 0.6) -> Plan:
    found = magnitude_quantiles(model, [STREAMS[0][:64]], [level], FIRST_TOKEN_DENSE)[level]
    return Plan("teal", level, {site: Threshold(value) for site, value in found.items()})


@pytest.fixture(scope="module")
def skewed() -> Any:
    """tiny-random with activations whose mean is not zero, as real models' are.

    Without that, what sparsity loses is zero on average and no constant makes up for it.
    """
    model = load_model("tiny-random", dtype="float32")
    head: Any = model.model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)  # tied until now
    table = model.model.get_input_embeddings().weight
    table += table.std() * torch.randn(64, generator=torch.Generator().manual_seed(0))
    return replace(model, weights_hash=tensors_hash(model.model))


@pytest.fixture(scope="module")
def trained(skewed: Any) -> Any:
    return train(skewed, plan_of(skewed), STREAMS, QUICK)


def divergence(model: Any, plan: Plan, tokens: torch.Tensor) -> float:
    """KL(dense || sparse) per token of [B, T], by its definition in float64."""
    with torch.inference_mode():
        dense = model.model(input_ids=tokens).logits.double().softmax(-1)
        with sparsify(model, plan):
            sparse = model.model(input_ids=tokens).logits.double().log_softmax(-1)
    return float((dense * (dense.log() - sparse)).sum(-1).mean())


def test_training_starts_from_what_it_is_given(skewed: Any, trained: Any) -> None:
    again = train(skewed, plan_of(skewed), STREAMS, replace(QUICK, steps=0), start=trained)
    lowest = min(loss for _, loss in trained.provenance["held_out_loss"])
    assert again.provenance["held_out_loss"] == [(0, lowest)]
    assert again.provenance["start"] == "trained"
    assert trained.provenance["start"] == "zeros"
    assert all(torch.equal(again.a[site], a) for site, a in trained.a.items())


# --- gradients


class Additive(nn.Module):
    """The layer with its vector written out: W (S(x) + a) + b, a trainable."""

    def __init__(self, layer: nn.Linear, a: torch.Tensor, threshold: float) -> None:
        super().__init__()
        self.layer, self.a, self.threshold = layer, a, threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.where(x.abs() > self.threshold, x, torch.zeros_like(x))
        kept = torch.cat([x[:, :1], kept[:, 1:]], 1)  # the first token is dense
        out: torch.Tensor = self.layer(kept) + self.layer.weight @ self.a
        return out


@contextmanager
def written_out(model: Any, vectors: dict[str, torch.Tensor], plan: Plan) -> Any:
    """A twin of the model whose chosen layers are :class:`Additive`, sparse without hooks."""
    twin = model.twin()
    for site in twin.sites:
        block = twin.decoder.layers[site.layer]
        owner = block.self_attn if site.kind in "qkvo" else block.mlp
        threshold = plan.selectors[site.name].value  # type: ignore[attr-defined]
        setattr(owner, f"{site.kind}_proj", Additive(site.module, vectors[site.name], threshold))
    yield twin


@pytest.mark.parametrize("family", ["tiny", "qwen2"])
def test_gradients_are_those_of_autograd_through_w_a(
    family: str, tiny: Any, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny if family == "tiny" else small_model(family)
    plan = plan_of(model)
    recipe = replace(QUICK, steps=3, warmup=0)
    steps: list[dict[str, torch.Tensor]] = []
    batches: list[torch.Tensor] = []
    values: list[dict[str, torch.Tensor]] = []
    names = [site.name for site in model.sites]

    class Spy(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            parameters = [p for group in self.param_groups for p in group["params"]]
            pairs = list(zip(names, parameters, strict=True))
            values.append({name: p.detach().clone() for name, p in pairs})
            steps.append({name: p.grad.clone() for name, p in pairs})
            return super().step(closure)

    drawn = training._Sequences.next

    def next_batch(self: Any) -> torch.Tensor:
        batches.append(drawn(self))
        return batches[-1]

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    monkeypatch.setattr(training._Sequences, "next", next_batch)
    found = train(model, plan, STREAMS, recipe)
    assert len(steps) == 3
    assert any(bool(a.any()) for a in values[2].values())
    for step, (batch, value, gradients) in enumerate(zip(batches, values, steps, strict=True)):
        a = {name: v.clone().requires_grad_() for name, v in value.items()}
        with written_out(model, a, plan) as twin, torch.no_grad():
            dense = model.model(input_ids=batch).logits.log_softmax(-1)
            with torch.enable_grad():
                sparse = twin.model(input_ids=batch).logits.log_softmax(-1)
                loss = (dense.exp() * (dense - sparse)).sum(-1).mean()
                expected = torch.autograd.grad(loss, list(a.values()))
        assert found.provenance["loss"][step] == pytest.approx(float(loss.detach()), abs=2e-5)
        for name, gradient in zip(a, expected, strict=True):
            scale = float(gradient.abs().max())
            assert scale > 0
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-3 * scale)


# --- what training does


def test_training_lowers_the_divergence_on_text_it_has_not_seen(skewed: Any, trained: Any) -> None:
    plan, unseen = plan_of(skewed), text(3).view(-1, 50)[:10]
    before = divergence(skewed, plan, unseen)
    after = divergence(skewed, replace(plan, bias=trained.fold(skewed)), unseen)
    assert after < 0.7 * before
    looks = dict(trained.provenance["held_out_loss"])
    assert list(looks) == [0, 4, 8]
    assert looks[8] < looks[4] < looks[0]


def test_what_is_reported_is_the_divergence_of_what_is_returned(skewed: Any, trained: Any) -> None:
    held_out = torch.cat([stream[-64:].view(-1, 32) for stream in STREAMS])
    plan = plan_of(skewed)
    looks = dict(trained.provenance["held_out_loss"])
    assert divergence(skewed, plan, held_out) == pytest.approx(looks[0], abs=2e-5)
    folded = replace(plan, bias=trained.fold(skewed))
    assert divergence(skewed, folded, held_out) == pytest.approx(looks[8], abs=2e-5)


def test_the_model_is_not_changed(skewed: Any, trained: Any) -> None:
    weights = tensors_hash(skewed.model)
    assert weights == skewed.weights_hash
    again = train(skewed, plan_of(skewed), STREAMS, replace(QUICK, steps=2))
    assert tensors_hash(skewed.model) == weights
    assert not any(p.requires_grad or p.grad is not None for p in skewed.model.parameters())
    assert all(site.module.bias is None for site in skewed.sites)
    assert not any(m._forward_pre_hooks for m in skewed.model.modules())
    assert not any(a.requires_grad for a in again.a.values())


def test_the_provenance_says_how(skewed: Any, trained: Any) -> None:
    own = trained.provenance
    expected = {
        "setting": "trained",
        "weights": skewed.weights_hash,
        "model": "tiny-random",
        "dtype": "float32",
        "method": "teal",
        "level": 0.6,
        "prefill": "first:1",
        "steps": 8,
        "training_tokens": 8 * 4 * 32,
    }
    assert {key: own[key] for key in expected} == expected
    assert own["recipe"]["rate"] == QUICK.rate
    assert len(own["loss"]) == 8
    assert own["seconds"] > 0


def test_the_seed_decides(skewed: Any, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (1, 2):
        monkeypatch.setattr(parallel, "cores", lambda workers=workers: workers)
        assert train(skewed, plan_of(skewed), STREAMS, QUICK).hash == trained.hash
    other = train(skewed, plan_of(skewed), STREAMS, replace(QUICK, seed=1))
    assert other.hash != trained.hash


def test_progress_counts_steps(tiny: Any) -> None:
    told: list[Any] = []

    class Task:
        def __enter__(self) -> Task:
            return self

        def __exit__(self, *_: Any) -> None:
            told.append("closed")

        def advance(self, amount: float = 1, note: str = "") -> None:
            told.append((amount, note[:3]))

    def progress(description: str, total: Any = None, unit: str = "it") -> Any:
        told.append((description, total, unit))
        return Task()

    train(tiny, plan_of(tiny), STREAMS, replace(QUICK, steps=2), progress)
    assert told == [
        ("train spon tiny-random teal 0.60", 2, "step"),
        (1, "KL "),
        (1, "KL "),
        "closed",
    ]


# --- sites and layers


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sites": ("down",)}, ["0.down", "1.down", "2.down"]),
        ({"layers": (1, 1)}, [f"1.{kind}" for kind in KINDS]),
        ({"sites": ("o", "q"), "layers": (1, 9)}, ["1.q", "1.o", "2.q", "2.o"]),
    ],
)
def test_chosen_sites_get_vectors(tiny: Any, changes: dict[str, Any], expected: list[str]) -> None:
    recipe = replace(QUICK, steps=1, warmup=0, **changes)
    found = train(tiny, plan_of(tiny), STREAMS, recipe)
    assert list(found.a) == expected
    widths = {site.name: site.module.in_features for site in tiny.sites}
    assert all(a.shape == (widths[site],) for site, a in found.a.items())


def test_only_planned_sites_get_vectors(tiny: Any) -> None:
    plan = plan_of(tiny)
    part = replace(plan, selectors={"1.up": plan.selectors["1.up"]})
    assert list(train(tiny, part, STREAMS, replace(QUICK, steps=1)).a) == ["1.up"]


@pytest.mark.parametrize("changes", [{"sites": ()}, {"layers": (3, 9)}, {"layers": (2, 1)}])
def test_nothing_to_train_is_one_clear_sentence(tiny: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(SparsityError) as caught:
        train(tiny, plan_of(tiny), STREAMS, replace(QUICK, **changes))
    assert str(caught.value) == (
        "--sparsity-spon-sites and --sparsity-spon-layers leave no site of tiny-random to train; "
        "name at least one kind of site and a layer that exists"
    )


# --- when it stops


def looking(monkeypatch: pytest.MonkeyPatch, model: Any, looks: list[float], **changes: Any) -> Any:
    """Train down projections with these held-out losses, one per look."""
    left = iter(looks)
    real = training._Student.loss

    def loss(self: Any, batch: torch.Tensor, *, gradient: bool) -> Any:
        return real(self, batch, gradient=True) if gradient else (next(left), [])

    monkeypatch.setattr(training._Student, "loss", loss)
    recipe = replace(QUICK, check_every=1, warmup=0, sites=("down",), **changes)
    return train(model, plan_of(model), STREAMS, recipe)


def test_it_stops_when_nothing_is_gained_and_returns_the_best(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = looking(monkeypatch, tiny, [9, 8, 7, 7.5, 7.2, 0], steps=6)
    assert stopped.provenance["steps"] == 4
    looks = [(0, 9), (1, 8), (2, 7), (3, 7.5), (4, 7.2)]
    assert stopped.provenance["held_out_loss"] == looks
    assert stopped.provenance["training_tokens"] == 4 * 4 * 32
    # The vectors are those of step 2: what a training reaches whose best look is the second.
    other = looking(monkeypatch, tiny, [9, 8, 7, 7.1, 7.1, 7.1, 7.1], steps=6, patience=9)
    assert other.provenance["steps"] == 6
    assert stopped.hash == other.hash


def test_a_worse_look_sends_it_back_to_the_best(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[list[torch.Tensor]] = []
    real = torch.optim.Adam.step

    def step(self: Any, *args: Any) -> Any:
        starts.append([p.detach().clone() for group in self.param_groups for p in group["params"]])
        return real(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    found = looking(monkeypatch, tiny, [9, 8, 8.5, 7, 6], steps=4)
    assert found.provenance["steps"] == 4
    down = torch.stack([torch.cat(vectors) for vectors in starts])
    assert torch.equal(down[2], down[1])
    assert not torch.equal(down[3], down[2])
    assert not torch.equal(torch.cat(list(found.a.values())), down[3])


def test_a_better_look_starts_the_patience_anew(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looking(monkeypatch, tiny, [9, 8, 8.5, 7, 7.5, 6, 6.5, 6.1, 0], steps=8)
    assert found.provenance["steps"] == 7


def test_a_setback_starts_again_from_the_best_vectors_at_half_the_rate(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One step before the only good look, and one step of half the rate after each setback.
    best = looking(monkeypatch, tiny, [9, 8, 8.5, 8.5], steps=3, patience=9)
    after_one = looking(monkeypatch, tiny, [9, 8, 8.5, 7], steps=3, patience=9)
    after_two = looking(monkeypatch, tiny, [9, 8, 8.5, 8.5, 7], steps=4, patience=9)
    far, near = (
        max(float((other.a[site] - a).abs().max()) for site, a in best.a.items())
        for other in (after_one, after_two)
    )
    assert 0 < near < far


def test_rounding_for_the_record_does_not_use_up_patience(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.123456 is kept as 0.12346, which is more than the best look itself.
    found = looking(monkeypatch, tiny, [1, 0.123456, 0.2, 0.1, 0.1], steps=4)
    assert found.provenance["steps"] == 4


def test_vectors_that_do_not_help_are_not_returned(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looking(monkeypatch, tiny, [1, 2, 3, 4], steps=9)
    assert found.provenance["steps"] == 2
    assert not any(bool(a.any()) for a in found.a.values())


def test_a_diverging_loss_is_one_clear_sentence(tiny: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        train(tiny, plan_of(tiny), STREAMS, replace(QUICK, rate=1e30, warmup=0))
    assert str(caught.value) == (
        "training spontaneous vectors for tiny-random at level 0.60 diverged at step 1; train "
        "with a lower rate"
    )


# --- the text


def test_text_that_is_too_short_is_one_clear_sentence(tiny: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        train(tiny, plan_of(tiny), [text(1), text(2, 127)], QUICK)
    assert str(caught.value) == (
        "training text 2 has 127 tokens; spontaneous vectors need at least 128 per source: use a "
        "longer calibration corpus"
    )


def test_a_policy_that_leaves_nothing_to_sparsify(tiny: Any) -> None:
    plan = replace(plan_of(tiny), prefill=PrefillPolicy("first:32"))
    with pytest.raises(SparsityError, match="first:32 keeps every token of the training sequences"):
        train(tiny, plan, STREAMS, QUICK)


def test_held_out_text_is_never_trained_on() -> None:
    streams = [torch.arange(1000), torch.arange(1000, 1500)]
    draw = training._Sequences(streams, replace(QUICK, length=10, held_out=3), ())
    held_out = set(draw.held_out.flatten().tolist())
    assert draw.held_out.shape == (3, 10)
    seen: set[int] = set()
    for _ in range(500):
        batch = draw.next()
        assert batch.shape == (4, 10)
        assert bool((batch.diff() == 1).all())  # running text, within one source
        seen |= set(batch.flatten().tolist())
    assert not seen & held_out
    assert len(seen) > 1400  # and all the rest is


@pytest.mark.parametrize("sequences", [1, 3, 4])
def test_every_source_is_drawn_from_in_turn(sequences: int) -> None:
    streams = [torch.zeros(200, dtype=torch.long), torch.ones(200, dtype=torch.long)]
    recipe = replace(QUICK, length=10, sequences=sequences)
    draw = training._Sequences(streams, recipe, ())
    sources = torch.cat([draw.next()[:, 0] for _ in range(4)])
    assert sources.tolist() == [0, 1] * (2 * sequences)


def test_sequences_start_with_several_tokens() -> None:
    draw = training._Sequences([torch.arange(200)], replace(QUICK, length=10), (255, 256))
    assert draw.held_out[:, :2].tolist() == [[255, 256]] * len(draw.held_out)
    assert draw.held_out.shape[1] == 10


def test_sequences_start_with_the_token_that_the_model_needs() -> None:
    streams = [torch.arange(200)]
    recipe = replace(QUICK, length=10, held_out=2)
    bare, led = (training._Sequences(streams, recipe, first) for first in ((), (256,)))
    for a, b in ((bare.held_out, led.held_out), (bare.next(), led.next())):
        assert a.shape == b.shape
        assert b[:, 0].tolist() == [256] * len(b)
        assert torch.equal(b[:, 1:], a[:, :-1])


def test_gemma_is_trained_as_it_is_evaluated(small_model: Any) -> None:
    model = small_model("gemma3")
    starts: set[int] = set()

    def watch(_: Any, args: Any, kwargs: Any) -> None:
        starts.update(kwargs["input_ids"][:, 0].tolist())

    plan = plan_of(model)
    handle = model.decoder.register_forward_pre_hook(watch, with_kwargs=True)
    train(model, plan, STREAMS, replace(QUICK, steps=1))
    handle.remove()
    assert starts == {256}


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (5, 5), (3, 5), (8, 2)])
def test_the_rate_rises_and_falls(steps: int, warmup: int) -> None:
    recipe = replace(QUICK, steps=steps, warmup=warmup)
    rates = [training._schedule(step, recipe) for step in range(steps + 1)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[:warmup] == [(step + 1) / warmup for step in range(min(warmup, steps + 1))]
    if steps > warmup:
        assert rates[warmup] == 1
        assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
        assert math.isclose(rates[-1], 0, abs_tol=1e-12)


# --- compressed weights


def test_vectors_make_up_for_compressed_weights(skewed: Any) -> None:
    """At level 0 nothing else is lost; the teacher is the model as it was loaded."""
    compressed = compress(skewed, "magnitude-0.5").model
    plan = plan_of(compressed, 0.0)
    found = train(compressed, plan, STREAMS, replace(QUICK, steps=16), teacher=skewed)
    assert (found.provenance["weights"], found.provenance["teacher"]) == (
        compressed.weights_hash,
        skewed.weights_hash,
    )
    losses = [loss for _, loss in found.provenance["held_out_loss"]]
    assert min(losses) < 0.95 * losses[0]
    alone = train(compressed, plan, STREAMS, QUICK)
    assert alone.provenance["teacher"] == compressed.weights_hash
    assert not any(vector.any() for vector in alone.a.values())  # nothing is lost
    assert alone.provenance["held_out_loss"] == [(0, 0.0)]  # and no time on looking for it


def test_the_student_may_be_of_another_dtype(skewed: Any) -> None:
    """A cast has a head of its own; its hidden states do not fit the teacher's."""
    plan = plan_of(skewed)
    narrow = compress(skewed, "bfloat16").model
    found = train(narrow, plan, STREAMS, replace(QUICK, steps=4), teacher=skewed)
    looks = [loss for _, loss in found.provenance["held_out_loss"]]
    assert min(looks) < 0.9 * looks[0]
    assert found.provenance["dtype"] == "bfloat16"


def test_the_pace_adds_up_what_both_take(skewed: Any) -> None:
    compressed = compress(skewed, "magnitude-0.5").model
    batch = STREAMS[0][:64].view(2, 32)
    plan, dense = plan_of(compressed, 0.6), plan_of(compressed, 0.0)
    changed = training._changed(compressed, skewed)
    assert 0.2 < changed["1.down"] < 0.5
    by_level = training._lost_magnitude(compressed, plan, batch, {})
    by_weights = training._lost_magnitude(compressed, dense, batch, changed)
    both = training._lost_magnitude(compressed, plan, batch, changed)
    assert training._changed(skewed, skewed) == {}
    for site, lost in both.items():
        assert max(by_level[site], by_weights[site]) < lost < by_level[site] + by_weights[site]
