"""Makes the model under test, and adds the method."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from own_model import DownOnly, write_folder


def pytest_configure(config: pytest.Config) -> None:
    """Test our own model, unless another is named."""
    if not config.getoption("sparsity_model"):
        scratch = tempfile.TemporaryDirectory()
        config.add_cleanup(scratch.cleanup)
        config.option.sparsity_model = [str(write_folder(Path(scratch.name) / "own"))]


def pytest_sparsity_methods(config: pytest.Config) -> list[DownOnly]:
    """Known as ``down_only`` in options and markers."""
    return [DownOnly()]


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another of our models."""
    return write_folder(tmp_path_factory.mktemp("models") / "other", seed=1)
