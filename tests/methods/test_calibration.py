from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
import torch

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.methods import calibrator as calibrator_module
from pytest_sparsity.methods import statistics
from pytest_sparsity.methods.calibration import (
    MAGNITUDES,
    Distribution,
    exact_quantiles,
    magnitude_quantiles,
)
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Threshold
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.registry import BUNDLED, by_name, wants_of
from pytest_sparsity.methods.teal import Teal
from pytest_sparsity.models import load_model, parallel

LEVELS = (0.0, 0.1, 0.25, 0.5, 0.5001, 0.55, 0.9, 0.999, 1.0)


def documents(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (length,), generator=generator) for length in lengths]


def inputs_of_sites(
    model: Any, texts: list[torch.Tensor], dense: PrefillPolicy
) -> dict[str, torch.Tensor]:
    """Site to all its inputs [rows, K] but the dense ones, by plain hooks."""
    seen: dict[str, list[torch.Tensor]] = {site.name: [] for site in model.sites}
    handles = [
        site.module.register_forward_pre_hook(
            lambda _, args, name=site.name: seen[name].append(args[0][0])
        )
        for site in model.sites
    ]
    with torch.inference_mode():
        for text in texts:
            model.model(input_ids=text[None], use_cache=False)
    for handle in handles:
        handle.remove()
    skipped = {"none": lambda n: 0, "first:1": lambda n: 1, "first:4": lambda n: 4}
    skip = skipped.get(dense.name, lambda n: (n + 1) // 2)
    return {site: torch.cat([x[skip(len(x)) :] for x in rows]) for site, rows in seen.items()}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("policy", ["first:1", "none", "first:4", "half"])
def test_thresholds_are_what_sorting_gives(dtype: str, policy: str) -> None:
    model = load_model("tiny-random", dtype=dtype)
    texts = documents(30, 17, 6)
    prefill = PrefillPolicy(policy)
    found = magnitude_quantiles(model, texts, LEVELS, prefill)
    assert tuple(found) == LEVELS
    for site, x in inputs_of_sites(model, texts, prefill).items():
        ordered = x.abs().flatten().float().sort().values
        for level in LEVELS[1:]:
            rank = math.ceil(Fraction(str(level)) * len(ordered))
            assert found[level][site] == float(ordered[rank - 1]), (site, level)
            dropped = torch.count_nonzero(Threshold(found[level][site])(x) == 0) / x.numel()
            assert dropped >= level - 1e-6
        assert found[0.0][site] == 0.0
        assert found[1.0][site] == float(ordered[-1])


@pytest.mark.usefixtures("one_thread")
def test_a_level_is_meant_as_it_is_written(tiny: Any) -> None:
    assert math.ceil(0.55 * 25 * 64) == 881  # of 1,600 activations, 55 % are 880
    (text,) = documents(26)
    x = inputs_of_sites(tiny, [text], FIRST_TOKEN_DENSE)["0.q"]
    assert x.numel() == 1600
    found = magnitude_quantiles(tiny, [text], [0.55], FIRST_TOKEN_DENSE)
    assert found[0.55]["0.q"] == float(x.abs().flatten().sort().values[879])


def test_thresholds_rise_with_the_level(tiny: Any) -> None:
    found = magnitude_quantiles(tiny, documents(20, 20), LEVELS, FIRST_TOKEN_DENSE)
    for site in tiny.sites:
        ladder = [found[level][site.name] for level in LEVELS]
        assert ladder == sorted(ladder)
        assert ladder[1] > 0
        assert len(set(ladder)) == len(LEVELS) or ladder[3] == ladder[4]


def test_sites_with_one_input_have_one_threshold(tiny: Any) -> None:
    found = magnitude_quantiles(tiny, documents(20, 20), [0.5], FIRST_TOKEN_DENSE)[0.5]
    assert list(found) == [site.name for site in tiny.sites]
    for layer in range(3):
        assert found[f"{layer}.q"] == found[f"{layer}.k"] == found[f"{layer}.v"]
        assert found[f"{layer}.gate"] == found[f"{layer}.up"]
        different = [found[f"{layer}.{kind}"] for kind in ("q", "o", "gate", "down")]
        assert len(set(different)) == 4


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_seen(tiny: Any, side: str) -> None:
    long, short = documents(12, 7)
    padding = torch.full((5,), 256)
    padded = torch.cat([padding, short] if side == "left" else [short, padding])
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :5] = 0
    mask[1] = mask[1] if side == "left" else mask[1].flip(0)
    seen: dict[str, torch.Tensor] = {}
    with torch.inference_mode(), observe(tiny, FIRST_TOKEN_DENSE, seen.__setitem__):
        tiny.model(input_ids=torch.stack([long, padded]), attention_mask=mask)
    expected = inputs_of_sites(tiny, [long, short], FIRST_TOKEN_DENSE)
    for site, x in expected.items():
        torch.testing.assert_close(seen[site], x, rtol=1e-4, atol=1e-4)


def test_observing_ends_with_the_block(tiny: Any) -> None:
    def hooks() -> int:
        return sum(len(module._forward_pre_hooks) for module in tiny.model.modules())

    before = hooks()
    with observe(tiny, FIRST_TOKEN_DENSE, print):
        assert hooks() > before
    assert hooks() == before
    with pytest.raises(KeyError, match="stop"), observe(tiny, FIRST_TOKEN_DENSE, print):
        raise KeyError("stop")
    assert hooks() == before


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_broken_activations_are_one_clear_sentence(value: float, dtype: str) -> None:
    model = load_model("tiny-random", dtype=dtype)
    model.model.get_submodule("model.layers.1.mlp.up_proj").weight[3, 5] = value
    with pytest.raises(SparsityError) as caught:
        magnitude_quantiles(model, documents(9, 9), [0.5], FIRST_TOKEN_DENSE)
    assert str(caught.value) == (
        "the dense model's activations at site 1.down contain NaN or infinity on the calibration "
        "text; the weights are damaged or their dtype overflows: try --sparsity-dtype float32"
    )


def test_a_policy_that_leaves_nothing_is_one_clear_sentence(tiny: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        magnitude_quantiles(tiny, documents(9, 7), [0.5], PrefillPolicy("first:9"))
    assert str(caught.value) == (
        "--sparsity-prefill first:9 keeps every token of the calibration text dense; use a "
        "smaller number, or none"
    )


def test_thresholds_do_not_depend_on_the_number_of_workers(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(parallel, "cores", lambda workers=workers: workers)
        texts = documents(60, 5, 20, 5, 33)
        found.append(magnitude_quantiles(tiny, texts, LEVELS, FIRST_TOKEN_DENSE))
    assert found[0] == found[1]


# --- distributions


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_distribution_has_the_exact_quantiles_or_nearly(dtype: str) -> None:
    model = load_model("tiny-random", dtype=dtype)
    texts = documents(40, 25)
    calibrator = make(model, tokens=texts)
    distributions = calibrator.distributions()
    for level in (0.0, 0.1, 0.5, 0.9, 1.0):
        exact = calibrator.quantiles(level)
        for site, x in inputs_of_sites(model, texts, FIRST_TOKEN_DENSE).items():
            found = distributions[site].quantile(level)
            # float32 is counted in buckets that are 1/128 wide, and interpolated inside.
            assert found == pytest.approx(exact[site], rel=1 / 128 if dtype == "float32" else 0)
            dropped = float((x.abs() <= found).float().mean()) if level else 0.0
            assert dropped == pytest.approx(level, abs=0.02), (site, level)
    assert distributions["0.q"].total == (39 + 24) * 64
    assert distributions["0.q"].zeros == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_distribution_knows_its_zeros(dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0, -0.0, 0.0, 1.0, -2.0, 3.0, -4.0, 0.5]], dtype=dtype)
    counts = MAGNITUDES.counter(None)("0.down", x)  # type: ignore[arg-type]
    found = Distribution(counts, dtype)
    assert (found.zeros, found.total) == (3 / 8, 8)
    assert [found.quantile(level) for level in (0.0, 0.1, 0.375)] == [0.0, 0.0, 0.0]
    assert found.quantile(0.5) == pytest.approx(0.5, rel=1 / 128)
    assert found.quantile(1.0) == pytest.approx(4.0, rel=1 / 128)


def test_a_skewed_distribution_needs_the_quantile_of_magnitudes() -> None:
    """TEAL's published icdf(0.5 + p/2) drops three quarters where half was asked for."""
    x = torch.rand(4000, generator=torch.Generator().manual_seed(0)).square()[None]  # one-sided
    found = Distribution(MAGNITUDES.counter(None)("0.down", x), x.dtype)  # type: ignore[arg-type]
    assert float((x <= found.quantile(0.5)).float().mean()) == pytest.approx(0.5, abs=0.01)
    symmetric = float(x.quantile(0.5 + 0.5 / 2))
    assert float((x <= symmetric).float().mean()) == pytest.approx(0.75, abs=0.01)


# --- the calibrator


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What every pass over the text that is really made collects."""
    made: list[list[str]] = []

    def collected(model: Any, tokens: Any, prefill: Any, wanted: list[Any], *rest: Any) -> Any:
        made.append([statistic.name for statistic in wanted])
        return statistics.collect(model, tokens, prefill, wanted, *rest)

    def resolved(
        model: Any, tokens: Any, levels: Any, prefill: Any, counts: Any, *rest: Any
    ) -> Any:
        if model.dtype == torch.float32:
            made.append([f"{name} {level}" for name in counts for level in sorted(levels)])
        return exact_quantiles(model, tokens, levels, prefill, counts, *rest)

    monkeypatch.setattr(calibrator_module, "collect", collected)
    monkeypatch.setattr(calibrator_module, "exact_quantiles", resolved)
    return made


def make(model: Any, cache: Path | None = None, **changes: Any) -> Calibrator:
    given = {"tokens": documents(12, 12), "prefill": FIRST_TOKEN_DENSE, **changes}
    return Calibrator(model, cache=cache, **given)


def test_everything_is_prepared_in_one_pass_and_one_for_float32(
    tiny: Any, passes: list[list[str]]
) -> None:
    wants = ["magnitudes", "activated_magnitudes"]
    for model in (tiny, load_model("tiny-random", dtype="bfloat16")):
        calibrator = make(model)
        calibrator.prepare([0.25, 0.5], wants)
        calibrator.prepare([0.5, 0.25], iter(wants))
        assert calibrator.quantiles(0.25) != calibrator.quantiles(0.5)
        assert list(calibrator.activated_quantiles(0.5)) == ["0.act", "1.act", "2.act"]
        calibrator.distributions()
    exactly = [f"{name} {level}" for name in wants for level in (0.25, 0.5)]
    assert passes == [wants, exactly, wants]


def test_a_second_level_of_sixteen_bits_needs_no_pass(passes: list[list[str]]) -> None:
    calibrator = make(load_model("tiny-random", dtype="bfloat16"))
    for level in (0.25, 0.5, 0.75):
        calibrator.quantiles(level)
    assert passes == [["magnitudes"]]


def test_the_cache_is_used_again(tiny: Any, passes: list[list[str]], tmp_path: Path) -> None:
    one = make(tiny, tmp_path)
    first, counts, cost = one.quantiles(0.5), one.statistic("magnitudes"), one.cost(level=0.5)
    again = make(tiny, tmp_path)
    again.prepare([0.25, 0.5])
    assert again.quantiles(0.5) == first
    assert passes == [["magnitudes"], ["magnitudes 0.5"], ["magnitudes 0.25"]]
    found = again.statistic("magnitudes")
    assert (found.rows, found.same_as, found.cost) == (counts.rows, counts.same_as, counts.cost)
    assert all(torch.equal(found.totals[s.name], counts.totals[s.name]) for s in tiny.sites)
    assert again.cost(level=0.5) == cost


def test_the_cost_counts_a_pass_once(tiny: Any) -> None:
    calibrator = make(tiny)
    wants = ("magnitudes", "activated_magnitudes")
    calibrator.prepare([0.5], wants)
    assert calibrator.cost(wants).tokens == calibrator.cost(wants[:1]).tokens == 24
    both = calibrator.cost(wants, 0.5)
    assert both.tokens == 48
    assert both.seconds > 0
    assert calibrator.cost(()).tokens == 0


def test_other_text_policy_or_weights_are_another_calibration(
    tiny: Any, small_model: Any, tmp_path: Path, passes: list[list[str]]
) -> None:
    others = [
        make(tiny, tmp_path),
        make(tiny, tmp_path, tokens=documents(12, 12, seed=1)),
        make(tiny, tmp_path, tokens=documents(24)),
        make(tiny, tmp_path, prefill=PrefillPolicy("none")),
        make(load_model("tiny-random", dtype="bfloat16"), tmp_path),
        make(small_model("llama"), tmp_path),
    ]
    for other in others:
        other.quantiles(0.5)
    assert len({other.hash for other in others}) == len(others)
    assert passes.count(["magnitudes"]) == len(others)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "",
        lambda content: json.dumps(content)[:-40],
        lambda content: "[1, 2]",
        lambda content: "\x00\xff",
        lambda content: json.dumps({**content, "schema": 0}),
        lambda content: json.dumps({**content, "calibration": "0" * 16}),
        lambda content: json.dumps({**content, "variant": 0.4}),
        lambda content: json.dumps({**content, "name": "activated_magnitudes"}),
        lambda content: json.dumps({**content, "cost": {}}),
        lambda content: json.dumps({**content, "thresholds": {"0.q": 1.0}}),
        lambda content: json.dumps({**content, "thresholds": None}),
        lambda content: json.dumps(
            {**content, "thresholds": {**content["thresholds"], "0.q": math.nan}}
        ),
        lambda content: json.dumps({**content, "thresholds": {**content["thresholds"], "0.q": -1}}),
    ],
)
def test_damaged_thresholds_are_made_again(tiny: Any, tmp_path: Path, damage: Any) -> None:
    first = make(tiny, tmp_path).quantiles(0.5)
    (path,) = (tmp_path / "calibrations").rglob("magnitudes-0.5.json")
    path.write_text(damage(json.loads(path.read_text())), encoding="latin-1")
    assert_made_again(path, lambda: make(tiny, tmp_path).quantiles(0.5) == first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-100],
        lambda content: content[:2000] + b"\xff" + content[2001:],
        lambda content: b"[1, 2]",
        lambda content: resaved(content, schema=0),
        lambda content: resaved(content, calibration="0" * 16),
        lambda content: resaved(content, variant=0),
        lambda content: resaved(content, places=["9.q"]),
    ],
)
def test_damaged_statistics_are_made_again(tiny: Any, tmp_path: Path, damage: Any) -> None:
    first = make(tiny, tmp_path).statistic("magnitudes").totals["2.down"]
    (path,) = (tmp_path / "calibrations").rglob("magnitudes.npz")
    path.write_bytes(damage(path.read_bytes()))
    assert_made_again(
        path,
        lambda: torch.equal(make(tiny, tmp_path).statistic("magnitudes").totals["2.down"], first),
    )


def resaved(content: bytes, **changes: Any) -> bytes:
    """The file of a statistic with another head."""
    with numpy.load(io.BytesIO(content)) as arrays:
        held = dict(arrays)
    held["head"] = numpy.array(json.dumps({**json.loads(str(held["head"])), **changes}))
    stream = io.BytesIO()
    numpy.savez_compressed(stream, **held)
    return stream.getvalue()


def assert_made_again(path: Path, same: Callable[[], bool]) -> None:
    """It is said once that the file is damaged, and then it is whole."""
    with pytest.warns(SparsityWarning) as caught:
        assert same()
    assert [str(warning.message) for warning in caught] == [
        f"calibration {path} is damaged or of another version: made again"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same()


def test_a_cache_that_cannot_be_written_is_one_clear_sentence(
    tiny: Any, tmp_path: Path, passes: list[list[str]]
) -> None:
    # A file where the folder should be stops root as well, whom permissions do not.
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(SparsityError, match=r"^cannot write .*/cache/calibrations/tiny-random-"):
        make(tiny, tmp_path / "cache").quantiles(0.5)
    assert passes == []  # it is told before the work


# --- methods


def test_teal_is_uniform_over_the_sites(tiny: Any) -> None:
    calibrator = make(tiny)
    plan = by_name()["teal"].plan(calibrator, 0.4)
    assert (plan.method, plan.level, plan.prefill, plan.bias) == (
        "teal",
        0.4,
        FIRST_TOKEN_DENSE,
        {},
    )
    assert plan.selectors == {s: Threshold(t) for s, t in calibrator.quantiles(0.4).items()}


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_threshold_must_be_a_magnitude(value: float) -> None:
    with pytest.raises(ValueError, match=f"a threshold must be finite and >= 0, not {value!r}"):
        Threshold(value)


def test_a_threshold_is_strict_and_does_not_write_into_its_input() -> None:
    x = torch.tensor([[-2.0, 2.0, 2.5, -0.0, math.nan]])
    before = x.clone()
    kept = Threshold(2.0)(x)
    assert torch.equal(kept.nan_to_num(9), torch.tensor([[0.0, 0.0, 2.5, 0.0, 9.0]]))
    assert torch.equal(x.nan_to_num(9), before.nan_to_num(9))
    assert Threshold(0.0)(torch.ones(4, 6).t()).is_contiguous()


@pytest.mark.parametrize("name", ["teal", "dense"])
def test_the_name_of_a_method_is_taken_once(name: str) -> None:
    class Mine(Teal):
        pass

    Mine.name = name
    with pytest.raises(SparsityError) as caught:
        by_name([Mine()])
    assert str(caught.value) == (
        f"pytest_sparsity_methods: a method named {name!r} is there already; give Mine another name"
    )


def test_added_methods_stand_beside_the_bundled_ones() -> None:
    class Mine(Teal):
        name = "mine"

    mine = Mine()
    assert by_name([mine]) == {**{m.name: m for m in BUNDLED}, "mine": mine}
    assert list(by_name())[:4] == ["teal", "teal_greedy", "cats", "wina"]


def test_a_method_that_does_not_say_what_it_wants_gets_quantiles() -> None:
    class Mine:
        name = "mine"
        parameters: ClassVar[dict[str, object]] = {}

        def plan(self, calibrator: Calibrator, level: float) -> Any:
            raise NotImplementedError

    assert wants_of(Mine()) == ("magnitudes",)
    assert wants_of(by_name()["topk"]) == ()
    assert wants_of(by_name()["cats"]) == ("activated_magnitudes",)
