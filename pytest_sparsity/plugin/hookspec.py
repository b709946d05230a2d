"""Hooks that other plugins and conftest files may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_sparsity.methods.registry import Method
    from pytest_sparsity.sweep.verdict import Verdict


@pytest.hookspec()
def pytest_sparsity_methods(config: pytest.Config) -> list[Method]:  # type: ignore[empty-body]
    """Return methods to add to ``--sparsity-methods``; called once, before anything runs."""


@pytest.hookspec()
def pytest_sparsity_verdict(config: pytest.Config, verdict: Verdict) -> None:
    """Called with every verdict of the summary, on the controlling process."""
