"""What the plugin costs a session that does not use it: every session of every user loads it.

Alone, in about half a minute, best on a machine that does nothing else:

    pytest --sparsity-sweep --sparsity-suite=performance -k plugin_load
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.fixtures import Settings, SweepSession
from pytest_sparsity.speed import interleave, ratio

MOST = 0.010  # seconds
ROUNDS = (40, 120)  # the second number is of fresh rounds, when the first ones do not decide
NAME = "sparsity"  # our entry point
_OURS = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")  # what this process was told, not those

pytestmark = pytest.mark.usefixtures("machine_to_oneself")


def test_plugin_load(
    tmp_path: Path,
    sparsity_settings: Settings,
    sparsity_session: SweepSession,
    report_plugin: Callable[[str, str, Mapping[str, Any]], None],
) -> None:
    """Fresh processes of pytest with and without the plugin, by turns, one empty test each.

    Other plugins are left out, so that all of what ours imports counts as its own.  The median
    over rounds of the difference must be at most 10 ms, by its interval.
    """
    smoke = sparsity_settings.profile == "smoke"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_empty.py").write_text("def test_empty():\n    pass\n")
    others = {each.name for each in entry_points(group="pytest11")} - {NAME}
    runs = {
        "without": partial(_session, tmp_path, {*others, NAME}),
        "with": partial(_session, tmp_path, others),
    }
    for rounds in (8,) if smoke else ROUNDS:
        total = rounds * len(runs)
        with sparsity_session.progress("time plugin load", total, "run") as task:
            seconds = interleave(runs, rounds, sparsity_settings.seed + rounds, task.advance)
        more = [a - b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
        difference = ratio(more, [1.0] * rounds)
        if difference.high <= MOST or difference.low > MOST:
            break
    line = (
        f"plugin load {difference.estimate * 1e3:.1f} ms [{difference.low * 1e3:.1f}, "
        f"{difference.high * 1e3:.1f}] beyond pytest's own {_spread(seconds['without'])}, "
        f"at most {MOST * 1e3:.0f} ms; {rounds} rounds, differences {_spread(more)}"
    )
    numbers = {"more_seconds": difference.estimate, "rounds": rounds, "seconds": seconds}
    report_plugin("plugin load", line, numbers)
    if smoke:
        return
    if difference.low <= MOST < difference.high:
        pytest.skip(f"inconclusive: {line}")
    assert difference.high <= MOST, line


def _session(folder: Path, blocked: Collection[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *(f"-pno:{name}" for name in sorted(blocked))]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    done = subprocess.run(
        command,
        cwd=folder,
        # Bytecode is kept, as it is for users, and by the untimed first run.
        env={**environment, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _spread(seconds: Sequence[float]) -> str:
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9)) * 1e3
    return f"{median:.1f} ms (p10 {low:.1f}, p90 {high:.1f})"
