"""Outcomes of kernels are kept in the report folder, and taken only where nothing has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import kernel
from pytest_sparsity.plugin.known_outcomes import KnownOutcomes
from pytest_sparsity.reporting import kernels
from pytest_sparsity.reporting.kernel_table import remarks
from pytest_sparsity.settings.settings import default_settings

pytestmark = pytest.mark.slow
ID = "sparse_linear/torch"

CONFTEST = """
from pytest_sparsity.testing import sparse_kernel
from helper_of_mine import product

@sparse_kernel(op="sparse_linear", backend="cpu", name="mine", skips=False)
def right(x, weight, threshold, bias=None):
    import torch
    y = product(x * ~(x.abs() <= torch.tensor(threshold, dtype=x.dtype)), weight)
    return (y if bias is None else y + bias.float()).to(x.dtype)
"""
HELPER = "def product(x, weight):\n    return x.float() @ weight.float().T\n"
WRONG = HELPER.replace(".T", ".T + 1")
KERNELS = ("--sparsity-sweep", "--sparsity-suite=kernels", "--sparsity-examples=2")
TWO = ("-k", "mine-ends or mine-fuzz")
REUSED = "*2 of 2 checks passed in an earlier run, and nothing that they depend on has changed; *"


class Suite:
    """The kernel suite of a repository with one kernel."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.file = pytester.path / "sparsity-report" / "kernels.jsonl"
        pytester.makeconftest(CONFTEST)
        self.helper(HELPER)

    def helper(self, text: str) -> None:
        self.pytester.makepyfile(helper_of_mine=text)

    def run(self, *more: str, which: tuple[str, ...] = TWO, **outcomes: int) -> pytest.RunResult:
        """Run, and see to it that so many passed, failed or warned: two passed by default."""
        result = self.pytester.runpytest_subprocess(*KERNELS, *which, *more)
        found = result.parseoutcomes()
        found.pop("deselected", None)
        assert found == (outcomes or {"passed": 2})
        return result

    def lines(self) -> dict[str, dict[str, Any]]:
        return {(line := json.loads(text))["check"]: line for text in self.texts()}

    def texts(self) -> list[str]:
        return self.file.read_text().splitlines()


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    return Suite(pytester)


def test_what_passed_is_not_checked_again(suite: Suite) -> None:
    suite.run()
    before = suite.texts()
    again = suite.run("-n1")
    again.stdout.fnmatch_lines(
        ["[[]2/2[]] sparse_linear/mine  2 passed in an earlier run", "sparse_linear/mine*2 of 2*4*"]
    )
    again.stdout.fnmatch_lines([REUSED])
    assert suite.texts() == before
    anew = suite.run("--sparsity-rerun")
    anew.stdout.no_fnmatch_line("*earlier run*")
    assert len(suite.texts()) == 4
    suite.run().stdout.fnmatch_lines([REUSED])
    assert suite.texts() == suite.texts()[:2]


def test_what_a_kernel_imports_is_its_source_and_a_failure_is_found_again(suite: Suite) -> None:
    suite.run()
    suite.helper(WRONG)
    wrong = suite.run(failed=2)
    wrong.stdout.fnmatch_lines(
        ["*checked again, since these are not what they were there: the kernel (2)"]
    )
    suite.run(failed=2).stdout.no_fnmatch_line("*earlier run*")
    suite.helper(HELPER)
    suite.run()


def test_a_part_of_the_run_adds_to_the_file(suite: Suite) -> None:
    suite.run(which=("-k", "mine-ends"), passed=1)
    suite.run(which=("-k", "mine-exact"), passed=1)
    lines = suite.lines()
    assert set(lines) == {"ends", "exact"}
    assert len(suite.texts()) == 2
    assert all(line["status"] == "passed" and line["seconds"] > 0 for line in lines.values())


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
def test_a_store_that_is_damaged_or_from_the_future(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.run()
    ends, fuzz = (suite.lines()[check] for check in ("ends", "fuzz"))
    suite.file.write_text(
        f"{json.dumps(ends)[:-40]}\n{json.dumps(fuzz | {'schema': 99})}\n"
        f"{json.dumps({'schema': 1, 'kernel': 3})}\n{json.dumps(fuzz)[:20]}"
    )
    again = suite.run(*workers)
    again.stdout.fnmatch_lines(
        [
            "WARNING: *kernels.jsonl is damaged in line 1, 3: ignored, and those kernels are "
            "checked again",
            "WARNING: *kernels.jsonl was written by another version (its schema is not 1) in line "
            "2: ignored, and those kernels are checked again",
        ]
    )
    again.stdout.no_fnmatch_line("*earlier run*")
    assert set(suite.lines()) == {"ends", "fuzz"}


def test_a_kernel_that_changes_while_it_is_checked_is_not_kept(suite: Suite) -> None:
    text = HELPER + (
        "\n\ndef _change():\n    import pathlib\n"
        "    file = pathlib.Path(__file__)\n"
        "    file.write_text(file.read_text() + '# again\\n')\n"
    )
    suite.helper(text.replace("    return x", "    _change()\n    return x"))
    suite.run(passed=2, warnings=1).stdout.fnmatch_lines(
        [
            "*helper_of_mine.py was changed while sparse_linear/mine was checked: what came of it "
            "is not kept for later runs"
        ]
    )
    assert [line["key"] for line in suite.lines().values()] == [None, None]


def test_a_test_of_ones_own_checks_anew_unless_it_is_swept(suite: Suite) -> None:
    mine = suite.pytester.makepyfile(
        test_mine='def test_mine(kernel_check):\n    kernel_check("sparse_linear/mine", "ends")\n'
    )
    suite.run(which=("-k", "mine-ends"), passed=1)
    suite.run(str(mine), which=(), passed=1).stdout.fnmatch_lines(["1 of 1 checks passed in an *"])
    suite.file.write_text(suite.file.read_text().replace('"passed"', '"failed"'))
    suite.run(str(mine), which=(), passed=1).stdout.no_fnmatch_line("*earlier run*")
    suite.pytester.runpytest_subprocess(mine).stdout.no_fnmatch_line("*earlier run*")


def chosen(pytester: pytest.Pytester, *options: str) -> set[str]:
    """The kernels of the suite's tests."""
    result = pytester.runpytest_subprocess(*KERNELS, "--collect-only", "-q", *options)
    return {
        line.partition("[")[2].rpartition("-")[0]
        for line in result.outlines
        if "test_kernel[" in line
    }


def test_kernels_are_those_of_the_repository_unless_others_are_named(
    suite: Suite, pytester: pytest.Pytester
) -> None:
    mine = {"sparse_linear/mine"}
    assert chosen(pytester) == mine
    named = chosen(pytester, "--sparsity-kernels=*/cpu,sparse_linear/*")
    assert {"compact/cpu", "sparse_linear/native", *mine} <= named
    assert "compact/torch" not in named
    pytester.makeini("[pytest]\nsparsity_kernels = compact/cpu")
    assert chosen(pytester) == {"compact/cpu"}
    assert "gemv" not in chosen(pytester, "--sparsity-kernels=*")
    pytester.makeconftest("")
    assert {"compact/cpu", "sparse_swiglu/triton"} <= chosen(pytester, "--sparsity-kernels=*")


@pytest.mark.parametrize("more", [(), ("-n1",), ("--collect-only",)], ids=["here", "xdist", "co"])
def test_a_pattern_that_matches_nothing(suite: Suite, more: tuple[str, ...]) -> None:
    options = (*KERNELS, "--sparsity-kernels=sparse_linear/*,nobody/*", *more)
    result = suite.pytester.runpytest_subprocess(*options)
    assert result.ret == (2 if more == ("--collect-only",) else pytest.ExitCode.USAGE_ERROR)
    told = result.stdout.str() + result.stderr.str()
    assert "--sparsity-kernels 'nobody/*' matches no kernel; give patterns of op/name" in told
    assert "sparse_linear/mine" in told


# What is stored, without running anything


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A report folder in which the check ends of sparse_linear/torch has passed."""
    outcome = CheckResult(ID, "ends", "passed", examples=7, tolerance=0.5, seconds=2.0)
    known = of(tmp_path)
    kernels.add(tmp_path, {}, [known.sent(kernel(ID), outcome, key_of(known), reused=False)])
    return tmp_path


def of(folder: Path, **settings: Any) -> KnownOutcomes:
    return KnownOutcomes(replace(default_settings(), sweep=True, report=folder, **settings))


def key_of(known: KnownOutcomes, examples: int = 100) -> Any:
    return known.key(kernel(ID), examples)


def found(known: KnownOutcomes, examples: int = 100) -> CheckResult | None:
    return known.find(kernel(ID), "ends", key_of(known, examples))


def test_an_outcome_is_found_as_it_was(folder: Path) -> None:
    again = found(of(folder))
    assert again == CheckResult(ID, "ends", "passed", examples=7, tolerance=0.5, seconds=2.0)
    assert found(of(folder, rerun=True)) is None
    assert found(of(folder, seed=1)) is None
    assert found(of(folder), examples=99) is None
    known = of(folder)
    assert known.find(kernel("compact/torch"), "ends", key_of(known)) is None
    assert known.find(kernel(ID), "fuzz", key_of(known)) is None


def test_nothing_is_known_without_a_sweep(folder: Path) -> None:
    known = KnownOutcomes(replace(default_settings(), report=folder))
    assert key_of(known) is None
    assert known.find(kernel(ID), "ends", key_of(of(folder))) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        *({"examples": None}, {"key": None}, {"key": []}, {"figures": 3}, {"seconds": "long"}),
        *({"status": "failed"}, {"status": "skipped"}),
    ],
)
def test_a_line_that_lacks_something_is_not_taken(folder: Path, spoilt: dict[str, Any]) -> None:
    ((_, line),) = kernels.stored(folder).items()
    (folder / kernels.FILE).write_text(f"{json.dumps(dict(line) | spoilt)}\n")
    assert found(of(folder)) is None


@pytest.mark.parametrize(
    ("part", "told"),
    [("sources", "the kernel"), ("checks", "the checks"), ("machine", "the machine")],
)
def test_what_is_of_another_checkout_or_machine_is_told(folder: Path, part: str, told: str) -> None:
    ((_, line),) = kernels.stored(folder).items()
    other = dict(line) | {"key": line["key"] | {part: "of another"}}
    (folder / kernels.FILE).write_text(f"{json.dumps(other)}\n")
    known = of(folder)
    assert found(known) is None
    fresh = CheckResult(ID, "ends", "passed")
    sent = known.sent(kernel(ID), fresh, key_of(known), reused=False)
    assert sent["anew"] == told
    assert remarks([sent]) == [
        f"checked again, since these are not what they were there: {told} (1)"
    ]


def test_the_last_line_counts_and_others_go(folder: Path) -> None:
    ((_, line),) = kernels.stored(folder).items()
    for tolerance in (0.1, 0.2):
        kernels.add(folder, {}, [dict(line) | {"tolerance": tolerance}])
    kernels.add(folder, {}, [dict(line) | {"kernel": "sparse_linear/gone"}])
    assert len((folder / kernels.FILE).read_text().splitlines()) == 4
    kernels.tidy(folder)
    assert [each["tolerance"] for each in kernels.stored(folder).values()] == [0.2, 0.5]
    assert len((folder / kernels.FILE).read_text().splitlines()) == 2
    kernels.tidy(folder, keep=lambda id: id == ID)
    assert list(kernels.stored(folder)) == [(ID, "ends")]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / kernels.FILE).mkdir()
    with pytest.raises(SparsityError, match=r"cannot read .*kernels\.jsonl: Is a directory; fix"):
        kernels.tidy(tmp_path)
