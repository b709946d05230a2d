"""Levels of a method in the grid, and whether a plan drops what it was asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.cats import OpenGate
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.topk import Largest
from pytest_sparsity.sweep import grid, model_store, sanity
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.plan_store import PlanStore
from pytest_sparsity.sweep.sanity import Dropped
from pytest_sparsity.sweep.session import SweepSession

TINY = "tiny-random"
#: Fraction of tiny-random's weights that are up rows and down columns.
UP_AND_DOWN = 2 * 160 / (2 * 64 + 2 * 32 + 3 * 160)


@pytest.fixture
def session(settings: Any, tmp_path: Any, sparsity_cache: Any) -> SweepSession:
    return SweepSession(
        replace(
            settings,
            models=(TINY,),
            methods=("teal", "teal_greedy", "cats", "wina", "topk", "nm_2_4", "nm_8_16"),
            levels=(0.25, 0.5),
            report=tmp_path,
            cache=sparsity_cache,
            dtype="float32",
            budgets=None,
        )
    )


# --- the grid


def test_patterns_stand_in_the_grid_at_their_level_only(settings: Any) -> None:
    settings = replace(settings, methods=("teal", "nm_2_4"), levels=(0.25, 0.5), spon=("off",))
    assert [c.id for c in grid.configurations(settings, ["m"])] == [
        *("m-dense", "m-teal-0.25", "m-teal-0.50", "m-nm_2_4-0.50"),
    ]
    settings = replace(settings, methods=("nm_8_16",), levels=(0.25, 0.5))
    assert grid.default_configuration(settings, "m").id == "m-nm_8_16-0.50"


def test_a_method_without_a_level_is_one_clear_sentence(settings: Any) -> None:
    settings = replace(settings, methods=("teal", "nm_2_4"), levels=(0.25, 0.4))
    with pytest.raises(SparsityError) as caught:
        grid.configurations(settings, ["m"])
    assert str(caught.value) == (
        "method 'nm_2_4' is defined at level 0.5 only; add that to --sparsity-levels, or leave the "
        "method out of --sparsity-methods"
    )


# --- what is dropped


@pytest.mark.parametrize(
    ("method", "share"),
    [
        *(("teal", 1.0), ("teal_greedy", 1.0), ("wina", 1.0), ("topk", 1.0)),
        *(("nm_2_4", 1.0), ("nm_8_16", 1.0), ("cats", UP_AND_DOWN)),
    ],
)
def test_every_method_drops_what_it_was_asked_to(
    session: SweepSession, method: str, share: float
) -> None:
    configuration = Configuration(TINY, method, 0.5)
    dropped = sanity.dropped_when_dense(session, configuration)
    assert dropped.within(0.02), dropped
    assert dropped.asked == pytest.approx(0.5 * share, abs=1e-6)
    assert dropped.exact == (method in ("wina", "topk", "nm_2_4", "nm_8_16"))
    if dropped.exact:
        assert dropped.achieved == dropped.asked
    assert sanity.dropped_when_sparse(session, configuration) >= 0.5 * share - 0.02


@pytest.mark.parametrize(
    ("achieved", "over", "exact", "within"),
    [
        (0.5, 0.0, True, True),
        (0.4999, 0.0, True, False),
        (0.501, 0.0, True, False),
        (0.501, 0.01, True, True),
        (0.519, 0.0, False, True),
        (0.481, 0.0, False, True),
        (0.521, 0.0, False, False),
        (0.479, 0.0, False, False),
    ],
)
def test_exact_counts_have_no_tolerance(
    achieved: float, over: float, exact: bool, within: bool
) -> None:
    assert Dropped(achieved, 0.5, over, exact).within(0.02) is within


@pytest.mark.parametrize(
    "plan",
    [
        Plan("x", 0.25, {"1.down": Threshold(1e9)}),
        Plan("x", 0.25, {"1.down": Largest(39)}, exact=True),
        Plan("x", 0.25, {}, neurons={"1.down": OpenGate(1e9)}),
    ],
)
def test_a_plan_that_drops_something_else_is_found(
    session: SweepSession, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlanStore, "plan", lambda self, configuration: plan)
    dropped = sanity.dropped_when_dense(session, Configuration(TINY, "teal", 0.25))
    assert not dropped.within(0.02), dropped


@pytest.fixture
def relu_session(
    session: SweepSession, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> SweepSession:
    model = replace(small_model("arcee"), name=TINY)
    monkeypatch.setattr(model_store, "load_model", lambda source, **_: model)
    return session


@pytest.mark.parametrize("method", ["teal", "topk", "nm_2_4", "wina"])
def test_a_level_below_the_natural_zeros_is_not_missed(
    relu_session: SweepSession, method: str
) -> None:
    """More than half of a ReLU model's neurons are zero: what drops 50 % drops all of them."""
    for site in relu_session.models.load(TINY).sites:
        if site.kind == "up":
            site.module.weight[: len(site.module.weight) // 4] = 0  # a quarter is never active
    configuration = Configuration(TINY, method, 0.5)
    dropped = sanity.dropped_when_dense(relu_session, configuration)
    assert dropped.within(0.02), dropped
    assert dropped.achieved > 0.5


def test_a_plateau_is_in_the_record(relu_session: SweepSession) -> None:
    found = {}
    cells = [Cell(Configuration(TINY, "teal", x), "perplexity:austen") for x in (0.1, 0.3, 0.9)]
    for level, cell in zip((0.1, 0.3, 0.9), cells, strict=True):
        achieved = relu_session.record(cell).measured["achieved"]
        found[level] = achieved["plateau"], achieved["counts"]["2.down"]
    down = ["0.down", "1.down", "2.down"]
    assert [found[level][0] for level in (0.1, 0.3, 0.9)] == [down, down, []]
    others = [Cell(cell.configuration, "generation") for cell in cells]
    assert relu_session.plateaus([*cells, *others]) == {
        cell.configuration: tuple(down) for cell in cells[:2]
    }
    natural = found[0.1][1]
    assert natural[0] / natural[1] > 0.4


def test_what_was_needed_before_is_in_the_record(session: SweepSession) -> None:
    costs = {}
    for method in ("teal", "teal_greedy", "topk"):
        cell = Cell(Configuration(TINY, method, 0.5), "perplexity:austen")
        costs[method] = session.record(cell).measured["preparation"]
    tokens = sum(map(len, session.texts.calibration_tokens(TINY)))
    assert costs["teal"]["calibration"]["tokens"] == 2 * tokens  # float32: two passes
    assert costs["teal"]["calibration"]["seconds"] > 0
    assert set(costs["teal"]) == {"calibration"}
    assert costs["teal_greedy"]["method"]["seconds"] > 0
    assert costs["topk"] == {"calibration": {"tokens": 0, "seconds": 0}}


def test_calibration_is_disjoint_from_evaluation(session: SweepSession) -> None:
    """TEAL's published script measures on the text that it calibrates on."""
    texts = session.texts
    evaluated = {d.id for d in texts.evaluation_corpus("austen").documents}
    assert not evaluated & {d.id for d in texts.calibration_corpus.documents}
    rows = {tuple(w.tokens.tolist()) for w in texts.windows(TINY, "austen")}
    assert not rows & {tuple(t.tolist()) for t in texts.calibration_tokens(TINY)}
    assert all(isinstance(t, torch.Tensor) for t in texts.calibration_tokens(TINY))
