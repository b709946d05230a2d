"""Lets the tests of this folder import what they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_sparsity.checking.emulation import compiling

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if (reason := compiling.unavailable()) is not None:
        pytest.skip(reason)
