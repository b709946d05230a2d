"""Whether times can be taken, and where they go: a file, JUnit properties, the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_sparsity import LanguageModel
from pytest_sparsity.fixtures import HardwareTarget, Settings
from pytest_sparsity.speed import PerformanceLog

LINE = "performance"


@pytest.fixture(scope="session")
def machine_to_oneself() -> None:
    """Skips tests that take times beside other processes of pytest-xdist."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.skip("times are taken with the machine to oneself: run with -n 0")


@pytest.fixture(scope="session")
def performance_file(
    sparsity_settings: Settings, hardware_target: HardwareTarget
) -> PerformanceLog:
    """Adds what a test measured to performance.json in the report folder, at once."""
    return PerformanceLog(sparsity_settings.report, hardware_target)


Report = Callable[[str, str, Mapping[str, Any]], None]


@pytest.fixture
def report_cost(
    request: pytest.FixtureRequest,
    dense_model: LanguageModel,
    performance_file: PerformanceLog,
) -> Report:
    """Reports what a test measured, before it is judged: ``report_cost(name, line, numbers)``."""
    return _reporter(request.node, dense_model.name, performance_file)


@pytest.fixture
def report_kernels(
    request: pytest.FixtureRequest,
    performance_file: PerformanceLog,
) -> Report:
    """Like report_cost, for kernels that are timed without a model."""
    return _reporter(request.node, "kernels", performance_file)


@pytest.fixture
def report_plugin(
    request: pytest.FixtureRequest,
    performance_file: PerformanceLog,
) -> Report:
    """Like report_cost, for the plugin itself."""
    return _reporter(request.node, "plugin", performance_file)


def _reporter(
    node: pytest.Item,
    subject: str,
    log: PerformanceLog,
) -> Report:
    def report(name: str, line: str, numbers: Mapping[str, Any]) -> None:
        log.add(subject, name, numbers)
        plain = {key: n for key, n in numbers.items() if isinstance(n, (int, float, str))}
        # What record_property does, which warns where JUnit's xunit2 is written.
        node.user_properties += [
            *((f"{name} {key}", value) for key, value in plain.items()),
            (LINE, f"{subject}: {line}"),
        ]

    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line per measured cost, whatever its verdict."""
    lines = [
        text
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.getreports(outcome)
        for name, text in report.user_properties
        if name == LINE
    ]
    if lines:
        terminalreporter.section("sparsity performance")
        terminalreporter.write("\n".join(lines) + "\n")
