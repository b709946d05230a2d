"""Hashes of the code that numbers depend on, so that what has changed is measured anew."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path

from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.methods.registry import Method

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = ("evaluation", "kernels", "methods", "models", "reference")


@cache
def code_hash() -> str:
    """Identifies the code of this package that numbers depend on: 16 hex digits."""
    files = sorted(file for folder in _FOLDERS for file in (_PACKAGE / folder).rglob("*.py"))
    return sha256_text(*(file.read_text(encoding="utf-8") for file in files))[:16]


def variant(method: Method) -> str:
    """Identifies what a method of this name does: its parameters and, if not ours, its file."""
    return sha256_text(
        json.dumps(dict(method.parameters), sort_keys=True), foreign_source(method) or ""
    )[:16]


def foreign_source(method: Method) -> str | None:
    """Identifies the file of a method that is not ours: what it says may change as well."""
    file = inspect.getsourcefile(type(method))
    if file is None or _PACKAGE in Path(file).resolve().parents:
        return None
    return sha256_text(Path(file).read_text(encoding="utf-8"))[:16]
