"""The examples of the README, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TINY = ("--sparsity-model=tiny-random", "--sparsity-profile=smoke", "-p", "no:cacheprovider")


def test_the_number_of_checks() -> None:
    from pytest_sparsity.checking.checks import CHECKS

    assert set(re.findall(r"[Uu]p to (\d+) checks", README)) == {str(len(CHECKS))}


def example(heading: str) -> str:
    """The first Python block of a section."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def test_own_tests(pytester: pytest.Pytester, sparsity_cache: Path) -> None:
    pytester.makepyfile(test_mine=example("In your own tests"))
    found = pytester.runpytest_subprocess(*TINY, f"--sparsity-cache={sparsity_cache}")
    outcomes = found.parseoutcomes()
    assert outcomes.get("passed", 0) + outcomes.get("failed", 0) + outcomes.get("skipped", 0) == 3
    assert "errors" not in outcomes
    found.stdout.no_fnmatch_line("*Error:*")


def test_method(pytester: pytest.Pytester, sparsity_cache: Path) -> None:
    pytester.makeconftest(example("Add a method"))
    found = pytester.runpytest_subprocess(
        *TINY,
        f"--sparsity-cache={sparsity_cache}",
        "--sparsity-sweep",
        "--sparsity-suite=accuracy",
        "--sparsity-methods=teal,lot",
        "--sparsity-spon=off",
        "--sparsity-tasks=none",
        *("-k", "within_budget"),
    )
    assert found.ret == 0
    records: Any = (pytester.path / "sparsity-report" / "records.jsonl").read_text()
    assert '"method": "lot"' in records


def test_kernel(pytester: pytest.Pytester) -> None:
    """It is a skeleton: what it registers is found, and it has nothing to return yet."""
    pytester.makeconftest(example("Check a kernel"))
    found = pytester.runpytest_subprocess(
        "--sparsity-sweep", "--sparsity-suite=kernels", "-k", "mine", "--collect-only", "-q"
    )
    found.stdout.fnmatch_lines(["*sparse_linear/mine*"])
