"""For authors of sparse kernels and ops: what they register, and what they are held to."""

from __future__ import annotations

from pytest_sparsity.checking import strategies
from pytest_sparsity.checking.api import KernelFailure, Report, check_kernel
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.cases import sizes
from pytest_sparsity.checking.check import Check
from pytest_sparsity.checking.checks import CHECKS
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.failure import Element
from pytest_sparsity.checking.open_ops import sparse_op
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, Parts, Relations
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels.contract import Contract
from pytest_sparsity.kernels.cuda.source import CudaSource
from pytest_sparsity.kernels.registry import Kernel, find, registered, sparse_kernel
from pytest_sparsity.reference.decisions import above, largest, rounded
from pytest_sparsity.reference.ops import OPS, Op, Output
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.stochastic import Outcomes, computed_bound
from pytest_sparsity.targets.work import Work

__all__ = [
    "CHECKS",
    "OPS",
    "Axis",
    "Case",
    "Check",
    "CheckResult",
    "Contract",
    "CudaSource",
    "Draw",
    "Element",
    "Kernel",
    "KernelFailure",
    "Op",
    "OpRecord",
    "Outcomes",
    "Output",
    "Parts",
    "Precision",
    "Relations",
    "Report",
    "Space",
    "Trial",
    "Work",
    "above",
    "check_kernel",
    "computed_bound",
    "find",
    "largest",
    "registered",
    "rounded",
    "sizes",
    "sparse_kernel",
    "sparse_op",
    "strategies",
]
