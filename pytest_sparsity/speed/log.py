"""performance.json: what the tests of a run timed, written as they end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.targets import HardwareTarget

FILE = "performance.json"
SCHEMA = 1


class PerformanceLog:
    """Collects numbers by subject and name, and writes all of them whenever some are added.

    Args:
        folder: of the report.
        target: the machine that is timed.
    """

    path: Path

    def __init__(self, folder: Path, target: HardwareTarget) -> None:
        self.path = folder / FILE
        self._content: dict[str, Any] = {
            "schema": SCHEMA,
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "target": {
                "name": target.name,
                "cores": target.cores,
                "fingerprint": target.fingerprint,
            },
            "versions": versions(),
            "models": {},
        }

    def add(self, subject: str, name: str, numbers: Mapping[str, Any]) -> None:
        """Keep what a test measured.

        Args:
            subject: a model, or what else was timed.
            name: of what was measured.
            numbers: as plain JSON.

        Raises:
            SparsityError: the file cannot be written.
        """
        self._content["models"].setdefault(subject, {})[name] = numbers
        atomic_write(self.path, json.dumps(self._content, indent=1) + "\n")
