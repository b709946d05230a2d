"""The record of ``sparse_linear``."""

from __future__ import annotations

from pytest_sparsity.checking import cases
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.decoding import THRESHOLD, activations, channels
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, LinearRelations
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs
from pytest_sparsity.targets import work


def _drawn(draw: Draw) -> SparseLinearInputs:
    x, threshold = draw.x_and_threshold()
    n = draw.case.n
    return SparseLinearInputs(x, draw.weight(n, draw.case.k), threshold, draw.bias(n))


def _decoding(case: Case) -> SparseLinearInputs:
    x = activations(case)
    return SparseLinearInputs(x, channels(x, case.n, case.k), THRESHOLD)


RECORD = OpRecord(
    op=op_of(SparseLinearInputs),
    draw=_drawn,
    space=cases.decoding_space(),
    edges=cases.edges(),
    counted=cases.counted(),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=cases.paged_outputs,
    timed=lambda case: case,
    traffic=work.linear,
    relations=LinearRelations(lambda inputs: {"x": Axis(1), "weight": Axis(1)}).all(),
)
