"""Figures of one model are pooled over seeds, and the page says how little a few seeds show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_sparsity.claims.catalog import CLAIMS
from pytest_sparsity.claims.finding import ClaimVerdict, Effect, Finding
from pytest_sparsity.claims.page.runs import ClaimsRun
from pytest_sparsity.claims.page.seeds import (
    agreement,
    seeds_gist,
    seeds_of_one,
    seeds_section,
)
from pytest_sparsity.core.statistics import Interval

ORIGIN: dict[str, Any] = {
    "profile": "quick",
    "settings": {"corpora": ["austen"]},
    "weights": "w",
    "dtype": "float32",
    "sizes": {"documents": 24},
    "target": {"name": "cpu"},
    "versions": {"torch": "2"},
    "read": {"perplexity:austen": [24, 144], "task:sva": [100, 400]},
}


def effect(value: float, label: str = "loss", unit: str = "nats", **changes: Any) -> Effect:
    interval = Interval(value, value - 0.2, value + 0.2, 24, 0.95, math.nan)
    return Effect(label, interval, unit, changes.get("limit", 0.0))


def run(
    seed: int,
    effects: Sequence[Effect] = (),
    model: str = "m",
    outcome: ClaimVerdict = ClaimVerdict.SUPPORTED,
    **origin: Any,
) -> ClaimsRun:
    finding = Finding("1", model, outcome, "why", tuple(effects))
    own = {k: v for k, v in {**ORIGIN, "seed": seed, **origin}.items() if v is not None}
    return ClaimsRun(f"{model}, quick, seed {seed}", model, {"1": finding}, own, {}, ())


def test_runs_that_differ_in_the_seed_only_are_put_together() -> None:
    runs = [run(1), run(0), run(0, model="n"), run(2, profile="full"), run(3, weights="x")]
    (group,) = seeds_of_one(runs)
    assert group.label == "m, quick, seeds 0 and 1"
    assert [each.origin["seed"] for each in group.runs] == [0, 1]
    assert (group.common, group.told) == (0.25, True)


def test_one_seed_has_no_section() -> None:
    assert seeds_section([run(0), run(0, model="n")], CLAIMS) == ""


def test_a_figure_is_pooled_with_the_spread_between_seeds() -> None:
    (group,) = seeds_of_one([run(0, [effect(0.4)]), run(1, [effect(0.6)])])
    ((together, pooled, each),) = group.effects("1")
    assert together.interval.estimate == pytest.approx(0.5)
    assert together.interval.high - together.interval.low > 0.4  # more than that of one
    assert pooled.between == pytest.approx(math.sqrt(0.02))
    assert [one.interval.estimate for one in each] == [0.4, 0.6]
    assert seeds_gist(group, "1").startswith(" loss 0.500 nats [-")
    assert "(SD between seeds 0.141 nats)" in seeds_gist(group, "1")


def test_what_cannot_be_pooled_is_left_out() -> None:
    without = [effect(0.4), effect(math.nan, "undefined"), effect(1.0, "once")]
    (group,) = seeds_of_one([run(0, without), run(1, without[:2])])
    assert [found[0].label for found in group.effects("1")] == ["loss"]
    assert list(group.effects("2")) == []
    assert seeds_gist(group, "2") == ""


def test_intervals_stay_within_what_is_possible() -> None:
    figures = [
        [effect(value, unit, unit) for unit in ("correlation", "count", "relative")]
        for value in (0.1, 0.9)
    ]
    (group,) = seeds_of_one([run(seed, own) for seed, own in enumerate(figures)])
    limits = {e.unit: (e.interval.low, e.interval.high) for e, _, _ in group.effects("1")}
    assert limits["correlation"] == (-1.0, 1.0)
    assert limits["count"][0] == 0.0
    assert limits["relative"][0] == -1.0


def test_the_page_says_how_little_two_seeds_show() -> None:
    runs = [run(0, [effect(0.4)]), run(1, [effect(0.6)])]
    shown = seeds_section(runs, CLAIMS)
    assert "2 seeds show little of the spread: the true SD is between 0.45 and 32 times" in shown
    assert "Of what one seed read, another read up to 25.0 %, too." in shown
    assert "Verdicts: those of all seeds are the same." in shown
    assert "Calibration and training are the same for all seeds" in shown
    (row,) = (line for line in shown.splitlines() if line.startswith("| 1 "))
    assert "0.400 nats, 0.600 nats" in row
    three = seeds_section([*runs, run(2, [effect(0.5)])], CLAIMS)
    assert "3 seeds show little of the spread: the true SD is between 0.52 and 6.3 times" in three


def test_runs_of_before_are_taken_to_have_read_the_same() -> None:
    (group,) = seeds_of_one([run(0, read=None), run(1)])
    assert (group.common, group.told) == (1.0, False)
    assert "all seeds are taken to have read the same" in seeds_section(list(group.runs), CLAIMS)


def test_seeds_that_disagree_are_named() -> None:
    (group,) = seeds_of_one([run(0), run(1, outcome=ClaimVerdict.REFUTED)])
    assert agreement(group, CLAIMS) == "seeds differ on 1 (supported and refuted)"
