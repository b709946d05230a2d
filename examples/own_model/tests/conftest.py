"""Offers the model under test, and the method."""

from __future__ import annotations

from pathlib import Path

import pytest

from own_model import DownOnly, build, write_folder
from pytest_sparsity.hooks import OwnModel


def pytest_sparsity_models(config: pytest.Config) -> list[OwnModel]:
    """Known as ``parallel`` in options; ``pyproject.toml`` names it."""
    return [OwnModel("parallel", build, licence="Apache-2.0")]


def pytest_sparsity_methods(config: pytest.Config) -> list[DownOnly]:
    """Known as ``down_only`` in options and markers."""
    return [DownOnly()]


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another of our models."""
    return write_folder(tmp_path_factory.mktemp("models") / "other", seed=1)
