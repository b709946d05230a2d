"""Sinks: what each does with results, and what the reporter does with sinks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.plugin import reporter
from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks import all_sinks, progress
from pytest_sparsity.plugin.sinks.progress import ProgressLines
from pytest_sparsity.plugin.sinks.sink import Sink

#: Runs in this process would import numpy a second time otherwise, which crashes it.
pytestmark = pytest.mark.usefixtures("_imported")

TESTS_OF_A_USER = """
    def test_measured(degradation):
        degradation.assert_within("perplexity:austen", 1000.0)
"""
TIMES = """
    def test_times(paired_benchmark):
        paired_benchmark({"a": lambda: sum(range(100)), "b": lambda: sum(range(200))}, rounds=20)
"""


def test_the_time_left_is_that_of_cells_whatever_ran_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Checks of kernels take minutes, and come first."""
    now, lines = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    terminal = SimpleNamespace(ensure_newline=lambda: None, write_line=lines.append)
    config: Any = SimpleNamespace(
        pluginmanager=SimpleNamespace(getplugin=lambda _: terminal), get_verbosity=lambda: 0
    )
    state: Any = SimpleNamespace(settings=SimpleNamespace())
    run = Run(config, state)
    shown = ProgressLines(run)
    shown.expect(4, ())
    for end in (1010, 1020, 1030, 1040):  # the first began after a thousand seconds
        now[0] = end
        report = SimpleNamespace(sparsity={"line": "pass", "reused": False}, duration=10.0)
        run.collect(Sent.of(report))
        shown.receive(Sent.of(report))
    assert lines == [
        "[1/4] pass  eta 0:30",
        "[2/4] pass  eta 0:20",
        "[3/4] pass  eta 0:10",
        "[4/4] pass",
    ]


@pytest.mark.slow
def test_no_cells_are_counted_where_a_users_test_shows_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS_OF_A_USER)
    result = pytester.runpytest(
        *("--sparsity-sweep", "--sparsity-model=tiny-random", "--sparsity-profile=smoke"),
        *("--sparsity-spon=off", "--sparsity-tasks=none"),
        "test_no_cells_are_counted_where_a_users_test_shows_none.py",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["results in *sparsity-report"])
    result.stdout.no_fnmatch_line("*0 cells*")


class Mine(Sink):
    """Says what it is called with."""

    fault = ""

    def receive(self, sent: Sent) -> None:
        if sent.timed:
            print("received", sent.report.nodeid)

    def write(self, finished: bool) -> None:
        print(f"finished={finished} calls={len(self.run.timed)}")
        if self.fault:
            raise SparsityError(self.fault)

    def show(self, terminal: Any) -> None:
        terminal.section("mine")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> type[Mine]:
    monkeypatch.setattr(reporter, "all_sinks", lambda run: [*all_sinks(run), Mine(run)])
    return Mine


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
@pytest.mark.usefixtures("mine")
def test_a_sink_of_ones_own(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """It gets what a test of any process sent, and its section is printed."""
    pytester.makepyfile(TIMES)
    result = pytester.runpytest("-s", *workers)
    result.stdout.fnmatch_lines(["*received *::test_times", "*finished=True calls=1", "* mine *"])
    assert result.ret == 0


def test_a_sink_that_cannot_write_ends_the_run_with_a_code_of_its_own(
    pytester: pytest.Pytester, mine: type[Mine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mine, "fault", "there is no room")
    pytester.makepyfile(TIMES)
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(["ERROR: there is no room"])
    assert result.ret == 11


def test_documents_that_are_left_out_stand_in_the_summary(sweep):
    texts = [f"{number} and more. " * 100 for number in range(14)] + ["short", "shorter"]
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (sweep.pytester.path / "mine.jsonl").write_text(lines)
    options = ("--sparsity-corpora=mine.jsonl", "--sparsity-tasks=none", "--sparsity-spon=off")
    sweep.here("--sparsity-sweep", "-k", "within_budget", "-Wignore", *options)
    said = "2 of 16 documents, which have less than 256 tokens"
    page = (sweep.report / "summary.md").read_text()
    assert f"- Left out, mine, tiny-random: {said}" in page
    origin = json.loads((sweep.report / "summary.json").read_text())["origin"]
    assert origin["left_out"] == {"mine, tiny-random": said}
