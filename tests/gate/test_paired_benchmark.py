"""paired_benchmark in a user's own test, beside pytest-benchmark's fixture."""

from __future__ import annotations

import json
from typing import Any

import pytest

#: The clock is that of the thread, which stands while other processes run.
TIMING = """
import time
import pytest
from pytest_sparsity.benchmarking.gate import worker

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
"""


@pytest.fixture
def run(
    pytester: pytest.Pytester, sparsity_cache: Any, _imported: None, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Runs tests here, after what they import was imported."""
    import pytest_sparsity.paired_benchmark

    _ = pytest_sparsity

    def here(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(TIMING + source)
        return pytester.runpytest_inprocess(f"--sparsity-cache={sparsity_cache}", *options)

    return here


def test_what_it_reports(run: Any, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_it(paired_benchmark, benchmark):
            seen = []
            result = paired_benchmark(
                {"mine": [work(1e-3), work(1e-3)], "theirs": work(2e-3)},
                work={"mine": 1000000},
                check=lambda name, output: seen.append((name, output)),
                rounds=20,
            )
            assert seen == 2 * [("mine", 1e-3), ("theirs", 2e-3)]
            ratio = result.ratio("theirs", "mine")
            assert 1.8 < ratio.estimate < 2.2
            assert ratio.low <= ratio.high
            assert result.measured["mine"].bandwidth == pytest.approx(1e9, rel=0.1)
            assert result.measured["theirs"].bandwidth is None
            assert len(result.measured["mine"].seconds) == 20
            assert result.measured["mine"].iterations in (2, 3)
            assert result.measured["mine"].peak_bytes == 0
            assert "GB/s" in str(result) and "times theirs" in str(result)
            result.assert_not_slower("mine", "theirs")
            benchmark(work(1e-5))
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(passed=1)
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert set(told["entries"]) == {"mine", "theirs"}


def test_slower_fails(run: Any) -> None:
    result = run(
        """
        def test_it(paired_benchmark):
            result = paired_benchmark({"mine": work(3e-3), "theirs": work(2e-3)}, rounds=20)
            result.assert_not_slower("mine", "theirs", tolerance=0.08)
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*AssertionError: mine takes 1.* times as long as theirs [[]*], tolerance 8.0%, 60 *"]
    )


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
            calls = []
            def tired():
                calls.append(0)
                work(2e-3)()
                if len(calls) > 40:
                    raise OSError("worn out")
            paired_benchmark({"tired": tired})
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: tired: OSError: worn out in round *, * kept"])
    told = json.loads((pytester.path / "sparsity-report" / "speed.json").read_text())
    assert told["entries"]["tired"]["partial"]
    assert told["entries"]["tired"]["seconds"]
