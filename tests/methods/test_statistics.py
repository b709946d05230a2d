from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.methods.calibration import MAGNITUDES
from pytest_sparsity.methods.gated import ACTIVATED
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE
from pytest_sparsity.methods.statistics import Statistic, by_name, collect, register
from pytest_sparsity.methods.stored import Store
from pytest_sparsity.models.forward import run_documents

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(n)) for n in (20, 9, 31)
]


def summing(name: str, *at: str) -> Statistic:
    return Statistic(name, at, lambda model: lambda place, x: x.double().sum(0))


def inputs(model: Any) -> dict[str, torch.Tensor]:
    """Place to all its activations [rows, K] but the first of each text."""
    seen: dict[str, list[torch.Tensor]] = {}
    with observe(
        model, FIRST_TOKEN_DENSE, lambda p, x: seen.setdefault(p, []).append(x), also=[ACTIVATED]
    ):
        for text in TEXTS:
            with torch.inference_mode():
                model.model(input_ids=text[None])
    return {place: torch.cat(rows) for place, rows in seen.items()}


def test_all_statistics_are_summed_in_one_pass(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    handle = tiny.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    wanted = [summing("a", "k", "down"), summing("b", "act"), summing("c", "up", "q")]
    found = collect(tiny, TEXTS, FIRST_TOKEN_DENSE, wanted)
    handle.remove()
    assert len(calls) == len(TEXTS)
    expected = inputs(tiny)
    kinds = {"a": ["k", "down"], "b": ["act"], "c": ["q", "up"]}
    for name, summed in found.items():
        places = [f"{layer}.{kind}" for layer in range(3) for kind in kinds[name]]
        assert list(summed.totals) == places
        assert set(summed.rows.values()) == {20 + 9 + 31 - 3}
        for place in places:
            torch.testing.assert_close(summed.totals[place], expected[place].double().sum(0))
        assert summed.cost.tokens == 60
        assert summed.cost.seconds > 0


def test_a_statistic_of_a_site_that_is_not_the_first_to_read_its_tensor(
    tiny: Any, tmp_path: Path
) -> None:
    """The gate reads it before up does, and is not what is looked at: kept, and read again."""
    statistic = summing("only_up", "up")
    store = Store(tmp_path, "calibration")
    made = collect(tiny, TEXTS, FIRST_TOKEN_DENSE, [statistic])["only_up"]
    assert made.same_as == {f"{layer}.up": f"{layer}.up" for layer in range(3)}
    store.keep_sums(statistic, made)
    read = store.sums(statistic)
    assert read is not None
    assert list(read.totals) == list(made.totals)
    assert torch.equal(read.totals["2.up"], made.totals["2.up"])


def test_sites_that_read_one_tensor_share_its_sum(tiny: Any) -> None:
    calls: list[str] = []

    def counter(model: Any) -> Any:
        return lambda place, x: calls.append(place) or x.abs().sum(0)

    wanted = Statistic("shared", ("k", "v", "gate", "up"), counter)
    found = collect(tiny, TEXTS[:1], FIRST_TOKEN_DENSE, [wanted])["shared"]
    assert len(calls) == 2 * 3
    for layer in range(3):
        assert found.totals[f"{layer}.k"] is found.totals[f"{layer}.v"]
        assert found.same_as[f"{layer}.v"] == f"{layer}.k"  # q is not looked at
        assert found.totals[f"{layer}.gate"] is found.totals[f"{layer}.up"]


def test_the_activated_gate_is_what_the_mlp_multiplies(tiny: Any, small_model: Any) -> None:
    for model in (tiny, small_model("gemma3")):
        places = inputs(model)
        for layer, site in enumerate(s for s in model.sites if s.kind == "up"):
            up = places[f"{layer}.up"] @ site.module.weight.T
            torch.testing.assert_close(places[f"{layer}.act"] * up, places[f"{layer}.down"])


def test_floating_point_sums_do_not_depend_on_who_is_first(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_sparsity.models import parallel

    wanted = [Statistic("s", ("down",), lambda model: lambda place, x: x.sum(0))]
    sums = []
    for workers in (1, 3):
        monkeypatch.setattr(parallel, "cores", lambda workers=workers: workers)
        found = collect(tiny, TEXTS * 4, FIRST_TOKEN_DENSE, wanted)["s"]
        sums.append(found.totals["2.down"])
    assert torch.equal(*sums)


def test_layers_are_in_natural_order(small_model: Any) -> None:
    """PowerInfer's export sorts activation_10 before activation_2."""
    model = small_model("llama", num_hidden_layers=12)
    found = collect(model, TEXTS[:1], FIRST_TOKEN_DENSE, [summing("n", "down")])["n"]
    assert list(found.totals) == [f"{layer}.down" for layer in range(12)]
    by_hand: list[torch.Tensor] = []
    block = model.model.model.layers[10].mlp.down_proj
    handle = block.register_forward_pre_hook(lambda _, args: by_hand.append(args[0][0, 1:]))
    run_documents(model, TEXTS[:1])
    handle.remove()
    torch.testing.assert_close(found.totals["10.down"], by_hand[0].double().sum(0))


def test_a_name_is_taken_once_and_places_exist() -> None:
    assert by_name("magnitudes") is MAGNITUDES
    assert register(MAGNITUDES) is MAGNITUDES
    with pytest.raises(ValueError, match="a statistic named 'magnitudes' is there already"):
        register(summing("magnitudes", "down"))
    with pytest.raises(ValueError, match=r"statistic 'x' looks at \['head'\]: no such place"):
        register(summing("x", "head"))
    with pytest.raises(ValueError, match="no statistic is named 'x'; there are "):
        by_name("x")
