"""Every registered kernel, ours and other libraries', against every check that applies to it."""

from __future__ import annotations

import pytest

from pytest_sparsity.fixtures import KernelCheck
from pytest_sparsity.testing import CHECKS, registered


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each kernel and check."""
    pairs = [
        (kernel.id, check.name)
        for kernel in registered().values()
        for check in CHECKS.values()
        if check.applies(kernel)
    ]
    metafunc.parametrize(
        ("kernel", "check"), pairs, ids=[f"{kernel}-{check}" for kernel, check in pairs]
    )


def test_kernel(kernel_check: KernelCheck, kernel: str, check: str) -> None:
    """The kernel passes the check."""
    kernel_check(kernel, check)
