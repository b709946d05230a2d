"""Every kernel that is chosen, ours or other libraries', against every check that applies to it."""

from __future__ import annotations

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.fixtures import KernelCheck, kernels_of
from pytest_sparsity.testing import CHECKS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each kernel and check."""
    try:
        kernels = kernels_of(metafunc.config)
    except SparsityError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    pairs = [
        (kernel.id, check.name)
        for kernel in kernels.values()
        for check in CHECKS.values()
        if check.applies(kernel)
    ]
    metafunc.parametrize(
        ("kernel", "check"), pairs, ids=[f"{kernel}-{check}" for kernel, check in pairs]
    )


def test_kernel(kernel_check: KernelCheck, kernel: str, check: str) -> None:
    """The kernel passes the check."""
    kernel_check(kernel, check)
