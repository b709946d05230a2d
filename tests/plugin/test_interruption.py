"""A sweep that is killed or interrupted loses at most the cell under way."""

from __future__ import annotations

import signal
import time

import pytest

SWEEP = "--sparsity-sweep"


#: A plugin that stops a sweep in the call of a test once so many records are written, so that a
#: signal finds it there, however fast or slow the machine is.
HOLDING = """
    import time
    from pathlib import Path

    import pytest

    RECORDS = Path("sparsity-report/records.jsonl")

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        if RECORDS.exists() and RECORDS.read_bytes().count(b"\\n") >= {count}:
            Path("held").touch()
            time.sleep(600)
"""


def _after_lines(sweep, count, send):
    """Start a sweep and send it a signal once ``count`` records are written."""
    sweep.pytester.makepyfile(holding=HOLDING.format(count=count))
    process = sweep.start(SWEEP, "-v", "-p", "holding")
    held = sweep.pytester.path / "held"
    while process.poll() is None and not held.exists():
        time.sleep(0.01)
    process.send_signal(send)
    output = process.communicate(timeout=240)[0]
    return process.returncode, output


def test_killed_run_goes_on(sweep, finished_report, read_records):
    status, _ = _after_lines(sweep, 3, signal.SIGKILL)
    assert status == -signal.SIGKILL
    path = sweep.report / "records.jsonl"
    text = path.read_text()
    complete = text[: text.rfind("\n") + 1].splitlines()
    kept = sweep.records_of(complete)
    assert len(complete) >= 3
    # As if the next record had been half written when the process died.
    path.write_text("".join(f"{line}\n" for line in complete) + '{"cell": {"evaluation": "per')

    plain = sweep.here(SWEEP, "-k", "within_budget")
    assert plain.ret == 0
    grid = set(read_records(finished_report))
    assert sweep.reused(plain) == len(grid & set(kept))
    records = sweep.records()
    assert set(kept) <= set(records)
    assert {i: r["measured"] for i, r in records.items() if i in grid} == {
        i: r["measured"] for i, r in read_records(finished_report).items()
    }
    lines = path.read_text().splitlines()
    assert lines[: len(complete)] == complete  # nothing that was there has changed


def test_resume_takes_the_first_run_s_settings(finished):
    """``--sparsity-resume`` alone is enough: even the model comes from the report folder."""
    lines = (finished.report / "records.jsonl").read_text().splitlines(keepends=True)
    before = finished.records()
    (finished.report / "records.jsonl").write_text("".join(lines[:4]))
    cache = finished.cache_option
    result = finished.pytester.runpytest_inprocess(
        "--sparsity-resume", cache, "-k", "within_budget"
    )
    assert result.ret == 0
    assert finished.reused(result) == len(finished.records_of(lines[:4]))
    assert {i: r["measured"] for i, r in finished.records().items()} == {
        i: r["measured"] for i, r in before.items()
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "there is no run in"),
        ("{", "cannot be read"),
        ("[]", "of another version"),
        ('{"profile": "smoke"}', "of another version"),
    ],
)
def test_resume_of_nothing(sweep, assert_refused, content, complaint):
    if content is not None:
        sweep.report.mkdir()
        (sweep.report / "settings.json").write_text(content)
    assert_refused(sweep.here("--sparsity-resume"), "--sparsity-resume", complaint)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_a_summary(sweep, number):
    status, output = _after_lines(sweep, 3, number)
    assert status == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert "INTERNALERROR" not in output
    assert len(sweep.records()) >= 2
    assert (sweep.report / "summary.md").exists()
    assert "= sparsity =" in output
