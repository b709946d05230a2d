"""Every registered kernel's speed, held against a stored run, a git revision or another kernel.

    pytest --sparsity-sweep --sparsity-suite=performance -k test_speed --sparsity-gate=fail
        --sparsity-against=main

Without --sparsity-gate kernels are timed and nothing is compared.
"""

from __future__ import annotations

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.fixtures import SpeedGate
from pytest_sparsity.kernels.registry import kernel as kernel_of
from pytest_sparsity.kernels.registry import registered
from pytest_sparsity.plugin.options import read_settings
from pytest_sparsity.reference.ops import OPS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each kernel; against another kernel, of those of its op."""
    against = read_settings(metafunc.config).against or ""
    op, slash, _ = against.partition("/")
    ids = list(registered())
    if slash and op in OPS:
        try:
            other = kernel_of(against)
        except SparsityError as error:
            raise pytest.Collector.CollectError(f"--sparsity-against: {error}") from None
        ids = [id for id in ids if id.startswith(f"{op}/") and id != other.id]
    metafunc.parametrize("kernel", ids)


def test_speed(speed_gate: SpeedGate, kernel: str) -> None:
    """The kernel is as fast as it was, and takes no more memory, registers or launches."""
    speed_gate(kernel)
