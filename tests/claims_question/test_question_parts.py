"""The question's parts say what was put into the records, and admit what they cannot say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_sparsity.claims.evidence import BrokenEvidence
from pytest_sparsity.claims.finding import ClaimVerdict, Finding
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.methods.neurons.report import FILE, read_reports
from pytest_sparsity.sweep.cell import ANSWER_LIKELIHOOD, Cell
from pytest_sparsity.sweep.record import Record

REASONING, HOT_COLD, FIRST = QUESTION
Make = Callable[..., Any]


def effect(finding: Finding, *words: str) -> Any:
    """The only effect whose label has all these words."""
    (found,) = [e for e in finding.effects if all(word in e.label for word in words)]
    return found


@pytest.mark.parametrize("claim", QUESTION, ids=lambda claim: claim.number)
def test_a_finding_uses_the_cells_that_were_announced(world: Make, claim: Any) -> None:
    made = world()
    finding = made.finding(claim)
    announced = {cell.id for cell in claim.cells("m", made.settings)}
    assert set(finding.cells) == announced
    assert Finding.from_json(json.loads(json.dumps(finding.to_json(), allow_nan=False))) == finding


def test_damage_that_grows_with_sparsity_is_seen(world: Make) -> None:
    finding = world().finding(REASONING)
    assert finding.outcome is ClaimVerdict.SUPPORTED
    for method in ("teal", "powerinfer"):
        found = effect(finding, method, "sparsity against loss, reasoning")
        assert found.interval.low > 0
        assert found.interval.confidence == pytest.approx(0.975)
        assert found.limit == 0
    assert effect(finding, "teal", "loss, knowledge").limit is None
    assert effect(finding, "deja_vu", "loss, reasoning").limit is None  # beside


def test_damage_that_shrinks_with_sparsity_refutes(world: Make, monkeypatch: Any) -> None:
    made = world()
    monkeypatch.setattr(type(made), "_nats", lambda self, cell: _shrinking(cell))
    finding = made.finding(REASONING)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert "teal" in finding.why


def _shrinking(cell: Cell) -> float:
    level = cell.configuration.level
    return 0.0 if level == 0 else 0.6 * (0.7 - level) ** 2 / 0.1


def test_no_damage_decides_nothing(world: Make) -> None:
    methods = ["dense", "teal", "powerinfer", "deja_vu"]
    finding = world(harm=dict.fromkeys(methods, 0.0)).finding(REASONING)
    assert finding.outcome is ClaimVerdict.INCONCLUSIVE


def test_divergence_and_greedy_text_stand_beside_accuracy(world: Make) -> None:
    finding = world().finding(REASONING)
    assert effect(finding, "teal 0.5: KL").interval.estimate == pytest.approx(0.45, rel=0.1)
    assert effect(finding, "teal 0.5: greedy tokens of 32").interval.estimate == 1.0
    assert [point["method"] for point in finding.data["text"]] == [
        method for method in ("teal", "powerinfer", "deja_vu") for _ in range(3)
    ]
    assert {point["family"] for point in finding.data["lost"]} == {
        "reasoning",
        "knowledge",
        "language",
    }


@pytest.mark.parametrize("claim", QUESTION, ids=lambda claim: claim.number)
def test_a_model_at_chance_is_no_evidence(world: Make, claim: Any) -> None:
    finding = world(dense={"reasoning": 0.25, "knowledge": 0.9, "language": 0.9}).finding(claim)
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert finding.why.count("no reasoning task is evidence") == 1
    assert not any("no reasoning task" in effect.label for effect in finding.effects)
    json.dumps(finding.to_json(), allow_nan=False)


def test_levels_of_the_full_profile(world: Make) -> None:
    levels = {c.configuration.level for c in REASONING.cells("m", world(profile="full").settings)}
    assert levels == {0.0, 0.25, 0.4, 0.5, 0.6}


# hot and cold neurons


def test_cold_neurons_alone_are_worst(world: Make) -> None:
    finding = world().finding(HOT_COLD)
    assert finding.outcome is ClaimVerdict.SUPPORTED
    found = effect(finding, "log-perplexity, cold_only less random_neurons on austen")
    assert found.interval.estimate == pytest.approx(4.0, rel=0.05)
    assert found.interval.confidence == pytest.approx(1 - 0.05 / 13)
    assert effect(finding, "perplexity, contribution against", "austen").unit == "relative"
    assert effect(finding, "perplexity, hot_only:model", "austen").limit is None
    other = effect(finding, "log-perplexity, powerinfer less deja_vu on austen")
    assert other.interval.estimate == pytest.approx(-0.1, rel=0.3)
    assert other.limit is None
    assert finding.data["methods"][0]["method"] == "cold_only"
    assert finding.data["neurons"][1]["hot"] == 0.6


@pytest.mark.parametrize(
    ("method", "off", "broken"),
    [("powerinfer", 0.028, False), ("powerinfer", 0.032, True), ("hot_only", 0.001, True)],
)
def test_what_is_compared_skips_the_same_share_of_the_weights(
    world: Make, monkeypatch: Any, method: str, off: float, broken: bool
) -> None:
    """A mean share within three points, a fixed one exactly."""
    made = world()
    measured = type(made)._measured

    def shifted(self: Any, cell: Cell, rng: Any, own: Any) -> dict[str, Any]:
        found = measured(self, cell, rng, own)
        if cell.configuration.method == method and "achieved" in found:
            found["achieved"]["weighted"] += off
        return found

    monkeypatch.setattr(type(made), "_measured", shifted)
    if broken:
        with pytest.raises(BrokenEvidence, match=f"m-{method}-0.50 skips"):
            made.finding(HOT_COLD)
    else:
        assert made.finding(HOT_COLD).outcome is ClaimVerdict.SUPPORTED


def test_hot_neurons_alone_worse_refutes(world: Make) -> None:
    made = world()
    made.harm["hot_only"] = 10.0
    finding = made.finding(HOT_COLD)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert "cold_only less hot_only" in finding.why
    assert "random" not in finding.why


def test_unequal_numbers_of_neurons_are_not_compared(world: Make, monkeypatch: Any) -> None:
    made = world()
    right = made.record

    def wrong(cell: Cell, **how: Any) -> Any:
        record = right(cell, **how)
        if cell.configuration.method == "hot_only" and "achieved" in record.measured:
            record.measured["achieved"]["weighted"] = 0.3
        return record

    monkeypatch.setattr(made, "record", wrong)
    with pytest.raises(BrokenEvidence, match=r"hot_only.* skips 30.0000% of the weights"):
        made.finding(HOT_COLD)


def test_reports_of_neurons_are_kept_and_used_again(
    world: Make, made_reports: list[str], neuron_report: Make
) -> None:
    made = world()
    made.finding(HOT_COLD)
    path = made.report / FILE
    assert [report.corpus_hash for report in read_reports(path)] == [
        "h-c",
        "h-austen",
        "h-factbook",
    ]
    made.finding(HOT_COLD)
    assert made_reports == ["m"]
    path.write_text(neuron_report("m", "austen", corpus_hash="of another text").to_json() + "\n")
    made.finding(HOT_COLD)
    assert made_reports == ["m", "m"]


# reasoning first


def test_reasoning_that_loses_more_is_seen(world: Make) -> None:
    finding = world().finding(FIRST)
    assert finding.outcome is ClaimVerdict.SUPPORTED, finding.why
    text = 1 - 2.718281828**-0.5
    more = effect(finding, "teal 0.5", "less knowledge")
    assert more.interval.estimate == pytest.approx(text, abs=0.15)
    ratio = effect(finding, "KL on chains of thought over KL on prose")
    assert ratio.interval.estimate == pytest.approx(2.0, rel=0.05)
    assert ratio.limit is None
    assert effect(finding, "powerinfer 0.25", "less language").limit is None
    assert effect(finding, "after its reference chain").interval.estimate == pytest.approx(
        0.26, 0.1
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": {"reasoning": 0.3, "knowledge": 1.5, "language": 0.2}}, "less knowledge"),
        ({"weight": {"reasoning": 0.3, "knowledge": 0.2, "language": 1.5}}, "less language"),
        ({"weight": {"reasoning": 0.2, "knowledge": 0.0, "language": 0.0}}, "less text"),
    ],
)
def test_one_part_that_is_reversed_refutes(world: Make, changes: Any, words: str) -> None:
    finding = world(**changes).finding(FIRST)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert words in finding.why


def test_divergence_on_chains_decides_nothing(world: Make) -> None:
    finding = world(chain=0.5).finding(FIRST)
    assert finding.outcome is ClaimVerdict.SUPPORTED
    assert effect(finding, "KL on chains").interval.estimate == pytest.approx(0.5, rel=0.05)


def test_no_knowledge_task_leaves_it_untested(world: Make) -> None:
    finding = world(dense={"reasoning": 0.9, "knowledge": 0.25, "language": 0.9}).finding(FIRST)
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert "knowledge" in finding.why


def test_items_of_more_draws_do_not_count(world: Make) -> None:
    """Or a finding would depend on who else had measured the cell, and how much of it."""

    def found(made: Any) -> Any:
        return effect(made.finding(FIRST), "after its reference chain").interval

    longer = world()
    measure = longer.record

    def more(cell: Cell, **given: Any) -> Record:
        record = measure(cell, **given)
        if cell.kind == ANSWER_LIKELIHOOD:
            worse = 0 if cell.configuration.is_reference else 9
            record.measured["items"].extend(
                {**item, "id": f"more-{item['id']}", "answer": item["answer"] - worse}
                for item in list(record.units)
            )
        return record

    longer.record = more
    assert found(longer) == found(world())


def test_the_full_profile_generates_answers(world: Make) -> None:
    finding = world(profile="full").finding(FIRST)
    found = effect(finding, "teal 0.5", "generated answers").interval
    assert found.n == 300
    dense, sparse = (
        sum(marks[k] == "1" for marks in finding.data["generated"]["right"]) for k in (0, 1)
    )
    assert found.estimate == pytest.approx(1 - sparse / dense)  # nobody guesses who generates
    assert finding.data["generated"]["task"] == "chain_handover"
    refused = world(
        profile="full", dense={"reasoning": 0.25, "knowledge": 0.9, "language": 0.9}
    ).finding(FIRST)
    assert refused.data["generated"]["refused"]
