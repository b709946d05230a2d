"""The gate under pytest-xdist, and what other tools see of a regression."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

pytestmark = pytest.mark.slow

STORE = ("--sparsity-update", "--sparsity-baseline=stored")
THREE = ("sparse_linear/mine", "sparse_linear/torch", "sparse_linear/cpu")


def test_two_workers_take_turns(project: Any) -> None:
    project.gate(*THREE)
    run = project.start(*STORE, "-n", "2")
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == 0, output
    assert set(project.entries("stored")) == set(THREE)
    assert project.entries("stored") == project.entries()
    report = project.pytester.path / "sparsity-report" / "benchmark.json"
    assert len(json.loads(report.read_text())["benchmarks"]) == 3


def test_a_worker_that_crashes_is_not_green(project: Any) -> None:
    project.gate("sparse_linear/mine")
    path = project.pytester.path / "test_crash.py"
    path.write_text("def test_crash(speed_gate):\n    __import__('os')._exit(0)\n")
    run = project.start(*STORE, "-n", "2")
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert "crashed while running" in output
    assert set(project.entries("stored")) == {"sparse_linear/mine"}


def test_a_regression_is_seen_by_others(project: Any) -> None:
    git = project.commit()
    project.gate("sparse_linear/mine", "sparse_linear/torch")
    project.each_call("if len(CALLS) > 500: raise OSError('worn out')")
    git("commit", "-qam", "two")
    options = ("--sparsity-gate=fail", "--sparsity-against=HEAD~1", "--sparsity-tolerance=0.9")
    cached = ("-p", "cacheprovider", "--junitxml=junit.xml")
    project.run(*options, *cached).assert_outcomes(failed=1, passed=1)
    cases = ElementTree.parse(project.pytester.path / "junit.xml").iter("testcase")
    by_name = {case.get("name"): case for case in cases}
    failing = by_name["test_speed[sparse_linear/mine]"]
    failure = failing.find("failure")
    assert failure is not None
    assert "OSError: worn out in round" in str(failure.text)
    properties = {p.get("name"): p.get("value") for p in failing.iter("property")}
    assert properties["gate"] == "regressed"
    fine = by_name["test_speed[sparse_linear/torch]"]
    assert {p.get("name") for p in fine.iter("property")} == {"gate", "gate ratio"}
    project.run(*options, *cached, "--lf").assert_outcomes(failed=1)
