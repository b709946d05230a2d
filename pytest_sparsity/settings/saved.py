"""settings.json of the report folder: the options of a run, for --sparsity-resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.settings.options import OPTIONS
from pytest_sparsity.settings.settings import Settings

FILE = "settings.json"


def save(settings: Settings) -> None:
    """Write what :func:`resume` reads into the report folder.

    Raises:
        SparsityError: it cannot be written.
    """
    atomic_write(settings.report / FILE, f"{json.dumps(to_json(settings), indent=1)}\n")


def resume(settings: Settings) -> Settings:
    """The settings of the run in the report folder.

    Raises:
        SparsityError: there is no run to resume, or its settings cannot be read.
    """
    path: Path = settings.report / FILE
    try:
        saved = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SparsityError(
            f"--sparsity-resume: there is no run in {settings.report}; leave the option out or "
            "name the folder of a run with --sparsity-report"
        ) from error
    except (OSError, ValueError) as error:
        raise SparsityError(
            f"--sparsity-resume: {path} cannot be read ({error}); start anew with the options of "
            "the first run, finished cells are reused"
        ) from error
    return resumed(settings, saved if isinstance(saved, dict) else {})


def to_json(settings: Settings) -> dict[str, Any]:
    """What :func:`resumed` needs, as plain JSON: everything but where and how to report."""
    plain = {o.field: getattr(settings, o.field) for o in OPTIONS if o.measured}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}


def resumed(settings: Settings, saved: Mapping[str, Any]) -> Settings:
    """``settings`` with everything that decides what is measured taken from ``saved``.

    Raises:
        SparsityError: ``saved`` is not what :func:`to_json` made.
    """
    if set(saved) != set(to_json(settings)):
        raise SparsityError(
            f"--sparsity-resume: {settings.report / FILE} is of another version; "
            "start anew with the options of the first run"
        )
    taken: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    return replace(settings, sweep=True, **taken)
