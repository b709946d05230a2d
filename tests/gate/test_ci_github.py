"""What GitHub is told, and that nobody else is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_sparsity.reporting.gate import gate_markdown
from pytest_sparsity.reporting.github import SUMMARY_BYTES, Annotation, add_to_summary, command
from pytest_sparsity.sweep.baseline import FILE

DECIDED = [
    {"kind": "accuracy", "id": "a|b", "decision": "ok", "reason": "fine", "figures": {}},
    {"kind": "speed", "id": "op/k", "decision": "regressed", "reason": "1.3 times", "figures": {}},
]


def test_annotation_at_a_line(tmp_path):
    file = tmp_path / "tests" / "test_a,b.py"
    told = command(Annotation("error", "test: x", "50 % worse\nsecond line", file, 7), tmp_path)
    assert told == (
        "::error file=tests/test_a%2Cb.py,line=7,title=test%3A x::50 %25 worse%0Asecond line"
    )


def test_annotation_outside_the_workspace(tmp_path):
    told = command(Annotation("error", "t", "m", Path("/elsewhere/test_x.py"), 7), tmp_path)
    assert told == "::error title=t::test_x.py:7: m"
    assert command(Annotation("notice", "t", "m"), tmp_path) == "::notice title=t::m"


def test_summary_is_appended_without_pictures(tmp_path):
    path = tmp_path / "summary"
    add_to_summary(path, "# One\n\n![a picture](a.png)\n\ntext\n")
    add_to_summary(path, "# Two\n")
    assert path.read_text() == "# One\n\ntext\n\n# Two\n\n"


def test_summary_is_as_long_as_github_takes(tmp_path):
    path = tmp_path / "summary"
    add_to_summary(path, "é" * SUMMARY_BYTES)
    add_to_summary(path, "more")
    assert path.stat().st_size <= SUMMARY_BYTES
    assert path.read_text().endswith("Cut here: the whole text is in the report.\n")


def test_markdown_of_decisions():
    text = gate_markdown(DECIDED, ["new-cell"])
    assert text.startswith("## Gate\n\n1 regressed, 1 ok.\n")
    assert "| regressed | op/k | 1.3 times |" in text
    assert "1 measured without anything stored to compare with: new-cell." in text
    assert text.index("regressed | op/k") < text.index("<details><summary>1 ok</summary>")
    assert r"a\|b" in text


@pytest.fixture
def failing(finished, tmp_path):
    """A sweep whose stored run has another seed, gated strictly: everything fails."""
    stored = tmp_path / "stored"
    stored.mkdir()
    shutil.copy(finished.report / FILE, stored)
    options = ("-k", "accuracy_lost", "--sparsity-gate=fail", f"--sparsity-baseline={stored}")
    return lambda: finished.here(
        "--sparsity-sweep", *options, "--sparsity-prefill=none", "--sparsity-strict"
    )


def test_only_where_github_listens(failing, monkeypatch, tmp_path):
    summary = tmp_path / "step"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "::error" not in failing().stdout.str()
    assert not summary.exists()


def test_in_a_step_of_github(failing, monkeypatch, tmp_path):
    summary = tmp_path / "step"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    suites = Path(__file__).parents[2]
    monkeypatch.setenv("GITHUB_WORKSPACE", str(suites))
    lines = [x for x in failing().stdout.lines if x.startswith("::error")]
    assert len(lines) == 6, "one per cell of a sparse model"
    place = "suites/accuracy/test_sparsity_gate_accuracy.py"
    code = (suites / place).read_text().splitlines()
    line = 1 + next(n for n, text in enumerate(code) if text.startswith("def test_"))
    start = f"::error file={place},line={line},title="
    assert all(line.startswith(start) for line in lines)
    assert "the prefill policies differ: none now, first:1 in the baseline" in lines[0]
    assert "## Gate" in summary.read_text()
