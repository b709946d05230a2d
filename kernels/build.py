"""Compiled files that are kept: built once, by one process, under a hash of all inputs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import (
    atomic_write,
    check_writable,
    default_cache,
    locked,
    sha256_text,
)

#: Names the folder for compiled kernels instead of the user's cache folder.
FOLDER_VARIABLE = "PYTEST_SPARSITY_BUILD"
_TIMEOUT = 600.0  # seconds
_LAST_LINES = 12


def folder() -> Path:
    """Where compiled kernels are kept."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else default_cache() / "kernels"


def built(name: str, key: Sequence[str], suffix: str, build: Callable[[], bytes]) -> Path:
    """The file that ``build`` makes, from the cache if it was made before.

    Args:
        name: beginning of the file's name, for people.
        key: everything the content depends on: source, compiler, flags, processor.
        suffix: end of the file's name, with its dot.
        build: returns the content; called at most once at a time among all processes.

    Raises:
        SparsityError: the folder cannot be written, or ``build`` raises it.
    """
    path = folder() / f"{name}-{sha256_text(*key)[:32]}{suffix}"
    if path.exists():
        return path
    try:
        check_writable(path.parent)
    except SparsityError as error:
        raise SparsityError(
            f"{FOLDER_VARIABLE}: compiled kernels cannot be kept in {path.parent} "
            f"({error.__cause__}); set this variable to a folder that can be written"
        ) from error
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            atomic_write(path, build())
    return path


def run_compiler(command: Sequence[str], what: str) -> str:
    """Run a compiler, and return what it printed.

    Raises:
        SparsityError: it cannot be started, fails, or takes more than ten minutes.
    """
    try:
        result = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SparsityError(f"{command[0]} cannot compile {what}: {error}") from error
    if result.returncode != 0:
        last = "\n".join(result.stdout.splitlines()[-_LAST_LINES:])
        raise SparsityError(
            f"{command[0]} cannot compile {what} (status {result.returncode}); "
            f"its last lines:\n{last}"
        )
    return result.stdout
