"""Every claim about log-perplexity comes out in every way, as the numbers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_sparsity.claims.catalog import CATALOG, CLAIMS
from pytest_sparsity.claims.claim import investigate
from pytest_sparsity.claims.evidence import BrokenEvidence
from pytest_sparsity.claims.finding import ClaimVerdict, Finding
from pytest_sparsity.claims.perplexity_claim import spon, teal
from pytest_sparsity.core.files import InUse
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import Cell, Configuration

M = "m"
DENSE = Configuration(M)
SUPPORTED, REFUTED, INCONCLUSIVE = (
    ClaimVerdict.SUPPORTED,
    ClaimVerdict.REFUTED,
    ClaimVerdict.INCONCLUSIVE,
)


def weighted(weights: str) -> Configuration:
    return Configuration(M, weights=weights)


def precisions(int4_spon: float) -> dict[Configuration, float]:
    return {
        DENSE: 0.0,
        spon(M): 0.3,
        weighted("float32"): 0.0,
        spon(M, weights="float32"): 0.3,
        weighted("int8"): 0.01,
        spon(M, weights="int8"): 0.31,
        weighted("int4"): 0.2,
        spon(M, weights="int4"): int4_spon,
    }


def levels(teal_losses: Mapping[float, float], kept: float) -> dict[Configuration, float]:
    """Dense, TEAL, and spontaneous neurons that leave this share of its loss."""
    found = {DENSE: 0.0}
    for level, loss in teal_losses.items():
        found |= {teal(M, level): loss, spon(M, level): kept * loss}
    return found


def slopes(*losses: float) -> dict[Configuration, float]:
    return {
        DENSE: 0.0,
        **{teal(M, s): x for s, x in zip((0.25, 0.4, 0.5, 0.6), losses, strict=True)},
    }


def pruned(share: float) -> dict[Configuration, float]:
    wanda = "wanda-0.5"
    return {DENSE: 0.0, weighted(wanda): 0.5, spon(M, 0.0, wanda): 0.5 * (1 - share)}


def against_pruning(*losses: float) -> dict[Configuration, float]:
    names = ("magnitude-0.5", "wanda-0.5", "sparsegpt-0.5")
    return {spon(M): 0.2, **{weighted(n): x for n, x in zip(names, losses, strict=True)}}


def pair(one: Configuration, other: Configuration, difference: float) -> dict[Configuration, float]:
    return {one: 0.3 + difference, other: 0.3}


def transfer(away: float) -> dict[Configuration, Any]:
    """Half of the loss is recovered at home, this share away."""
    return {DENSE: 0.0, teal(M): 0.4, spon(M): {"austen": 0.2, "factbook": 0.4 * (1 - away)}}


RISING = {0.25: 0.1, 0.4: 0.2, 0.5: 0.4, 0.6: 0.8}
THREE = {level: loss for level, loss in RISING.items() if level < 0.6}
INT4_32 = spon(M, weights="int4"), teal(M, weights="float32")
WANDA = spon(M, weights="wanda-0.5"), teal(M, weights="wanda-0.5")

CASES = [
    ("1", precisions(0.5), 0.0005, SUPPORTED),
    ("1", precisions(0.8), 0.0005, REFUTED),
    ("1", precisions(0.2), 0.0005, REFUTED),  # stable is no better either
    ("1", precisions(0.55), 0.05, INCONCLUSIVE),
    ("2", pair(*INT4_32, -0.1), 0.01, SUPPORTED),
    ("2", pair(*INT4_32, 0.1), 0.01, REFUTED),
    ("2", pair(*INT4_32, -0.001), 0.05, INCONCLUSIVE),
    ("3", pair(*WANDA, -0.1), 0.01, SUPPORTED),
    ("3", pair(*WANDA, 0.1), 0.01, REFUTED),
    ("3", pair(*WANDA, -0.001), 0.05, INCONCLUSIVE),
    ("4", pruned(0.4), 0.01, SUPPORTED),
    ("4", pruned(0.02), 0.005, REFUTED),
    ("4", pruned(0.1), 0.01, INCONCLUSIVE),
    ("5", levels(RISING, 0.5), 0.001, SUPPORTED),
    ("5", levels(RISING, 1.5), 0.001, REFUTED),
    ("5", levels(RISING, 1.0), 0.02, INCONCLUSIVE),
    ("5", levels({s: x / 10 for s, x in RISING.items()}, 0.5), 0.001, INCONCLUSIVE),
    ("7", levels(THREE, 0.3), 0.001, SUPPORTED),
    ("7", levels(THREE, 0.8), 0.001, REFUTED),
    ("7", levels(THREE, 0.5), 0.01, INCONCLUSIVE),
    ("8", levels({0.25: 0.01}, 0.5), 0.001, SUPPORTED),
    ("8", levels({0.25: 0.1}, 0.5), 0.001, REFUTED),
    ("8", levels({0.25: 0.04}, 0.5), 0.01, INCONCLUSIVE),
    ("9", slopes(0.02, 0.05, 0.1, 0.3), 0.001, SUPPORTED),
    ("9", slopes(0.25, 0.4, 0.5, 0.6), 0.001, REFUTED),
    ("9", slopes(0.02, 0.05, 0.1, 0.14), 0.02, INCONCLUSIVE),
    ("9", slopes(0.05, 0.02, 0.1, 0.3), 0.001, INCONCLUSIVE),  # no slope to compare with
    ("10", levels({0.5: 0.4}, 0.5), 0.001, SUPPORTED),
    ("10", levels({0.5: 0.4}, 1.1), 0.001, REFUTED),
    ("10", levels({0.5: 0.4}, 1.0), 0.05, INCONCLUSIVE),
    ("10", levels({0.5: -0.1}, 0.5), 0.001, INCONCLUSIVE),  # nothing was lost
    ("11", against_pruning(0.5, 0.4, 0.3), 0.01, SUPPORTED),
    ("11", against_pruning(0.5, 0.4, 0.1), 0.01, REFUTED),
    ("11", against_pruning(0.5, 0.4, 0.2), 0.05, INCONCLUSIVE),
    ("12", transfer(0.45), 0.005, SUPPORTED),
    ("12", transfer(0.1), 0.005, REFUTED),
    ("12", transfer(0.25), 0.02, INCONCLUSIVE),
]


@pytest.mark.parametrize(("number", "damage", "noise", "outcome"), CASES)
def test_verdict(evidence, number, damage, noise, outcome):
    made = evidence(damage, noise)
    finding = investigate(CATALOG[number], made)
    assert finding.outcome is outcome, finding.why
    assert finding.why
    assert finding.claim == number
    needed = {cell.id for cell in CATALOG[number].cells(M, made.settings)}
    assert set(finding.cells) <= needed
    assert {c.partition("-perplexity")[0] for c in finding.cells} == {c.id for c in damage}


@pytest.mark.parametrize("number", sorted({number for number, *_ in CASES}))
def test_a_cell_that_fails_makes_it_untestable(evidence, number):
    """Whichever indispensable one it is, and the finding names it."""
    damage = next(d for n, d, _, outcome in CASES if n == number and outcome is SUPPORTED)
    for missing in damage:
        if number == "5" and missing == spon(M, 0.6):
            continue
        made = evidence({c: x for c, x in damage.items() if c != missing})
        finding = investigate(CATALOG[number], made)
        assert finding.outcome is ClaimVerdict.UNTESTABLE
        if missing.spon == "trained":  # which is seen before anything is measured
            assert finding.why.startswith(f"{missing.id}: no trained")
            assert not made.session.measured
        else:
            assert f"{missing.id}-perplexity:austen: no trained" in finding.why


def test_every_claim_says_what_it_is():
    assert [claim.number for claim in CLAIMS] == [str(n) for n in range(1, 13)]
    for claim in CATALOG.values():
        for text in (claim.sentence, claim.definition, claim.rule):
            assert text.endswith(".")


def test_intervals_are_wider_where_more_may_refute(evidence):
    finding = investigate(CATALOG["7"], evidence(levels(THREE, 0.3)))
    assert {e.interval.confidence for e in finding.effects} == {1 - 0.05 / 6}


def test_only_one_side_reaches_its_budget(evidence):
    """The other gets at least as far as the last level, and that is enough to say."""
    damage = levels({0.25: 0.1, 0.4: 0.2, 0.5: 0.4}, 0.5)
    finding = investigate(CATALOG["5"], evidence(damage))
    assert finding.outcome is SUPPORTED
    told = {effect.label: effect.interval.estimate for effect in finding.effects}
    assert told["furthest compression with SPON on austen, at least"] == pytest.approx(2.0)
    assert told["furthest compression by TEAL alone on austen"] < 2.0
    damage = levels({0.25: 0.1, 0.4: 0.15, 0.5: 0.2}, 1.5)
    assert investigate(CATALOG["5"], evidence(damage)).outcome is REFUTED


def test_quantised_weights_in_a_full_run(evidence):
    settings = replace(default_settings(), profile="full")
    damage = levels(RISING, 0.5)
    for weights in ("int8", "int4"):
        damage |= {weighted(weights): 0.05, spon(M, 0.5, weights): 0.5}
    finding = investigate(CATALOG["5"], evidence(damage, settings=settings))
    told = {e.label: e.interval.estimate for e in finding.effects}
    # the budget, ln 1.25 = 0.223, is reached at 0.173 / 0.45 of the way to 50 %
    reached = 1 / (1 - 0.5 * (0.22314 - 0.05) / 0.45)
    assert told["furthest compression with int8 and SPON on austen"] == pytest.approx(
        2 * reached, rel=1e-2
    )
    damage[weighted("int4")] = 0.3  # more than the budget, with all activations
    finding = investigate(CATALOG["5"], evidence(damage, settings=settings))
    noted = {e.label: e.interval.note for e in finding.effects}
    lost = "beyond the budget before anything is skipped"
    assert noted["furthest compression with int4 and SPON on austen"] == lost
    assert noted["furthest compression with int8 and SPON on austen"] != lost


@pytest.mark.parametrize("corpora", [("austen",), ("factbook",)])
def test_transfer_needs_a_foreign_corpus(evidence, corpora):
    settings = replace(default_settings(), profile="smoke", corpora=corpora)
    finding = investigate(CATALOG["12"], evidence(transfer(0.4), settings=settings))
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert f"--sparsity-corpora {corpora[0]} needs one corpus" in finding.why


def test_spontaneous_neurons_may_skip_a_little_less(evidence):
    def less(measured: dict[str, Any]) -> None:
        measured["achieved"]["weighted"] = 0.47

    def found(spon: str) -> Finding:
        changes = {f"m-teal-0.50{spon}-perplexity:austen": less}
        return investigate(CATALOG["10"], evidence(levels({0.5: 0.4}, 0.5), changes=changes))

    assert found("-spon").outcome is ClaimVerdict.SUPPORTED
    with pytest.raises(BrokenEvidence, match=r"skipped 47\.0%"):
        found("")


def test_a_level_below_the_natural_zeros_is_told(evidence):
    """After ReLU a level may ask for less than is 0 anyway: what it costs says little."""

    def zeros(measured: dict[str, Any]) -> None:
        measured["achieved"] |= {"weighted": 0.5, "plateau": ["0.down", "1.down"]}

    claim, losses = CATALOG["8"], levels({0.25: 0.01}, 0.5)
    changes = {f"m-teal-0.25{spon}-perplexity:austen": zeros for spon in ("", "-spon")}
    told = investigate(claim, evidence(losses, changes=changes))
    plain = investigate(claim, evidence(losses))
    assert told.why == (
        f"{plain.why}; below the rate of natural zeros, all of which are skipped: down at 0.25"
    )
    assert replace(told, why=plain.why) == plain


def test_what_others_are_measuring_comes_last(evidence):
    """Processes share the cells of a claim, and do not queue for each of them."""
    made = evidence(levels({0.5: 0.4}, 0.5))
    claim, order, measure = CATALOG["10"], [], made.session.record
    cells = claim.cells(M, made.settings)

    def record(cell: Cell, *, wait: bool = True) -> Any:
        if cell == cells[0] and not wait:
            raise InUse
        order.append(cell)
        return measure(cell)

    made.session.record = record
    assert investigate(claim, made).outcome is SUPPORTED
    assert list(dict.fromkeys(order)) == [*cells[1:], cells[0]]


def test_evidence_that_skipped_too_little(evidence):
    def spoil(measured: dict[str, Any]) -> None:
        measured["achieved"]["weighted"] = 0.4

    made = evidence(levels({0.5: 0.4}, 0.5), changes={"m-teal-0.50-perplexity:austen": spoil})
    with pytest.raises(BrokenEvidence, match=r"m-teal-0.50-.* skipped 40.0% .*, not 50.0%"):
        investigate(CATALOG["10"], made)


def test_evidence_on_other_documents(evidence):
    def spoil(measured: dict[str, Any]) -> None:
        measured["documents"][3]["id"] = "another"

    made = evidence(levels({0.5: 0.4}, 0.5), changes={"m-dense-perplexity:factbook": spoil})
    with pytest.raises(BrokenEvidence, match="not measured on the same documents"):
        investigate(CATALOG["10"], made)


def test_more_draws_of_others_change_nothing(evidence):
    """A cell that another suite measured on more documents counts with those of one draw."""

    def more(measured: dict[str, Any]) -> None:
        extra = {"id": "more", "tokens": 5, "log_likelihoods": [-9.0] * 5, "kl": 9.0}
        measured["documents"].append(extra)

    plain = investigate(CATALOG["10"], evidence(levels({0.5: 0.4}, 0.5)))
    changes = {"m-teal-0.50-perplexity:austen": more}
    drawn = investigate(CATALOG["10"], evidence(levels({0.5: 0.4}, 0.5), changes=changes))
    assert drawn == plain


def test_cost_names_every_preparation(evidence):
    made = evidence(levels({0.5: 0.4}, 0.5))
    investigate(CATALOG["10"], made)
    cost = made.cost()
    assert cost["measuring"] == {"seconds": 6.0, "tokens": 720}
    assert set(cost["preparation"]) == {"m-teal-0.50", "m-teal-0.50-spon"}
