"""Experts that are modules of their own: which tokens come to each is followed, however a layer
takes them out of what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from built_families import built
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.overrides import _get_current_function_mode

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.models.backbone import find_sites, use_linear_layers
from pytest_sparsity.models.grouped_experts import GroupedExperts
from pytest_sparsity.models.routing import routed_rows
from pytest_sparsity.models.separate_experts import follow_experts

EXPERTS, TOP, WIDTH = 4, 2, 32
Call = Callable[[int, torch.Tensor], torch.Tensor]


class Expert(nn.Module):
    """A gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(WIDTH, 24, bias=False)
        self.up_proj = nn.Linear(WIDTH, 24, bias=False)
        self.down_proj = nn.Linear(24, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As all of them compute."""
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


def pairs(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """As Mixtral does: an axis more, and rows by their numbers."""
    y = torch.zeros_like(x)
    for expert in range(EXPERTS):
        _, rows = torch.where((chosen == expert).t())
        y.index_add_(0, rows, call(expert, x[None, rows].reshape(-1, x.shape[-1])))
    return y


def flags(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """Rows by true and false, of all experts before any is called."""
    which = [(chosen == expert).any(-1) for expert in range(EXPERTS)]
    given = [x[own] for own in which]
    y = torch.zeros_like(x)
    for expert, own in enumerate(which):
        y[own] += call(expert, given[expert])
    return y


def in_order(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """As DeepSeek does: all rows sorted by expert, and parts of that; experts may not be called."""
    order = chosen.flatten().argsort(stable=True)
    made = x[order // TOP]
    y, begin = torch.zeros_like(x), 0
    for expert, size in enumerate(chosen.flatten().bincount(minlength=EXPERTS).tolist()):
        if size:
            own = call(expert, made[begin : begin + size])
            y.index_add_(0, order[begin : begin + size] // TOP, own)
        begin += size
    return y


def repeated(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """Each row as often as it has experts."""
    made, flat = x.repeat_interleave(TOP, dim=0), chosen.flatten()
    y = torch.zeros_like(made)
    for expert in range(EXPERTS):
        y[flat == expert] = call(expert, made[flat == expert])
    return y.view(-1, TOP, x.shape[-1]).sum(1)


def copied(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """Rows that are selected, and copied in another dtype."""
    y = torch.zeros_like(x)
    for expert in range(EXPERTS):
        rows = (chosen == expert).any(-1).nonzero()[:, 0]
        own = x.double().index_select(0, rows).to(x.dtype).contiguous()
        y.index_add_(0, rows, call(expert, own))
    return y


WAYS = [pairs, flags, in_order, repeated, copied]


class Layer(nn.Module):
    """Sends each token to two of four experts.

    Args:
        way: how it takes rows.
        chosen: experts of each token, int64 [T, 2]; None for those that its router chooses.
    """

    def __init__(self, way: Any, chosen: torch.Tensor | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))
        self.way, self.chosen = way, chosen

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the experts of each token give, added."""
        rows = hidden.reshape(-1, WIDTH)
        chosen = self.gate(rows).topk(TOP).indices if self.chosen is None else self.chosen
        made: torch.Tensor = self.way(rows, chosen, lambda expert, x: self.experts[expert](x))
        return made.view(hidden.shape)


def tables(rows: int) -> st.SearchStrategy[list[list[int]]]:
    """Two different experts for each of so many tokens."""
    two = st.lists(st.integers(0, EXPERTS - 1), min_size=TOP, max_size=TOP, unique=True)
    return st.lists(two, min_size=rows, max_size=rows)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@given(data=st.data())
def test_the_rows_of_an_expert_are_its_tokens(way: Any, data: st.DataObject) -> None:
    batch, length = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 6)))
    chosen = torch.tensor(data.draw(tables(batch * length)))
    turned = data.draw(st.booleans(), "the axes of tokens and sequences in memory")
    layer = Layer(way, chosen).requires_grad_(False)
    follow_experts(layer)
    seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for number, expert in enumerate(layer.experts):
        expert.down_proj.register_forward_pre_hook(
            lambda _, args, own=number: seen.setdefault(own, []).append((routed_rows(), args[0]))
        )
        expert.gate_proj.register_forward_pre_hook(
            lambda _, args, own=number: seen.setdefault(own, []).append((routed_rows(), args[0]))
        )
    shape = (length, batch, WIDTH) if turned else (batch, length, WIDTH)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(batch * length))
    hidden = hidden.transpose(0, 1) if turned else hidden
    layer(hidden)
    for expert in range(EXPERTS):
        wanted = (chosen == expert).any(-1).nonzero()[:, 0]
        for rows, x in seen.get(expert, []):
            assert torch.equal(rows.sort().values, wanted)
            if x.shape[-1] == WIDTH:
                assert torch.equal(x, hidden.reshape(-1, WIDTH)[rows])
        assert bool(seen.get(expert)) or not len(wanted)
    assert routed_rows() is None
    assert _get_current_function_mode() is None


def test_a_layer_that_fails_leaves_nothing_behind() -> None:
    def fails(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
        call(0, x[:1])
        raise ValueError("on the way")

    layer = Layer(fails)
    follow_experts(layer)
    layer.experts[1].register_forward_pre_hook(lambda *_: pytest.fail("is not called"))
    for _ in range(2):
        with pytest.raises(ValueError, match="on the way"):
            layer(torch.randn(1, 3, WIDTH))
        assert routed_rows() is None
        assert _get_current_function_mode() is None


def mixed(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """What experts read is a sum: of none of the tokens alone."""
    return pairs(x + x.mean(0), chosen, call)


def of_parts(x: torch.Tensor, chosen: torch.Tensor, call: Call) -> torch.Tensor:
    """What experts read is some channels of all tokens, as wide as a row."""
    wide = torch.cat([x, x], 1)[:, ::2].contiguous()
    return pairs(wide, chosen, call)


def put(model: Any, way: Any) -> Any:
    """A model of families' whose MLPs are layers of experts that take rows in this way."""
    torch.manual_seed(4)
    for layer in model.model.layers:
        layer.mlp = Layer(way).requires_grad_(False)
    return model


@pytest.mark.parametrize("way", [mixed, of_parts], ids=lambda way: way.__name__)
def test_rows_that_are_of_no_token_are_one_sentence(way: Any) -> None:
    model = put(built("phi"), way)
    use_linear_layers(model)
    with pytest.raises(SparsityError) as caught:
        find_sites(model)
    assert str(caught.value) == (
        "experts that are a Expert cannot be sparsified: which tokens come to them is not known, "
        "because what they read is not rows of what their layer reads; use another model"
    )


def test_a_router_of_another_library_is_found(wrapped: Any) -> None:
    class Packed(nn.Module):
        """Stores no matrix with a row for each of its results."""

        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.in_features, self.out_features = weight.shape[1], len(weight)
            self.packed = nn.Parameter(weight.flatten(), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.packed.view(self.out_features, self.in_features).t()

    model = put(built("phi"), pairs)
    for layer in model.model.layers:
        layer.mlp.gate = Packed(layer.mlp.gate.weight)
    assert any(site.routed for site in wrapped(model, "phi").sites)


def test_experts_without_a_router_are_one_sentence() -> None:
    model = put(built("phi"), pairs)
    for layer in model.model.layers:
        layer.mlp.chosen, layer.mlp.gate = torch.tensor([[0, 1]] * 4), nn.Identity()
    use_linear_layers(model)
    with pytest.raises(SparsityError) as caught:
        find_sites(model)
    assert str(caught.value) == (
        "PhiForCausalLM cannot be sparsified: which tokens come to 0.experts.0.gate is not known, "
        "because its experts are neither stacked as in transformers 5 nor a list of modules beside "
        "a router with a row for each; use another model"
    )


TEXT = torch.tensor([[7 * n % 256 for n in range(1, 13)], [11 * n % 256 for n in range(1, 13)]])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_expert_is_a_site_with_its_own_tokens(way: Any, wrapped: Any) -> None:
    """The first token of each sequence is kept dense, in the experts as well."""
    plain = put(built("phi"), way)
    model = wrapped(put(built("phi"), way), "phi")
    kinds = [f"experts.{n}.{kind}" for n in range(EXPERTS) for kind in ("gate", "up", "down")]
    assert [s.name for s in model.sites if s.layer == 1] == [
        f"1.{name}" for name in ("q", "k", "v", "o", *kinds)
    ]
    plan = Plan("by_hand", 0.5, {s.name: Threshold(0.4) for s in model.sites if s.routed})
    with torch.inference_mode():
        dense = plain(input_ids=TEXT, use_cache=False).logits
        assert torch.equal(model.model(input_ids=TEXT, use_cache=False).logits, dense)
        with sparsify(model, plan) as attached:
            attached.counting = True
            found = model.model(input_ids=TEXT, use_cache=False).logits
            counts = attached.achieved.counts
    skipped = read = 0

    def by_hand(layer: Layer) -> Callable[[torch.Tensor], torch.Tensor]:
        def masked(x: torch.Tensor, dense: bool, n: int) -> torch.Tensor:
            nonlocal skipped, read
            if dense:
                return x
            kept = torch.where(x.abs() > 0.4, x, 0)
            skipped, read = skipped + n * int((kept == 0).sum()), read + n * x.numel()
            return kept

        def run(hidden: torch.Tensor) -> torch.Tensor:
            rows = hidden.reshape(-1, WIDTH)
            made = torch.zeros_like(rows)
            for place, x in enumerate(rows):
                first = place % TEXT.shape[1] == 0
                for expert in layer.gate(x).topk(TOP).indices:
                    gate, up, down = (m.weight for m in layer.experts[int(expert)].children())
                    one, two = (masked(x, first, 24) for _ in range(2))
                    h = nn.functional.silu(gate @ one) * (up @ two)
                    made[place] += down @ masked(h, first, WIDTH)
            return made.view(hidden.shape)

        return run

    for layer in plain.model.layers:
        layer.mlp.forward = by_hand(layer.mlp)
    with torch.inference_mode():
        expected = plain(input_ids=TEXT, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float((found - dense).abs().max()) > 1e-2
    rows = {site.name: site.module.out_features for site in model.sites}
    assert sum(rows[name] * zeroed for name, (zeroed, _) in counts.items()) == skipped > 0
    assert sum(rows[name] * seen for name, (_, seen) in counts.items()) == read


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("as_tensor", [False, True])
@given(data=st.data())
def test_grouped_experts_compute_group_by_group(
    as_tensor: bool, transposed: bool, data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(sum(sizes))
    shape = (len(sizes), 5, 7) if transposed else (len(sizes), 7, 5)
    weight = nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False)
    layer = GroupedExperts(weight, transposed)
    x = torch.randn(sum(sizes), 5, generator=generator)
    parts = zip(x.split(sizes), weight, strict=True)
    expected = [part @ (own if transposed else own.t()) for part, own in parts]
    found = layer(x, torch.tensor(sizes) if as_tensor else sizes)
    assert torch.equal(found, torch.cat(expected))
    assert {own.weight.data_ptr() for own in layer.experts} == {own.data_ptr() for own in weight}
