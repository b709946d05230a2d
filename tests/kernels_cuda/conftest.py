"""The emulated CUDA kernels, for the tests of this folder only."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.native import library


@pytest.fixture(scope="session")
def emulated() -> Iterator[ModuleType]:
    """The module ``emulated.py``; what it registers is forgotten in the end."""
    if library.unavailable() is not None:
        pytest.skip(str(library.unavailable()))
    spec = importlib.util.spec_from_file_location(
        "emulated_cuda_kernels", Path(__file__).with_name("emulated.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(registry._KERNELS), patch.dict(sys.modules, {spec.name: module}):
        spec.loader.exec_module(module)
        yield module
