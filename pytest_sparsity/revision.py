"""What git knows of a folder, if anything."""

from __future__ import annotations

import subprocess
from pathlib import Path


def revision_of(folder: Path) -> str | None:
    """The commit checked out in ``folder``, with ``+`` if tracked files differ from it."""
    commit = git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    dirty = git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if dirty else commit


def git(folder: Path, *words: str) -> str:
    """What a git command prints; empty where it fails, git is missing or there is no repository."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
