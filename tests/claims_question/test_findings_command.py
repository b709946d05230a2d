"""pytest-sparsity findings writes the page and its figures, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.claims import store
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.cli.main import main


def test_the_page_is_written_with_its_figures(
    world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = world()
    evidence = made.evidence()
    for claim in QUESTION:
        store.keep(made.report, made.finding(claim), store.origin(evidence))
    assert main(["findings", str(made.report), "--docs", str(tmp_path / "docs")]) == 0
    assert "question.md and 3 figures" in capsys.readouterr().out
    assert not (tmp_path / "docs" / "findings.md").exists()  # none of the claims was judged
    text = (tmp_path / "docs" / "question.md").read_text()
    figures = {path.name for path in (tmp_path / "docs" / "findings").iterdir()}
    assert figures == {"m-loss.svg", "m-hot-cold.svg", "neurons.svg"}
    assert all(f"(findings/{name})" in text for name in figures)
    assert str(tmp_path) not in text


def test_a_folder_without_findings_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["findings", str(tmp_path), "--docs", str(tmp_path / "docs")]) == 4
    error = capsys.readouterr().err
    assert error.startswith("ERROR: cannot read")
    assert error.count("\n") == 1
    assert not (tmp_path / "docs").exists()


@pytest.fixture
def report(world: Any) -> Path:
    """A folder with a finding of the question."""
    made = world()
    store.keep(made.report, made.finding(QUESTION[0]), store.origin(made.evidence()))
    return Path(made.report)


def test_trials_that_cannot_be_read(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    (docs / "findings").mkdir(parents=True)
    (docs / "findings" / "trials.jsonl").write_text("nonsense\n")
    assert main(["findings", str(report), "--docs", str(docs)]) == 4
    assert "trials.jsonl line 1 holds no trial" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    docs.write_text("a file")
    assert main(["findings", str(report), f"--docs={docs}"]) == 11
    error = capsys.readouterr().err
    assert error.startswith(f"ERROR: --docs {docs} cannot be written (")
    assert error.count("\n") == 1
