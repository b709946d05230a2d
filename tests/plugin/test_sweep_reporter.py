"""What the controlling process tells while cells come in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_sparsity.plugin import sweep_reporter
from pytest_sparsity.plugin.sweep_reporter import SweepReporter


def test_the_time_left_is_that_of_cells_whatever_ran_before_them(monkeypatch) -> None:
    """Checks of kernels take minutes, and come first."""
    now, lines = [0.0], []
    monkeypatch.setattr(sweep_reporter.time, "monotonic", lambda: now[0])
    terminal = SimpleNamespace(ensure_newline=lambda: None, write_line=lines.append)
    config = SimpleNamespace(
        args_source=pytest.Config.ArgsSource.TESTPATHS,
        pluginmanager=SimpleNamespace(getplugin=lambda _: terminal),
        get_verbosity=lambda: 0,
    )
    state = SimpleNamespace(
        settings=SimpleNamespace(suites=("kernels", "accuracy"), models=(), sweep=True)
    )
    shown = SweepReporter(config, state)
    ids = [f"t.py::test_within_budget[cell-{n}]" for n in range(4)]
    monkeypatch.setattr(
        shown, "_cells", lambda: [SimpleNamespace(id=f"cell-{n}") for n in range(4)]
    )
    shown.pytest_xdist_node_collection_finished([*ids[1:], f"{ids[0]}@group", "t.py::other[x]"])

    for end in (1010, 1020, 1030, 1040):  # the first began after a thousand seconds
        now[0] = end
        told = {"line": "pass", "reused": False}
        shown.pytest_runtest_logreport(SimpleNamespace(sparsity=told, duration=10.0))
    assert lines == [
        "[1/4] pass  eta 0:30",
        "[2/4] pass  eta 0:20",
        "[3/4] pass  eta 0:10",
        "[4/4] pass",
    ]
