"""Kernels and clocks that fail while they are timed: told, the rounds kept, nothing stored."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

STORE = ("--sparsity-update", "--sparsity-baseline=stored")
LATER = "if len(CALLS) > 500:"
BACKWARDS = "lambda: -time.perf_counter()"  # every sample ends before it began


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"{LATER} raise OSError('worn out')", "OSError: worn out in round *"),
        (f"{LATER} __import__('ctypes').string_at(0)", "was killed by SIGSEGV in round *"),
        (f"{LATER} __import__('os')._exit(0)", "ended its process with exit status 0 in round *"),
        (f"{LATER} raise SystemExit(3)", "ended its process with exit status 3 in round *"),
        (f"{LATER} raise KeyboardInterrupt", "was killed by SIGINT in round *"),
        ("if len(CALLS) > 800: wide = 2 * wide", "is wrong after it was timed: is off *"),
    ],
)
def test_a_kernel_that_fails_in_some_round(project: Any, statement: str, message: str) -> None:
    project.each_call(statement)
    result = project.run(*STORE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"sparse_linear/mine {message}"])
    entry = project.entries()["sparse_linear/mine"]
    assert entry["partial"]
    assert entry["seconds"]
    assert not (project.pytester.path / "stored" / "speed.json").exists()


@pytest.mark.parametrize("clock", [BACKWARDS, "lambda: 5.0"])
def test_a_clock_that_goes_backwards(project: Any, clock: str) -> None:
    project.each_call(
        f"import sys, time\n    if len(CALLS) > 500: sys.modules['__main__'].clock = {clock}"
    )
    stored = project.run(*STORE)
    stored.assert_outcomes(skipped=1)
    stored.stdout.fnmatch_lines(["ERROR: nothing was stored in *stored"])
    stored.stdout.fnmatch_lines(["SKIPPED*inconclusive: the clock went backwards in * rounds"])
    assert stored.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not (project.pytester.path / "stored" / "speed.json").exists()
    entry = project.entries()["sparse_linear/mine"]
    assert entry["partial"]
    assert entry["seconds"]

    project.commit()
    against = ("--sparsity-gate=fail", "--sparsity-against=main")
    project.run(*against).assert_outcomes(skipped=1)
    strict = project.run(*against, "--sparsity-strict")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["--sparsity-strict: *inconclusive*: the clock went backwards *"])


def test_a_clock_that_never_worked(project: Any) -> None:
    """Not even how long a sample takes is known, and the kernel is not to blame."""
    project.each_call("__import__('sys').modules['__main__'].clock = lambda: 5.0")
    project.commit()
    result = project.run("--sparsity-gate=fail", "--sparsity-against=main")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*inconclusive*: the clock went backwards in 30 rounds"])


@pytest.mark.parametrize(
    ("against", "reason"),
    [
        ("sparse_linear/mine", "it would be compared with itself"),
        ("compact/torch", "compact/torch is of another op"),
    ],
)
def test_nothing_compared_is_not_green(project: Any, against: str, reason: str) -> None:
    options = f"--sparsity-against={against}"
    result = project.run("--sparsity-gate=fail", options)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["ERROR: the gate compared nothing: nothing was tested"])
    result.stdout.fnmatch_lines([f"SKIPPED*not comparable: {reason}"])
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    warned = project.run("--sparsity-gate=warn", options)
    warned.stdout.fnmatch_lines(["WARNING: the gate compared nothing: nothing was tested"])
    assert warned.ret == 0
    project.run("--sparsity-gate=fail", options, "--sparsity-strict").assert_outcomes(failed=1)
