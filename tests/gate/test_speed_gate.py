"""The speed gate for real, on a tiny kernel that is slowed down by a known amount of work."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow

STORE = ("--sparsity-update", "--sparsity-baseline=stored")
STORED = ("--sparsity-gate=fail", "--sparsity-baseline=stored")


def test_against_a_stored_time(project: Any) -> None:
    stored = project.run(*STORE)
    stored.assert_outcomes(passed=1)
    stored.stdout.fnmatch_lines(["1 entries stored in *stored/speed.json"])
    entry = project.entries("stored")["sparse_linear/mine"]
    assert entry["processes"] == [60] * 5
    assert entry["companions"]["weight_bytes"] == 256 * 512 * 2

    assert project.run(*STORED).ret == 0

    project.write(60)
    slower = project.run(*STORED)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(
        [
            "sparse_linear/mine regressed against the time stored in stored: slower in each of 3 "
            "processes; * times as long (processes * to *), best * before *, stored with a spread "
            "of *, tolerance *, 60 fresh rounds, noise * (median over best)",
            "  again: pytest *test_gate.py --sparsity-gate=fail --sparsity-baseline=*stored "
            "--sparsity-profile=smoke -k 'test_speed*sparse_linear/mine*'",
        ]
    )
    assert project.entries("stored")["sparse_linear/mine"] == entry
    assert project.entries()["sparse_linear/mine"]["processes"] == [30, 60, 60]

    warned = project.run("--sparsity-gate=warn", "--sparsity-baseline=stored", "-Wdefault")
    warned.assert_outcomes(passed=1, warnings=1)
    warned.stdout.fnmatch_lines(["*SparsityWarning: sparse_linear/mine regressed against *"])


def test_entries_that_do_not_fit(project: Any) -> None:
    project.gate("sparse_linear/mine", "sparse_linear/torch")
    assert project.run(*STORE).ret == 0
    path = project.pytester.path / "stored" / "speed.json"
    content = json.loads(path.read_text())
    entries = content["entries"]
    entries["sparse_linear/gone"] = entries["sparse_linear/mine"]
    entries["sparse_linear/mine"]["target"] = "cpu-of-another-machine"
    path.write_text(json.dumps(content))
    project.gate("sparse_linear/mine")
    result = project.run(*STORED)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "stale (no such kernel is registered any more): sparse_linear/gone",
            "unused (not looked at in this run): sparse_linear/torch",
            "SKIPPED*sparse_linear/mine not comparable*: the machine is another: stored * now *",
        ]
    )
    project.run(*STORED, "--sparsity-strict").assert_outcomes(failed=1)

    # Figures that need no clock gate on any machine.
    entries["sparse_linear/mine"]["companions"]["allocations"] -= 1
    path.write_text(json.dumps(content))
    result = project.run(*STORED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*: it takes more: allocations * -> *"])


def test_against_a_revision(project: Any) -> None:
    git = project.commit()
    project.write(60)
    options = ("--sparsity-gate=fail", "--sparsity-against=main")
    slower = project.run(*options)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(
        [
            "WARNING: --sparsity-against main: * has uncommitted changes in 1 file(s), such as "
            "conftest.py; *",
            "sparse_linear/mine regressed against itself at main: slower; * times as long (block "
            "minima * to *), best *, before *, tolerance 4.0%, 60 fresh rounds, *",
        ]
    )
    assert set(project.entries()) == {"sparse_linear/mine", "sparse_linear/mine@main"}
    assert project.entries()["sparse_linear/mine"]["processes"] == [30] * 3 + [60] * 3
    assert len(git("worktree", "list").splitlines()) == 1

    git("add", "conftest.py")
    git("commit", "-q", "-m", "two")
    same = project.run(*options)
    assert same.ret == 0
    assert f"{project.pytester.path} has uncommitted" not in same.stdout.str()

    project.write(10, "renamed")
    project.gate("sparse_linear/renamed")
    renamed = project.run(*options)
    renamed.assert_outcomes(skipped=1)
    renamed.stdout.fnmatch_lines(["SKIPPED*renamed not comparable*there is no kernel*"])


def test_against_another_kernel(project: Any) -> None:
    project.write(100)
    options = ("--sparsity-gate=fail", "--sparsity-against=sparse_linear/torch")
    result = project.run(*options, "--sparsity-tolerance=0.2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed against sparse_linear/torch: slower; *20.0%*"])
    assert {"sparse_linear/mine", "sparse_linear/torch"} == set(project.entries())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return out.add(1).to(x.dtype)", "is wrong before it was timed: is off *"),
        ("raise ValueError('in vain')", "ValueError: in vain*"),
    ],
)
def test_a_kernel_that_is_not_right(project: Any, line: str, message: str) -> None:
    project.change("    for _ in", f"    {line}\n    for _ in")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"sparse_linear/mine {message}"])


def test_several_kernels_in_one_test(project: Any) -> None:
    project.pytester.makepyfile(
        test_gate="def test_both(speed_gate):\n"
        "    for name in ('torch', 'mine'):\n"
        "        speed_gate(f'sparse_linear/{name}')\n"
    )
    both = {"sparse_linear/torch", "sparse_linear/mine"}
    assert project.run(*STORE).ret == 0
    assert set(project.entries("stored")) == set(project.entries()) == both
    assert project.run(*STORED, "--sparsity-tolerance=0.9").ret == 0
    told = json.loads((project.pytester.path / "sparsity-report" / "gate.json").read_text())
    assert {each["id"] for each in told["decisions"]} == both
