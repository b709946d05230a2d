from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_sparsity.methods.attach import AchievedSparsity, sparsify, weighted_sparsity
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import load_model
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.sparse_linear import (
    SparseLinearInputs,
    error_bound,
    sparse_linear,
)

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 256, (24,), generator=torch.Generator().manual_seed(3))


def plan_of(model: Any, level: float = 0.5, policy: str = "first:1", biased: float = 0.0) -> Plan:
    """A plan with another threshold at every site; q, k and v do not share theirs."""
    quantiles = magnitude_quantiles(model, [TEXT], [level], FIRST_TOKEN_DENSE)[level]
    selectors = {
        site: Threshold(value * (1 + 0.01 * number))
        for number, (site, value) in enumerate(quantiles.items())
    }
    generator = torch.Generator().manual_seed(5)
    bias = {
        site.name: biased * torch.randn(site.module.out_features, generator=generator)
        for site in model.sites
        if biased and site.kind in ("k", "o", "down")
    }
    return Plan("teal", level, selectors, PrefillPolicy(policy), bias)


def logits(model: Any, tokens: torch.Tensor = TEXT, **given: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.model(input_ids=tokens[None], **given).logits[0]
    return found


class Seen:
    """Inputs before sparsification, inputs after it, and outputs of every site."""

    def __init__(self, model: Any) -> None:
        self.before: dict[str, torch.Tensor] = {}
        self.after: dict[str, torch.Tensor] = {}
        self.out: dict[str, torch.Tensor] = {}
        self._sites = model.sites
        self._watch(lambda m, f: m.register_forward_pre_hook(f), self.before)

    def behind(self) -> Seen:
        """Call it once a plan is attached: hooks run in the order of their registration."""
        self._watch(lambda m, f: m.register_forward_pre_hook(f), self.after)
        self._watch(lambda m, f: m.register_forward_hook(f), self.out)
        return self

    def _watch(self, register: Callable[..., Any], into: dict[str, torch.Tensor]) -> None:
        for site in self._sites:

            def hook(_: Any, args: Any, output: Any = None, name: str = site.name) -> None:
                into[name] = (args[0] if output is None else output)[0].clone()

            register(site.module, hook)


@pytest.mark.parametrize("biased", [0.0, 0.1])
@pytest.mark.parametrize("family", ["float32", "bfloat16", "qwen2"])
def test_a_sparse_layer_computes_the_reference(
    biased: float, family: str, small_model: Any
) -> None:
    model = small_model(family) if family == "qwen2" else load_model("tiny-random", dtype=family)
    plan = plan_of(model, biased=biased)
    seen = Seen(model)
    with sparsify(model, plan):
        seen.behind()
        logits(model)
        biases = {site.name: site.module.bias for site in model.sites}
    zeros = 0
    for site in model.sites:
        x, y, bias = seen.before[site.name], seen.out[site.name], biases[site.name]
        threshold = plan.selectors[site.name].value  # type: ignore[attr-defined]
        zeros += int((x[1:].abs() <= threshold).sum())
        weight = site.module.weight
        precision = Precision(x.dtype, torch.float32, torch.float32)
        for start, stop in ((0, 1), (1, 9), (9, 17), (17, 24)):  # the op takes up to 8 rows
            kept = threshold if start else 0.0
            inputs = SparseLinearInputs(x[start:stop], weight, kept, bias)
            bound = error_bound(inputs, precision)
            used = tolerance_used(y[start:stop], sparse_linear(inputs), bound)
            assert used.max() <= 1, site.name
    assert zeros > 0.4 * sum(x.numel() for x in seen.before.values())


def test_folded_biases_are_added_to_the_layers_own(small_model: Any) -> None:
    model = small_model("qwen2")
    plan = plan_of(model, biased=0.1)
    own = {site.name: site.module.bias for site in model.sites}
    assert own["0.k"] is not None
    assert own["0.down"] is None
    with sparsify(model, plan):
        for site in model.sites:
            if site.kind == "k":
                assert torch.equal(site.module.bias, own[site.name] + plan.bias[site.name])
            elif site.kind in ("o", "down"):
                assert torch.equal(site.module.bias, plan.bias[site.name])
            else:
                assert site.module.bias is own[site.name]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_detaching_leaves_the_model_bit_identical(family: str, small_model: Any) -> None:
    model = small_model(family)

    def state() -> tuple[Any, ...]:
        hooks = [
            (len(m._forward_pre_hooks), len(m._forward_hooks), len(m._forward_hooks_always_called))
            for m in model.model.modules()
        ]
        return hooks, [id(site.module.bias) for site in model.sites], list(model.decoder.__dict__)

    before, dense = state(), logits(model)
    stored = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    attached = sparsify(model, plan_of(model, biased=0.1))
    assert not torch.allclose(logits(model), dense, atol=1e-2)
    assert state() != before
    attached.detach()
    attached.detach()
    assert state() == before
    assert torch.equal(logits(model), dense)
    after = model.model.state_dict()
    assert list(after) == list(stored)
    assert all(torch.equal(after[name], tensor) for name, tensor in stored.items())


def test_an_exception_inside_the_block_detaches(tiny: Any) -> None:
    dense = logits(tiny)
    with pytest.raises(KeyError, match="stop"), sparsify(tiny, plan_of(tiny)):
        raise KeyError("stop")
    assert torch.equal(logits(tiny), dense)


def test_an_exception_inside_a_forward_pass_leaves_nothing_behind(tiny: Any) -> None:
    def stop(*_: Any) -> None:
        raise KeyError("stop")

    with sparsify(tiny, plan_of(tiny)):
        expected = logits(tiny)
        handle = tiny.sites[8].module.register_forward_hook(stop)
        with pytest.raises(KeyError, match="stop"):
            logits(tiny, TEXT[:5])
        handle.remove()
        assert torch.equal(logits(tiny), expected)


def test_detaching_twice_does_not_take_off_the_next_plan(tiny: Any) -> None:
    first = sparsify(tiny, plan_of(tiny))
    first.detach()
    with sparsify(tiny, plan_of(tiny, 0.25)):
        first.detach()
        with pytest.raises(ValueError, match="has a plan attached already; detach it first"):
            sparsify(tiny, plan_of(tiny))


def test_a_second_plan_is_refused_and_changes_nothing(tiny: Any) -> None:
    with sparsify(tiny, plan_of(tiny)):
        expected = logits(tiny)
        message = "^tiny-random has a plan attached already; detach it first$"
        with pytest.raises(ValueError, match=message):
            sparsify(tiny, plan_of(tiny, 0.9))
        assert torch.equal(logits(tiny), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"selectors": {"3.q": Threshold(1.0)}},
            "the plan names sites that tiny-random lacks: ['3.q']",
        ),
        (
            {"selectors": {}, "bias": {"0.head": torch.zeros(3)}},
            "the plan names sites that tiny-random lacks: ['0.head']",
        ),
        (
            {"selectors": {}, "bias": {"0.k": torch.zeros(64)}},
            "the bias of 0.k must have shape [32], not [64]",
        ),
        (
            {"selectors": {}, "bias": {"0.k": torch.zeros(1, 32)}},
            "the bias of 0.k must have shape [32], not [1, 32]",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    tiny: Any, changes: dict[str, Any], message: str
) -> None:
    dense = logits(tiny)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        sparsify(tiny, Plan("teal", 0.5, **changes))
    assert torch.equal(logits(tiny), dense)
    sparsify(tiny, plan_of(tiny)).detach()


def test_level_zero_is_dense_bit_by_bit(tiny: Any) -> None:
    dense = logits(tiny)
    with sparsify(tiny, Plan("teal", 0, {s.name: Threshold(0.0) for s in tiny.sites})) as attached:
        attached.counting = True
        assert torch.equal(logits(tiny), dense)
        assert attached.achieved.weighted == 0


def test_sites_with_one_input_and_one_threshold_are_sparsified_once(tiny: Any) -> None:
    calls: list[float] = []

    class Counted(Threshold):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(self.value)
            return super().__call__(x)

    shared = Counted(0.5)
    with sparsify(tiny, Plan("teal", 0.5, {site.name: shared for site in tiny.sites})):
        once = logits(tiny)
    assert len(calls) == 3 * 4  # per layer: qkv, o, gate and up, down
    # Thresholds that compare as different are applied one by one, to the same effect.
    apart = {site.name: Threshold(0.5 + 1e-9 * n) for n, site in enumerate(tiny.sites)}
    with sparsify(tiny, Plan("teal", 0.5, apart)):
        assert torch.equal(logits(tiny), once)


# --- which positions


def by_steps(model: Any, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
    """Logits [T, V]: the prompt at once, then token by token from the cache."""
    with torch.inference_mode():
        output = model.model(input_ids=tokens[None, :prompt], use_cache=True)
        rows = [output.logits[0]]
        for token in tokens[prompt:]:
            output = model.model(
                input_ids=token[None, None],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            rows.append(output.logits[0])
    return torch.cat(rows)


@pytest.mark.parametrize("policy", ["none", "first:1", "first:6"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_decoding_steps_are_what_one_pass_gives(policy: str, family: str, small_model: Any) -> None:
    model = small_model(family)
    with sparsify(model, plan_of(model, policy=policy)):
        whole, steps = logits(model), by_steps(model, TEXT, 4)
    torch.testing.assert_close(steps, whole, rtol=1e-3, atol=1e-3)


def test_the_policies_differ(tiny: Any) -> None:
    found = {}
    for policy in ("none", "first:1", "first:2", "half", "first:99"):
        with sparsify(tiny, plan_of(tiny, policy=policy)):
            found[policy] = logits(tiny)
    assert torch.equal(found["first:99"], logits(tiny))
    assert torch.equal(found["first:1"][0], found["first:2"][0])
    assert torch.equal(found["half"][:12], found["first:99"][:12])
    for a, b in (("none", "first:1"), ("first:1", "first:2"), ("first:2", "half")):
        assert not torch.allclose(found[a][-1], found[b][-1], atol=1e-3), (a, b)


def test_half_of_a_decoding_step_is_sparse(tiny: Any) -> None:
    tiny = tiny.twin()  # its hooks stay
    seen = Seen(tiny)
    with sparsify(tiny, plan_of(tiny, policy="half")):
        seen.behind()
        by_steps(tiny, TEXT[:9], 8)
    assert all((x == 0).any(-1).all() for x in seen.after.values())


@pytest.mark.parametrize("policy", ["none", "first:1", "first:3", "half"])
@pytest.mark.parametrize("explicit", [False, True])
def test_left_padding_changes_nothing(tiny: Any, policy: str, explicit: bool) -> None:
    short, padding = TEXT[:8], torch.full((4,), 256)
    batch = torch.stack([TEXT[8:20], torch.cat([padding, short])])
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    given = {"attention_mask": mask}
    if explicit:  # without them rotary angles count the padding; only distances matter
        given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    with sparsify(tiny, plan_of(tiny, policy=policy)) as attached:
        alone = [logits(tiny, TEXT[8:20]), logits(tiny, short)]
        attached.counting = True
        for tokens in (TEXT[8:20], short):
            logits(tiny, tokens)
        counts = attached.achieved.counts
        attached.achieved.reset()
        with torch.inference_mode():
            together = tiny.model(input_ids=batch, **given).logits
        assert attached.achieved.counts == counts
    torch.testing.assert_close(together[0], alone[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together[1, 4:], alone[1], rtol=1e-3, atol=1e-3)


def test_generation_of_a_padded_batch_is_that_of_its_prompts(tiny: Any) -> None:
    prompts = [TEXT[:9], TEXT[9:14]]
    batch = torch.stack([prompts[0], torch.cat([torch.full((4,), 256), prompts[1]])])
    mask = (batch != 256).long()
    settings = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
    with sparsify(tiny, plan_of(tiny)):
        together = tiny.model.generate(input_ids=batch, attention_mask=mask, **settings)
        for prompt, path in zip(prompts, together, strict=True):
            alone = tiny.model.generate(
                input_ids=prompt[None], attention_mask=torch.ones_like(prompt)[None], **settings
            )
            assert path[9:].tolist() == alone[0, len(prompt) :].tolist()


@pytest.mark.parametrize("policy", ["none", "first:1", "first:3", "half"])
def test_packed_sequences_have_a_first_token_each(tiny: Any, policy: str) -> None:
    parts = [TEXT[:6], TEXT[6:11], TEXT[11:24]]
    places = torch.cat([torch.arange(len(part)) for part in parts])
    owner = torch.cat([torch.full((len(part),), n) for n, part in enumerate(parts)])
    seen = (owner[:, None] == owner) & (places[:, None] >= places)
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    with sparsify(tiny, plan_of(tiny, policy=policy)):
        packed = hidden_states(tiny, torch.cat(parts), places, mask)
        alone = torch.cat([hidden_states(tiny, part) for part in parts])
    torch.testing.assert_close(packed, alone, rtol=1e-3, atol=1e-3)


def test_a_layer_called_by_itself_has_no_first_token(tiny: Any) -> None:
    site = tiny.sites[0]
    x = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(0))
    plan = plan_of(tiny)
    expected = nn.functional.linear(plan.selectors[site.name](x), site.module.weight)
    with sparsify(tiny, plan):
        logits(tiny)
        torch.testing.assert_close(site.module(x), expected)


# --- counting


@pytest.mark.parametrize("policy", ["none", "first:1", "half"])
def test_achieved_counts_are_those_of_brute_force(tiny: Any, policy: str) -> None:
    plan = plan_of(tiny, 0.4, policy)
    skip = {"none": 0, "first:1": 1, "half": 12}[policy]
    tiny = tiny.twin()  # its hooks stay
    seen = Seen(tiny)
    with sparsify(tiny, plan) as attached:
        logits(tiny)
        assert not any(seen for _, seen in attached.achieved.counts.values())
        attached.counting = True
        logits(tiny)
        logits(tiny)
    for site in tiny.sites:
        x = seen.before[site.name][skip:]
        zeros = int((x.abs() <= plan.selectors[site.name].value).sum())  # type: ignore[attr-defined]
        assert attached.achieved.counts[site.name] == (2 * zeros, 2 * x.numel())
    skipped = sum(
        site.module.in_features * site.module.out_features * zeros / seen
        for site, (zeros, seen) in zip(tiny.sites, attached.achieved.counts.values(), strict=True)
    )
    total = 3 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
    assert attached.achieved.weighted == pytest.approx(skipped / total, rel=1e-12)
    assert 0.3 < attached.achieved.weighted < 0.6
    attached.achieved.reset()
    assert set(attached.achieved.counts.values()) == {(0, 0)}


def test_weights_are_counted_by_true_shapes(small_model: Any) -> None:
    model = small_model("qwen2")
    sizes = AchievedSparsity(model.sites).weights
    assert [sizes[f"1.{kind}"] for kind in ("q", "k", "v", "o", "gate", "up", "down")] == [
        *(32 * 32, 32 * 16, 32 * 16, 32 * 32),
        *(32 * 48, 32 * 48, 48 * 32),
    ]
    assert weighted_sparsity({"a": (1, 2), "b": (0, 9)}, {"a": 30, "b": 10}) == 15 / 40


def test_nothing_counted_is_not_a_sparsity_of_zero(tiny: Any) -> None:
    with sparsify(tiny, plan_of(tiny)) as attached:
        logits(tiny)
        with pytest.raises(ValueError, match="no activation was counted: set counting = True"):
            _ = attached.achieved.weighted


# --- twins and threads


def test_a_twin_shares_its_memory_and_leaves_the_original_alone(tiny: Any) -> None:
    dense, twin = logits(tiny), tiny.twin()
    ours = [*tiny.model.named_parameters(), *tiny.model.named_buffers()]
    theirs = [*twin.model.named_parameters(), *twin.model.named_buffers()]
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(a is b for (_, a), (_, b) in zip(ours, theirs, strict=True))
    assert not {id(m) for m in tiny.model.modules()} & {id(m) for m in twin.model.modules()}
    modules = dict(twin.model.named_modules())
    assert all(
        site.module is modules[f"model.layers.{site.layer}.{part}.{site.kind}_proj"]
        for site in twin.sites
        for part in ("self_attn" if site.kind in ("q", "k", "v", "o") else "mlp",)
    )
    assert twin.decoder is not tiny.decoder
    assert torch.equal(logits(twin), dense)
    with sparsify(twin, plan_of(tiny, biased=0.1)):
        sparse = logits(twin)
        assert torch.equal(logits(tiny), dense)
        with sparsify(tiny, plan_of(tiny, biased=0.1)):
            assert torch.equal(logits(tiny), sparse)
    assert all(site.module.bias is None for site in tiny.sites)


def test_threads_do_not_see_each_other(tiny: Any, in_threads: Any) -> None:
    generator = torch.Generator().manual_seed(9)
    texts = [torch.randint(0, 256, (n,), generator=generator) for n in (40, 7, 23, 1, 31, 12)]
    with sparsify(tiny, plan_of(tiny, policy="half", biased=0.1)) as attached:
        attached.counting = True
        alone = [logits(tiny, text) for text in texts]
        counts = attached.achieved.counts
        attached.achieved.reset()
        together = in_threads(lambda n: logits(tiny, texts[n]), len(texts))
        assert attached.achieved.counts == {s: (5 * z, 5 * n) for s, (z, n) in counts.items()}
    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(each, expected) for each in found)
