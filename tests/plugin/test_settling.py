"""Suspects that hold for the run fail it when all tests are done, wherever these ran."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.settling import Family

#: Runs in this process would import numpy a second time otherwise, which crashes it.
pytestmark = pytest.mark.usefixtures("_imported")

#: One is surely wrong.  The other is wrong by itself, and at 1 % for two decisions only since the
#: first is out of the question.
TESTS = """
    import pytest

    from pytest_sparsity.core.statistics.family import Evidence
    from pytest_sparsity.plugin.deciding import FINE, RED, SUSPECT, tell

    def decide(request, state, p):
        name = request.node.name
        told = tell(request.node, KIND, state, Evidence(name, p), message=f"{name} lost")

    KIND = "budget"

    def test_sure(request):
        decide(request, SURE, 1e-9)
        if SURE == RED:
            pytest.fail("sure")

    def test_suspected(request):
        decide(request, SUSPECT, 0.008)
        pytest.skip("suspect: test_suspected lost")

    SURE = RED
"""


@pytest.fixture
def user(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(TESTS)
    return pytester


def test_a_test_that_decides_often_spends_its_share_in_parts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        from pytest_sparsity.core.statistics.family import Evidence
        from pytest_sparsity.plugin.deciding import FINE, level_of, level_of_next, number_of, tell

        @pytest.fixture
        def degradation():
            pass

        def test_own(request, degradation):
            assert number_of(request.session) == 2
            assert level_of(request.node) == 0.005
            spent = 0.0
            for number in range(50):
                spent += level_of_next(request.node)
                tell(request.node, "budget", FINE, Evidence(f"{number}", 0.5), message="")
            assert spent == pytest.approx(0.005, rel=0.03)
            assert spent <= 0.005

        def test_other(degradation):
            pass

        def test_without(request):
            pass
        """
    )
    pytester.runpytest().assert_outcomes(passed=3)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_a_suspect_that_holds_fails_its_test(user: pytest.Pytester, workers) -> None:
    result = user.runpytest("-p", "xdist", *workers, "--junitxml=junit.xml")
    result.assert_outcomes(failed=2, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*= sparsity: verdicts that hold for the run =*",
            "holds    p = 2e-09    test_sure lost",
            "holds    p = 0.008    test_suspected lost",
            "2 decisions; a run in which nothing is wrong is red with a chance of at most 1 % *",
        ]
    )
    cases = list(ElementTree.parse(user.path / "junit.xml").iter("testcase"))
    failures = [f for c in cases if c.get("name") == "test_suspected" for f in c.iter("failure")]
    assert "holds for the run (p = 0.008 among 2 decisions" in (failures[0].text or "")


def test_a_run_without_failures_becomes_red_by_one_that_holds(user: pytest.Pytester) -> None:
    """Alone, with -k: a family of one, in which 0.008 holds at 1 %."""
    result = user.runpytest("-k", "suspected")
    result.assert_outcomes(failed=1, skipped=1, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_what_does_not_hold_stays_yellow(user: pytest.Pytester) -> None:
    result = user.runpytest("--sparsity-run-error=0.005")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["suspect  p = 0.008    test_suspected lost"])


def test_among_others_that_are_fine_it_does_not_hold(user: pytest.Pytester) -> None:
    user.makepyfile(TESTS.replace("SURE = RED", "SURE = FINE").replace("1e-9", "0.9"))
    result = user.runpytest()
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["suspect  p = 0.016    test_suspected lost"])


def test_a_gate_that_warns_fails_nothing(user: pytest.Pytester) -> None:
    user.makepyfile(TESTS.replace('"budget"', '"accuracy"'))
    (user.path / "stored").mkdir()
    (user.path / "stored" / "speed.json").write_text(json.dumps({"schema": 1, "entries": {}}))
    result = user.runpytest("-k", "suspected", "--sparsity-gate=warn", "--sparsity-baseline=stored")
    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["holds    p = 0.008    test_suspected lost"])


def test_it_is_run_again_by_last_failed(user: pytest.Pytester) -> None:
    user.runpytest("-k", "suspected")
    user.runpytest("--lf", "-p", "no:randomly").assert_outcomes(failed=1, skipped=1)


def test_github_shows_it(user: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(user.path))
    result = user.runpytest("-k", "suspected")
    result.stdout.fnmatch_lines(["::error file=*title=*test_suspected::*holds for the run*"])


def test_an_interrupted_run_stays_interrupted(user: pytest.Pytester) -> None:
    user.makepyfile(
        TESTS + "\n    def test_cut_off():\n        raise KeyboardInterrupt\n",
    )
    result = user.runpytest_subprocess("-k", "suspected or cut_off")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["holds    p = 0.008    test_suspected lost"])


def test_an_error_that_is_none_is_refused(user: pytest.Pytester) -> None:
    result = user.runpytest("--sparsity-run-error=1 %")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --sparsity-run-error '1 %': write it as a fraction: 0.01"])


def test_a_run_that_decides_nothing_says_nothing(pytester: pytest.Pytester) -> None:
    family = Family(0.01)
    family.settle(0)
    assert (family.p, list(family.standing_out()), family.as_failures("off")) == ({}, [], [])
    assert not Path("sparsity-report").exists()


@pytest.mark.parametrize(("p", "decision"), [(0.004, "regressed"), (0.02, "suspect")])
def test_a_suspect_of_the_gate_that_holds_is_regressed_in_its_file(p: float, decision: str) -> None:
    state: Any = SimpleNamespace(settings=SimpleNamespace(run_error=0.01, seed=0))
    run = Run(cast("pytest.Config", None), state)
    told = {
        "kind": "accuracy",
        "state": "suspect",
        "gated": "cell",
        "message": "cell: suspect",
        "evidence": Evidence("gate cell", p).to_json(),
    }
    gated = {"id": "cell", "decision": "suspect"}
    run.collect(Sent.of(SimpleNamespace(sparsity_gate=[gated], sparsity_decided=[told])))
    run.settle()
    assert run.decisions == [{"id": "cell", "decision": decision}]


def test_what_failed_at_its_test_holds_whatever_comes_out_together() -> None:
    """A test may decide more than was expected of it; it has failed all the same."""
    family = Family(0.01)
    told = [
        {"state": state, "message": "", "evidence": Evidence(name, 0.009).to_json()}
        for name, state in (("one", "red"), ("two", "suspect"))
    ]
    family.collect(Sent.of(SimpleNamespace(sparsity_decided=told)))
    family.settle(0)
    assert family.p == {"one": 0.01, "two": 0.018}
    assert [family.holds(name) for name in ("one", "two")] == [True, False]
