"""Experts as linear layers: those whose weights are stacked, and those that are kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from built_families import APART, built

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.registry import by_name, find
from pytest_sparsity.models.backbone import find_sites, use_linear_layers
from pytest_sparsity.models.experts import use_expert_layers
from pytest_sparsity.models.routing import routed_rows

ROUTED = ("mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3")
#: Two sequences of one length, so that rows of a batch are no positions.
TEXT = torch.tensor([[7 * n % 256 for n in range(1, 25)], [11 * n % 256 for n in range(1, 25)]])


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
@pytest.mark.parametrize("family", ROUTED)
def test_experts_compute_what_they_did(family: str, implementation: str) -> None:
    if APART and implementation != "eager":
        pytest.skip("transformers 4 computes one expert after another")
    model = built(family, implementation)
    with torch.inference_mode():
        expected = model(input_ids=TEXT, use_cache=False).logits
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    use_linear_layers(model)
    assert {p.untyped_storage().data_ptr() for p in model.parameters()} == storages
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.inference_mode():
        found = model(input_ids=TEXT, use_cache=False).logits
    if implementation == "eager":
        assert torch.equal(found, expected)
    else:  # the same products, added up in another order
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 2, 7, 24])
def test_experts_that_are_given_all_tokens_compute_what_they_did(tokens: int, wrapped: Any) -> None:
    """To the bit, though each expert's layer is given its own tokens only."""
    text = TEXT[:, :tokens]
    with torch.inference_mode():
        expected = built("llama4")(input_ids=text, use_cache=False).logits
    model = wrapped(built("llama4"), "llama4")
    rows: dict[str, int] = {}
    for site in model.sites:
        if site.name.startswith("1.experts.") and site.kind == "gate_up":
            site.module.register_forward_pre_hook(
                lambda _, args, name=site.name: rows.__setitem__(name, len(args[0]))
            )
    with torch.inference_mode():
        found = model.model(input_ids=text, use_cache=False).logits
    assert torch.equal(found, expected)
    assert sum(rows.values()) == 2 * tokens
    assert min(rows.values()) > 0


class BatchedExperts(torch.nn.Module):
    """All experts with all tokens, as GPT-OSS on a device in transformers 4."""

    def __init__(self) -> None:
        super().__init__()
        self.is_transposed = True
        self.gate_up_proj = torch.nn.Parameter(torch.randn(4, 5, 7), requires_grad=False)

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """[4, T, 7] of hidden [T, 5]; ``chosen`` is read by nobody here."""
        return torch.bmm(hidden.expand(4, -1, -1), self.gate_up_proj)


def test_a_product_of_all_experts_with_all_tokens_counts_those_that_are_routed() -> None:
    torch.manual_seed(5)
    model = BatchedExperts()
    hidden, chosen = torch.randn(6, 5), torch.tensor([[0, 2], [2, 0], [2, 1]]).repeat(2, 1)
    expected = model(hidden, chosen)
    use_expert_layers(model)
    seen = {}
    for expert, layer in enumerate(model.gate_up_proj.children()):
        layer.register_forward_pre_hook(
            lambda _, args, own=expert: seen.update({own: (routed_rows(), args[0])})  # type: ignore[misc]
        )
    found = model(hidden, chosen)
    for expert in range(4):
        own = (chosen == expert).any(-1)
        assert torch.equal(found[expert][own], expected[expert][own])
        assert not found[expert][~own].any()
        if own.any():
            assert torch.equal(seen[expert][0], own.nonzero()[:, 0])
            assert torch.equal(seen[expert][1], hidden[own])
    assert set(seen) == {0, 1, 2}


def test_an_expert_that_no_token_comes_to_runs_no_kernel(wrapped: Any) -> None:
    """Of four experts, three in every step of a decoding of one sequence."""
    model = wrapped(built("llama4"), "llama4")
    plan = Plan("by_hand", 0.5, {site.name: Threshold(0.4) for site in model.sites})
    given: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    with sparsify(model, plan):
        expected = model.model.generate(input_ids=TEXT[:1], **given)
    with sparsify(model, plan, kernels="torch") as attached:
        assert any(".experts." in name for name in attached.kernels)
        assert torch.equal(model.model.generate(input_ids=TEXT[:1], **given), expected)


def masked(x: torch.Tensor, threshold: float) -> torch.Tensor:
    return torch.where(x.abs() > threshold, x, 0)


class Plain:
    """Another model of the same weights, sparsified by hand, token by token."""

    def __init__(self, family: str, threshold: float) -> None:
        self.model = built(family, "eager")
        self.threshold = threshold
        self.skipped = self.read = 0.0
        for name, module in self.model.named_modules():
            router = name.rpartition(".")[2] in ("gate", "router")
            expert = ".experts." in name
            if isinstance(module, torch.nn.Linear) and "layers" in name and not (router or expert):
                module.forward = self.linear(module.forward, module.weight.shape[0])
            if type(module).__name__.endswith("Experts"):
                module.forward = self.experts(module)
            if isinstance(getattr(module, "experts", None), torch.nn.ModuleList):
                if hasattr(module, "moe"):  # DeepSeek, which chooses experts before that
                    module.moe = self.apart(module)
                else:
                    module.forward = self.routed_apart(module)

    def product(self, x: torch.Tensor, n: int, dense: bool) -> torch.Tensor:
        """What a product with a weight [N, K] reads of one token's x [K]."""
        sparse = masked(x, self.threshold)
        if dense:
            return x
        self.skipped += n * int((sparse == 0).sum())
        self.read += n * len(x)
        return sparse

    def linear(self, forward: Callable[..., Any], n: int) -> Callable[..., Any]:
        def run(x: torch.Tensor) -> torch.Tensor:
            rows = x.reshape(-1, x.shape[-1])
            own = [self.product(row, n, place % 24 == 0) for place, row in enumerate(rows)]
            return forward(torch.stack(own).view(x.shape))

        return run

    def experts(self, module: Any) -> Callable[..., Any]:
        def run(hidden: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            chosen, scores = [*given, *named.values()]
            if chosen.is_floating_point():
                chosen, scores = scores, chosen
            if APART:  # GPT-OSS, whose scores are of all experts there
                scores = scores.gather(1, chosen)
            flat = hidden.reshape(-1, hidden.shape[-1])
            result = torch.zeros_like(flat)
            biased = hasattr(module, "gate_up_proj_bias")
            for place, x in enumerate(flat):
                for expert, score in zip(chosen[place], scores[place], strict=True):
                    up, down = module.gate_up_proj[expert], module.down_proj[expert]
                    if getattr(module, "is_transposed", True):
                        up, down = up.t(), down.t()
                    dense = place % 24 == 0
                    h = F.linear(self.product(x, len(up), dense), up)
                    if biased:
                        h = h + module.gate_up_proj_bias[expert]
                    h = _gated(h) if APART else module._apply_gate(h)
                    y = F.linear(self.product(h, len(down), dense), down)
                    if biased:
                        y = y + module.down_proj_bias[expert]
                    result[place] += y * score
            return result.view(hidden.shape)

        return run

    def apart(self, module: Any) -> Callable[..., Any]:
        """Of experts that are modules of three layers each."""

        def run(hidden: torch.Tensor, chosen: torch.Tensor, scores: torch.Tensor) -> Any:
            result = torch.zeros_like(hidden)
            for place, x in enumerate(hidden):
                dense = place % 24 == 0
                for expert, score in zip(chosen[place], scores[place], strict=True):
                    layers = dict(module.experts[int(expert)].named_children())
                    names = ("w1", "w3", "w2") if "w1" in layers else _NAMES
                    gate, up, down = (layers[name].weight for name in names)
                    own = self.product(x, len(gate), dense)
                    h = F.silu(F.linear(own, gate))
                    h = h * F.linear(self.product(x, len(up), dense), up)
                    result[place] += score * F.linear(self.product(h, len(down), dense), down)
            return result

        return run

    def routed_apart(self, module: Any) -> Callable[..., Any]:
        """Of Mixtral and Qwen 3, whose router is a linear layer."""
        experts = self.apart(module)

        def run(hidden: torch.Tensor) -> Any:
            rows = hidden.view(-1, hidden.shape[-1])
            logits = module.gate(rows)
            scores, chosen = logits.softmax(-1).topk(2)
            if getattr(module, "norm_topk_prob", True):
                scores = scores / scores.sum(-1, keepdim=True)
            return experts(rows, chosen, scores).view(hidden.shape), logits

        return run


_NAMES = ("gate_proj", "up_proj", "down_proj")


def _gated(h: torch.Tensor) -> torch.Tensor:
    """The activation of GPT-OSS, which transformers 4 has inside the experts' forward."""
    gate, up = h[..., ::2].clamp(max=7.0), h[..., 1::2].clamp(-7.0, 7.0)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)


@pytest.mark.parametrize("family", ROUTED)
def test_masks_are_those_of_an_implementation_by_hand(family: str, wrapped: Any) -> None:
    """Each expert with the tokens that come to it, all but the first of each sequence."""
    plain = Plain(family, 0.4)
    with torch.inference_mode():
        expected = plain.model(input_ids=TEXT, use_cache=False).logits
    model = wrapped(built(family), family)
    with torch.inference_mode():
        dense = model.model(input_ids=TEXT, use_cache=False).logits
    plan = Plan("by_hand", 0.5, {site.name: Threshold(0.4) for site in model.sites})
    with sparsify(model, plan) as attached, torch.inference_mode():
        attached.counting = True
        found = model.model(input_ids=TEXT, use_cache=False).logits
    assert float((dense - expected).abs().max()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert attached.achieved.weighted == pytest.approx(plain.skipped / plain.read, rel=1e-6)
    with torch.inference_mode():
        assert torch.equal(model.model(input_ids=TEXT, use_cache=False).logits, dense)


@pytest.mark.parametrize("family", [*ROUTED, "llama4"])
def test_level_0_is_the_dense_model(family: str, wrapped: Any) -> None:
    model = wrapped(built(family), family)
    plan = Plan("none", 0.0, {site.name: Threshold(0.0) for site in model.sites})
    with torch.inference_mode():
        dense = model.model(input_ids=TEXT, use_cache=False).logits
        with sparsify(model, plan):
            assert torch.equal(model.model(input_ids=TEXT, use_cache=False).logits, dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_each", [False, True])
@pytest.mark.parametrize("family", ["mixtral", "llama4"])
def test_thresholds_are_of_the_tokens_that_were_routed(
    family: str, of_each: bool, dtype: torch.dtype, wrapped: Any
) -> None:
    """Of all tokens of the experts of a layer, or of those of each."""
    model = wrapped(built(family), family).twin(dtype)
    seen: dict[str, list[torch.Tensor]] = {}

    def hook_of(site: Any) -> Any:
        def hook(layer: Any, args: Any) -> None:
            if len(args[0]):
                seen.setdefault(site.name, []).append(args[0])
                seen.setdefault(site.pool, []).append(args[0])

        return hook

    experts = [s for s in model.sites if s.routed and s.kind in ("gate_up", "gate")]
    handles = [site.module.register_forward_pre_hook(hook_of(site)) for site in experts]
    with torch.inference_mode():
        model.model(input_ids=TEXT[:1, :2], use_cache=False)
    for handle in handles:
        handle.remove()
    calibrator = Calibrator(model, [TEXT[0, :2]], prefill=PrefillPolicy("none"))
    method = find(by_name(), "teal:experts" if of_each else "teal")
    found = method.plan(calibrator, 0.5).selectors
    assert set(found) == {site.name for site in model.sites}
    if family == "llama4":  # one of four experts a token
        assert any(site.name not in seen for site in experts)
    for site in experts:
        own = seen.get(site.name, seen[site.pool]) if of_each else seen[site.pool]
        every = torch.cat(own).abs().float().flatten().sort().values
        assert found[site.name] == Threshold(float(every[(len(every) + 1) // 2 - 1]))


def test_a_threshold_for_each_expert_needs_experts(wrapped: Any) -> None:
    calibrator = Calibrator(wrapped(built("phi3"), "phi3"), [TEXT[0]], prefill=FIRST_TOKEN_DENSE)
    with pytest.raises(SparsityError) as caught:
        find(by_name(), "teal:experts").plan(calibrator, 0.5)
    assert str(caught.value) == (
        "method teal:experts has a threshold for each expert, and phi3 has no experts; use teal"
    )
    with pytest.raises(SparsityError) as caught:
        find(by_name(), "teal:each")
    assert str(caught.value) == (
        "method teal:each: what stands behind the colon is experts; or leave it out"
    )


def test_the_first_token_is_left_out_of_calibration(wrapped: Any) -> None:
    model = wrapped(built("mixtral"), "mixtral")
    calibrator = Calibrator(model, [TEXT[0], TEXT[1]], prefill=FIRST_TOKEN_DENSE)
    rows = calibrator.statistic("magnitudes").rows
    assert rows["0.q"] == rows["1.o"] == 2 * 23
    first = "0.experts.gate" if APART else "0.experts.gate_up"
    assert rows[first] == rows["1.experts.down"] == 2 * 2 * 23


def test_an_expert_that_no_token_comes_to_counts_as_nothing(wrapped: Any) -> None:
    model = wrapped(built("mixtral"), "mixtral")
    plan = Plan("by_hand", 0.5, {site.name: Threshold(0.4) for site in model.sites})
    with sparsify(model, plan) as attached, torch.inference_mode():
        attached.counting = True
        model.model(input_ids=TEXT[:1, :2], use_cache=False)
        weights, counts = attached.achieved.weights, attached.achieved.counts
        assert 0 < attached.achieved.weighted < 1
    # One token that is not the first comes to two of four experts, of two layers.
    idle = [name for name, (_, seen) in counts.items() if not seen]
    assert len(idle) == 2 * 2 * (3 if APART else 2)
    assert all(weights[name] == 0 for name in idle)
    assert weights["0.q"] == 32 * 32


def test_experts_that_multiply_otherwise_are_one_sentence() -> None:
    model = built("gpt_oss")
    use_linear_layers(model)
    experts = model.model.layers[0].mlp.experts
    experts.forward = lambda hidden, *rest, **more: torch.add(hidden, experts.gate_up_proj[0])
    with pytest.raises(SparsityError) as caught:
        find_sites(model)
    assert "experts that compute with add cannot be sparsified" in str(caught.value)


def test_vectors_are_folded_into_each_expert(wrapped: Any) -> None:
    """A constant of an expert is added for the tokens that come to it."""
    model = wrapped(built("gpt_oss"), "gpt_oss")
    with torch.inference_mode():
        dense = model.model(input_ids=TEXT, use_cache=False).logits
    plan = Plan("none", 0.0, {}, bias={"1.experts.2.down": torch.full((32,), 0.5)})
    with sparsify(model, plan), torch.inference_mode():
        found = model.model(input_ids=TEXT, use_cache=False).logits
    other = built("gpt_oss", "eager")
    other.model.layers[1].mlp.experts.down_proj_bias[2] += 0.5
    with torch.inference_mode():
        expected = other(input_ids=TEXT, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(found, dense)
