"""The accuracy gate in a sweep: what fails, what is skipped, and what is not green."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_sparsity.sweep.baseline import FILE
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record

GATE = ("--sparsity-sweep", "-k", "accuracy_lost", "--sparsity-gate=fail")


@pytest.fixture
def baseline(finished, tmp_path: Path) -> Path:
    """A stored run of the small grid; the report folder holds the same run."""
    folder = tmp_path / "stored"
    folder.mkdir()
    shutil.copy(finished.report / FILE, folder)
    return folder


def edit(folder: Path, change) -> None:
    """Let ``change`` loose on every record, as plain data, and store it under its new id."""
    lines = []
    for line in (folder / FILE).read_text().splitlines():
        content = json.loads(line)
        change(content)
        names = content["cell"]
        configuration = Configuration(*(names[n] for n in ("model", "method", "level", "spon")))
        cell = Cell(configuration, names["evaluation"])
        made = Record(cell, *(content[name] for name in ("key", "measured", "cost", "when")))
        lines.append(made.to_json())
    (folder / FILE).write_text("\n".join(lines) + "\n")


def better_before(content) -> None:
    """The stored run was better on perplexity of sparse models."""
    if content["cell"]["method"] == "teal":
        for document in content["measured"].get("documents", ()):
            document["log_likelihoods"] = [0.97 * x for x in document["log_likelihoods"]]


def decisions(report: Path) -> dict[str, str]:
    content = json.loads((report / "gate.json").read_text())
    return {each["id"]: each["decision"] for each in content["decisions"]}


def test_off_collects_nothing(finished):
    result = finished.here("--sparsity-sweep", "--collect-only", "-q")
    assert "accuracy_lost" not in result.stdout.str()


def test_same_run_is_ok(finished, baseline):
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}")
    result.assert_outcomes(passed=9)
    assert result.ret == 0
    assert set(decisions(finished.report).values()) == {"ok"}
    result.stdout.fnmatch_lines(["*= sparsity gate =*", "gate: 9 ok"])


def test_regression_fails_its_item(finished, baseline):
    edit(baseline, better_before)
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}", "--junitxml=junit.xml")
    result.assert_outcomes(passed=7, failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["regressed * tiny-random-teal-0.50-perplexity:austen: perplexity +*tolerated 0.5 %"]
    )
    cases = ElementTree.parse(finished.pytester.path / "junit.xml").iter("testcase")
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == {
        "test_no_accuracy_lost[tiny-random-teal-0.50-perplexity:austen]",
        "test_no_accuracy_lost[tiny-random-teal-0.50-mean_residual-perplexity:austen]",
    }
    again = finished.here(*GATE, f"--sparsity-baseline={baseline}", "--lf")
    again.assert_outcomes(failed=2)


def test_warn_does_not_fail(finished, baseline):
    edit(baseline, better_before)
    options = [*GATE[:-1], "--sparsity-gate=warn", f"--sparsity-baseline={baseline}"]
    result = finished.here(*options, "-W", "default")
    result.assert_outcomes(passed=9, warnings=2)
    assert result.ret == 0
    assert list(decisions(finished.report).values()).count("regressed") == 2


@pytest.mark.slow
def test_two_processes(finished, baseline):
    edit(baseline, better_before)
    result = finished.apart(*GATE, f"--sparsity-baseline={baseline}", "-n", "2")
    result.assert_outcomes(passed=7, failed=2)
    assert len(decisions(finished.report)) == 9


def test_nothing_comparable_is_not_green(finished, baseline):
    edit(baseline, lambda content: content["key"].update(seed=3))
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}", "-rs")
    result.assert_outcomes(skipped=9)
    assert result.ret == 5
    result.stdout.fnmatch_lines(["*the gate compared nothing*"])
    result.stdout.fnmatch_lines(["*not comparable*the seeds differ: 0 now, 3 in the baseline*"])


def test_strict_fails_what_is_not_comparable(finished, baseline):
    edit(baseline, lambda content: content["key"].update(weights="other"))
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}", "--sparsity-strict")
    result.assert_outcomes(failed=9)


def test_entries_on_either_side_only_are_named(finished, baseline):
    lines = (baseline / FILE).read_text().splitlines()
    kept = [line for line in lines if '"method": "dense"' in line]
    (baseline / FILE).write_text("\n".join(kept) + "\n")

    def other_level(content) -> None:
        if content["cell"]["evaluation"] == "generation":
            content["cell"].update(method="teal", level=0.125)

    edit(baseline, other_level)
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "not comparable  tiny-random-teal-0.125-generation: the baseline has it and this "
            "sweep does not;*",
            "7 measured without anything stored to compare with: *",
        ]
    )
    assert len(json.loads((finished.report / "gate.json").read_text())["without_baseline"]) == 7


def test_baseline_without_records(finished, tmp_path, baseline):
    (baseline / FILE).unlink()
    (baseline / "speed.json").write_text('{"schema": 1, "entries": {}}')
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}", "-rs")
    result.assert_outcomes(skipped=1)
    assert result.ret == 5
    assert re.search(r"holds no\s+records\.jsonl to compare", result.stdout.str())


def test_damaged_baseline_is_refused_at_once(finished, baseline, assert_refused):
    (baseline / FILE).write_bytes((baseline / FILE).read_bytes()[:-9])
    result = finished.here(*GATE, f"--sparsity-baseline={baseline}")
    assert_refused(result, "--sparsity-baseline", "its last line is incomplete")


def test_a_run_is_not_compared_with_itself(finished, assert_refused):
    result = finished.here(*GATE, f"--sparsity-baseline={finished.report}")
    assert_refused(result, "--sparsity-baseline", "this run reports there")


def test_update_stores_the_run(finished, tmp_path):
    stored = tmp_path / "made"
    options = ("--sparsity-sweep", "-k", "within_budget", f"--sparsity-baseline={stored}")
    assert finished.here(*options, "--sparsity-update").ret == 0
    assert len((stored / FILE).read_text().splitlines()) == 9
    result = finished.here(*GATE, f"--sparsity-baseline={stored}")
    result.assert_outcomes(passed=9)


def test_more_is_drawn_to_match_the_stored_run(finished, baseline):
    """The stored run had drawn twice; this run's first draw alone is not what is compared."""
    deep = finished.pytester.path / "deep"
    options = ("--sparsity-sweep", "-k", "within_budget", f"--sparsity-report={deep}")
    budget = finished.pytester.path / "tight.toml"
    budget.write_text(
        'schema = 1\n[[budget]]\nmodel = "tiny-random"\nmethod = "teal"\nlevel = 0.5\n'
        'spon = "off"\nmetric = "kl:austen"\nmax = 0.288\n'
    )
    finished.here(*options, f"--sparsity-budgets={budget}")
    result = finished.here(*GATE, f"--sparsity-baseline={deep}")
    assert result.ret == 0
    reasons = json.loads((finished.report / "gate.json").read_text())["decisions"]
    cell = "tiny-random-teal-0.50-perplexity:austen"
    (reason,) = (r["reason"] for r in reasons if r["id"] == cell)
    assert reason == "equal to the last bit (24 documents)"
