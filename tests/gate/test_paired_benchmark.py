"""paired_benchmark in a user's own test, beside pytest-benchmark's fixture."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_sparsity.core.exit_codes import ExitCode

#: The clock is that of the thread, which stands while other processes run.
TIMING = """
import time
import pytest
from pytest_sparsity.speed.gate import worker

@pytest.fixture(autouse=True)
def clock_of_the_thread(monkeypatch):
    monkeypatch.setattr(worker, "clock", time.thread_time)

def work(seconds):
    def run():
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return seconds
    return run

def failing(error):
    calls = []
    def run():
        calls.append(0)
        work(2e-3)()
        if len(calls) > 40:
            raise error
    return run
"""


@pytest.fixture
def run(
    pytester: pytest.Pytester, sparsity_cache: Any, _imported: None, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Runs tests here, after what they import was imported."""
    import pytest_sparsity.plugin.paired_benchmark

    _ = pytest_sparsity

    def here(source: str, *options: str, **how: Any) -> pytest.RunResult:
        pytester.makepyfile(TIMING + source.replace("\n        ", "\n"))
        return pytester.runpytest_inprocess(f"--sparsity-cache={sparsity_cache}", *options, **how)

    return here


def test_what_it_reports(run: Any, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_it(paired_benchmark, benchmark):
            seen = []
            result = paired_benchmark(
                {"mine": [work(1e-3), work(1e-3)], "theirs": work(2e-3)},
                work={"mine": 1000000, "theirs": 4000000},
                check=lambda name, output: seen.append((name, output)),
                rounds=20,
            )
            assert seen == 2 * [("mine", 1e-3), ("theirs", 2e-3)]
            ratio = result.ratio("theirs", "mine")
            assert 1.8 < ratio.estimate < 2.2
            assert ratio.low <= ratio.high
            assert result.measured["mine"].bandwidth == pytest.approx(1e9, rel=0.1)
            assert result.share_of_ideal("mine", "theirs") == pytest.approx(0.5, rel=0.1)
            assert len(result.measured["mine"].seconds) == 20
            assert result.measured["mine"].iterations in (2, 3)
            assert result.measured["mine"].peak_bytes == 0
            text = str(result)
            assert "GB/s" in text and "times theirs" in text and "% of the ideal" in text
            result.assert_not_slower("mine", "theirs")
            benchmark(work(1e-5))
        """
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert set(told["entries"]) == {"mine", "theirs"}


def test_slower_fails(run: Any, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_it(paired_benchmark):
            result = paired_benchmark({"mine": work(3e-3), "theirs": work(2e-3)}, rounds=20)
            result.assert_not_slower("mine", "theirs", tolerance=0.08)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*AssertionError: mine takes 1.* times as long as theirs [[]*], tolerance 8.0%, 60 *"]
    )
    content = json.loads((pytester.path / "sparsity-report" / "benchmark.json").read_text())
    rounds = {each["params"]["kernel"]: each["stats"]["rounds"] for each in content["benchmarks"]}
    assert rounds == {"mine": 80, "theirs": 80}
    assert len(content["benchmarks"]) == 2


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("paired_benchmark({})", "SparsityError: paired_benchmark: 0 contenders*"),
        (
            "paired_benchmark({'a': print}, rounds=5)",
            "SparsityError: paired_benchmark: 1 contenders, rounds=5: give at least one *",
        ),
        (
            "paired_benchmark({'a': print}, baseline='b')",
            "SparsityError: paired_benchmark: baseline='b': use one of *",
        ),
        (
            "paired_benchmark({'a': work(2e-3)}, rounds=20).ratio('a', 'b')",
            "SparsityError: there is no contender 'b'; there are a",
        ),
        (
            "paired_benchmark({'a': work(2e-3)}, rounds=20).assert_not_slower('a', 'a', 8)",
            "SparsityError: tolerance=8: use a fraction above 0 and below 1, such as 0.08",
        ),
        ("paired_benchmark({'a': lambda: 1 / 0})", "*ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_timed(run: Any, call: str, complaint: str) -> None:
    result = run(f"\ndef test_it(paired_benchmark):\n    {call}\n", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([complaint])


def test_rounds_before_an_exception_are_kept(run: Any, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_it(paired_benchmark):
            paired_benchmark({"tired": failing(OSError("worn out"))})
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: tired: OSError: worn out in round *, * kept"])
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert told["entries"]["tired"]["partial"]
    assert told["entries"]["tired"]["seconds"]


def test_rounds_before_ctrl_c_are_kept(run: Any, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_it(paired_benchmark):
            paired_benchmark({"first": work(2e-3)}, rounds=20)
            paired_benchmark({"cancelled": failing(KeyboardInterrupt())})
        """,
        no_reraise_ctrlc=True,
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert told["entries"]["cancelled"]["partial"]
    assert 10 < len(told["entries"]["cancelled"]["seconds"]) < 30


def test_a_result_that_is_wrong_afterwards_is_no_whole_run(
    run: Any, pytester: pytest.Pytester
) -> None:
    result = run(
        """
        def test_it(paired_benchmark):
            seen = []
            def check(name, output):
                seen.append(output)
                assert len(seen) < 2, "wrong"
            paired_benchmark({"mine": work(2e-3)}, check=check, rounds=20)
        """
    )
    result.assert_outcomes(failed=1)
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert told["entries"]["mine"]["partial"]


def test_times_that_cannot_be_written(run: Any, pytester: pytest.Pytester) -> None:
    source = """
        def test_it(paired_benchmark):
            paired_benchmark({"mine": work(2e-3)}, rounds=20)
            with open("sparsity-report/speed.json", "w") as file:
                file.write("hello")
        """
    report = pytester.mkdir("sparsity-report")
    result = run(source)
    result.assert_outcomes(passed=1)
    assert result.ret == ExitCode.NOT_WRITTEN
    result.stdout.fnmatch_lines(["ERROR: *speed.json is truncated, or no JSON *; restore it, or *"])
    assert "INTERNALERROR" not in result.stdout.str()
    again = run(source)
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines(["ERROR: --sparsity-report: *speed.json is truncated, or no JSON *"])
    assert (report / "speed.json").read_text() == "hello"
