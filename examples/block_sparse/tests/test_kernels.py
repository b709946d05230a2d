"""The kernels of this package against every check that applies to them."""

import pytest

import block_sparse.numba_kernel
import block_sparse.triton_kernel
from pytest_sparsity.fixtures import KernelCheck
from pytest_sparsity.testing import check_kernel

KERNELS = {
    "numba": block_sparse.numba_kernel.bsr_linear,
    "triton": block_sparse.triton_kernel.bsr_linear,
}
#: Those that work for any op, and those of the relations that ours declares.
CHECKS = ("edges", "fuzz", "exact", "scaling", "splitting", "ends", "repeat", "layouts", "batch",
          "inputs", "bounds", "state", "far")  # fmt: skip
#: For Triton kernels, which are interpreted, and compiled for GPUs that need not be there.
TRITON = ("work", "compile")
PAIRS = [*((kernel, check) for kernel in KERNELS for check in CHECKS)]
PAIRS += [("triton", check) for check in TRITON]


@pytest.mark.parametrize(("kernel", "check"), PAIRS)
def test_kernel(kernel_check: KernelCheck, record_property, kernel: str, check: str) -> None:
    (outcome,) = kernel_check(KERNELS[kernel], check).outcomes
    assert outcome.status == "passed"
    assert outcome.tolerance <= 1
    record_property("cases", outcome.examples)


def test_no_other_check_applies() -> None:
    report = check_kernel("bsr_linear/triton", examples=1)
    applied = {outcome.check for outcome in report.outcomes if outcome.status == "passed"}
    assert applied == {*CHECKS, *TRITON}
