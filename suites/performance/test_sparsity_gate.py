"""The speed of kernels, held against a stored run, a git revision or another kernel.

    pytest --sparsity-sweep --sparsity-suite=performance -k test_speed --sparsity-gate=fail
        --sparsity-against=main

Without --sparsity-gate kernels are timed and nothing is compared.
"""

from __future__ import annotations

import pytest

from pytest_sparsity import SparsityError
from pytest_sparsity.fixtures import SpeedGate, kernels_of, settings_of
from pytest_sparsity.testing import OPS, find


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each kernel; against another kernel, of those of its op."""
    against = settings_of(metafunc.config).against or ""
    op, slash, _ = against.partition("/")
    try:
        ids = list(kernels_of(metafunc.config))
    except SparsityError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if slash and op in OPS:
        try:
            other = find(against)
        except SparsityError as error:
            raise pytest.Collector.CollectError(f"--sparsity-against: {error}") from None
        ids = [id for id in ids if id.startswith(f"{op}/") and id != other.id]
    metafunc.parametrize("kernel", ids)


def test_speed(speed_gate: SpeedGate, kernel: str) -> None:
    """The kernel is as fast as it was, and takes no more memory, registers or launches."""
    speed_gate(kernel)
