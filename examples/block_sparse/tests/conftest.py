"""Says at the end how many cases the kernels went through."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.getreports("passed")
    counts = [dict(report.user_properties).get("cases", 0) for report in passed]
    terminalreporter.write_line(f"right kernels: {sum(counts)} cases in all")
