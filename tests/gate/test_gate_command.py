"""pytest-sparsity gate on the speed of a kernel, run for real: every exit code."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

AGAINST = "--against=main"
SAME = "pass"
RAISES = "if len(CALLS) > 500: raise OSError('worn out')"
STANDS = "if len(CALLS) > 500: __import__('sys').modules['__main__'].clock = lambda: 5.0"


@pytest.mark.parametrize(
    ("statement", "words", "kernel", "status", "sentence"),
    [
        (SAME, (AGAINST,), "/mine", 0, "no regression"),
        (RAISES, (AGAINST,), "/mine", 1, "1 regressed"),
        (SAME, ("--against=gone",), "/mine", 4, "wrong use, see above"),
        (SAME, (AGAINST,), "nobody", 5, "nothing was compared"),
        (SAME, ("--against=sparse_linear/mine",), "compact/torch", 5, "nothing was compared"),
        (STANDS, (AGAINST,), "/mine", 0, "no regression"),
        (STANDS, (AGAINST, "--strict"), "/mine", 10, "1 undecided"),
        (SAME, ("--baseline=stored", "--update"), "/mine", 0, "the run is stored"),
        (RAISES, ("--baseline=stored", "--update"), "/mine", 1, "tests failed"),
        (STANDS, ("--baseline=stored", "--update"), "/mine", 5, "nothing was measured"),
    ],
)
def test_exit_status(
    project: Any, statement: str, words: tuple[str, ...], kernel: str, status: int, sentence: str
) -> None:
    project.commit()
    project.each_call(statement)
    (project.pytester.path / "test_gate.py").unlink()
    run = project.start_gate(*words, kernel=kernel)
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == status, output
    assert output.splitlines()[-1] == f"pytest-sparsity gate: {sentence} (exit code {status})"


def test_a_baseline_is_not_overwritten_by_the_report(project: Any) -> None:
    folder = project.pytester.mkdir("stored")
    (folder / "records.jsonl").write_text("{}\n")
    run = project.start_gate("--baseline=stored", "--report=stored")
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == 4
    assert output.startswith("ERROR: ")
    assert "cannot be both --baseline and --report" in output
    assert [path.name for path in folder.iterdir()] == ["records.jsonl"]


def test_a_report_that_cannot_be_written(project: Any) -> None:
    run = project.start_gate("--against=main", "--report=conftest.py")
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == 11
    assert output.startswith("ERROR: --report ")
    assert "conftest.py cannot be written (" in output
