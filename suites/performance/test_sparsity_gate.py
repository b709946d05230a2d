"""Every registered kernel's speed, held against a stored run, a git revision or another kernel.

    pytest --sparsity-sweep --sparsity-suite=performance -k test_speed --sparsity-gate=fail
        --sparsity-against=main

Without --sparsity-gate kernels are timed and nothing is compared.
"""

from __future__ import annotations

import pytest

from pytest_sparsity import SpeedGate
from pytest_sparsity.kernels.registry import registered
from pytest_sparsity.options import read_settings


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each kernel; against another kernel, of those of its op."""
    against = read_settings(metafunc.config).against or ""
    op, _, _ = against.partition("/")
    ids = [
        kernel.id
        for kernel in registered().values()
        if against not in registered() or (kernel.op == op and kernel.id != against)
    ]
    metafunc.parametrize("kernel", ids)


def test_speed(speed_gate: SpeedGate, kernel: str) -> None:
    """The kernel is as fast as it was, and takes no more memory, registers or launches."""
    speed_gate(kernel)
