"""``--sparsity-suite=claims`` as a user runs it, on a model without trained vectors."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from pytest_sparsity.claims import store

CLAIMS = ("--sparsity-sweep", "--sparsity-suite=claims", "-p", "no:cacheprovider")
SLOPES = "9-tiny-random"  # about TEAL alone
VECTORS = "10-tiny-random"  # about trained vectors, of which there are none


def findings(sweep):
    lines = (sweep.report / "findings.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def records(sweep):
    return (sweep.report / "records.jsonl").read_text()


@pytest.mark.slow
def test_a_claim_that_is_judged_and_one_that_cannot_be(sweep):
    result = sweep.here(*CLAIMS, "-k", f"{SLOPES} or {VECTORS}", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, skipped=1, deselected=13)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "sparsity: claims about tiny-random (smoke profile)*",
            "[[]1/2[]] inconclusive * 9  tiny-random  slope of TEAL's loss * s  eta *",
            "[[]2/2[]] cannot be tested here  10  tiny-random-teal-0.50-spon: no trained* s",
            "*sparsity claims*",
            "claim*verdict*why",
            "9 * inconclusive * TEAL alone degrades sharply from 50 % sparsity on.",
            "10 * cannot be tested here  SPON mitigates the degradation on every backbone.",
            "*--sparsity-train missing*",
        ]
    )
    assert all(len(line) <= 120 for line in result.outlines if line.startswith("["))

    judged, untestable = findings(sweep)
    assert judged["finding"]["claim"] == "9"
    assert judged["finding"]["outcome"] == "inconclusive"
    assert "tiny-random-teal-0.60-perplexity:austen" in judged["finding"]["cells"]
    assert untestable["finding"]["outcome"] == "cannot be tested here"
    origin = judged["origin"]
    assert (origin["profile"], origin["seed"]) == ("smoke", 0)
    assert origin["dtype"] in ("float32", "bfloat16")  # as is fast here
    assert origin["sizes"]["documents"] == 12
    assert origin["cost"]["measuring"]["tokens"] > 0
    assert origin["cost"]["preparation"]["tiny-random-teal-0.60"]["calibration"]["tokens"] > 0

    case = ElementTree.parse(sweep.pytester.path / "junit.xml").find(".//testcase")
    told = {p.get("name"): p.get("value") for p in case.findall(".//property")}
    assert told["verdict"] == "inconclusive"
    assert told["claim"].startswith("TEAL alone degrades sharply")
    assert any(name.startswith("slope of TEAL's loss") for name in told)


@pytest.mark.slow
def test_two_processes_and_again(sweep):
    """Cells are shared by the processes and reused by the next run, which finds the same."""
    chosen = (*CLAIMS, "-k", f"{SLOPES} or {VECTORS}")
    result = sweep.apart(*chosen, "-n", "2")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=1, skipped=1)
    measured = records(sweep)
    first = {f["finding"]["claim"]: f["finding"] for f in findings(sweep)}
    assert set(first) == {"9", "10"}
    result.stdout.fnmatch_lines(
        ["[[]2/2[]] *", "*sparsity claims*", "9 * inconclusive *", "10 * cannot be tested*"]
    )

    assert sweep.here(*chosen).ret == 0
    assert records(sweep) == measured
    assert findings(sweep)[2:] != []
    assert {f["finding"]["claim"]: f["finding"] for f in findings(sweep)[2:]} == first


@pytest.mark.slow
def test_no_claim_judged_is_not_green(sweep):
    result = sweep.here(*CLAIMS, "-k", VECTORS)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["ERROR: the sweep judged no claim: nothing was tested"])


@pytest.mark.slow
def test_strict_wants_decisions(sweep):
    result = sweep.here(*CLAIMS, "-k", f"{SLOPES} or {VECTORS}", "--sparsity-strict")
    result.assert_outcomes(failed=2, deselected=13)
    result.stdout.fnmatch_lines(
        ["--sparsity-strict: inconclusive: slope of TEAL*", "--sparsity-strict: *no trained*"]
    )


@pytest.mark.slow
def test_evidence_that_contradicts_itself_fails(sweep):
    chosen = (*CLAIMS, "-k", SLOPES)
    assert sweep.here(*chosen).ret == 0
    lines = []
    for line in records(sweep).splitlines():
        content = json.loads(line)
        if content["cell"]["level"] == 0.6:
            content["measured"]["achieved"]["weighted"] = 0.1
        lines.append(json.dumps(content))
    (sweep.report / "records.jsonl").write_text("\n".join(lines) + "\n")
    result = sweep.here(*chosen)
    result.assert_outcomes(failed=1, deselected=14)
    result.stdout.fnmatch_lines(
        ["the evidence is broken: tiny-random-teal-0.60-*skipped 10.0% of the weights, not 60.0%"]
    )
    assert store.stored(sweep.report) == []  # what was found before does not hold any more


def test_every_claim_is_a_test(sweep):
    result = sweep.here(*CLAIMS, "--collect-only", "-q")
    names = [line for line in result.outlines if "test_claim[" in line]
    assert len(names) == len(set(names)) == 15
    assert "hot-cold-tiny-random" in names[1]  # what takes long comes first
    assert "test_claim[12-tiny-random]" in names[-1]
