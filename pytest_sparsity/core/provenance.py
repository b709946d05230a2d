"""Which versions of what numbers come from."""

from __future__ import annotations

import importlib.metadata
from functools import cache


@cache
def versions() -> dict[str, str | None]:
    """Versions of this package and of those that numbers depend on; None if not installed."""
    found: dict[str, str | None] = {}
    for name in ("pytest-sparsity", "torch", "transformers", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
