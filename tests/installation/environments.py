"""Environments with wheels in them, and commands that know nothing of this session's Python."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, limit: float = 300) -> str:
    """Output of a command that must succeed, with none of this session's Python settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def installed(folder: Path, *wheels: Path) -> Path:
    """Python of an environment with these wheels, and this environment's packages behind them."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A plain path in a .pth file does not run the .pth files there: an editable install of this
    # project, which those would set up, stays out of sight.
    (site / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
        "--quiet", *wheels, cwd=folder)  # fmt: skip
    return python
