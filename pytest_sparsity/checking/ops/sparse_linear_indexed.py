"""The record of ``sparse_linear_indexed``."""

from __future__ import annotations

from pytest_sparsity.checking import activations, cases
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.decoding import activations as plain
from pytest_sparsity.checking.decoding import channels, every
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, LinearRelations
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_linear_indexed import SparseLinearIndexedInputs
from pytest_sparsity.targets import work


def _drawn(draw: Draw) -> SparseLinearIndexedInputs:
    case = draw.case
    mask = activations.mask(case, 1, case.k, draw.generator)
    threshold = activations.threshold(case, draw.generator)
    shared = mask.expand(case.rows, case.k)
    x = activations.activations(case, shared, threshold, (), draw.generator)
    weight = draw.weight(case.n, case.k)
    return SparseLinearIndexedInputs(
        draw.activations_arranged(x), weight, draw.listed(mask[0]), draw.bias(case.n)
    )


def _decoding(case: Case) -> SparseLinearIndexedInputs:
    x = plain(case)
    return SparseLinearIndexedInputs(x, channels(x, case.n, case.k), every(2, 0, case.k))


_CHANNELS = {"x": Axis(1), "weight": Axis(1), "indices": Axis(listed=True)}

RECORD = OpRecord(
    op=op_of(SparseLinearIndexedInputs),
    draw=_drawn,
    # The channels are given: ties have no meaning.
    space=cases.decoding_space((*cases.LISTED, "overflow", "infinite", "nan")),
    edges=cases.edges(),
    counted=cases.counted(),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=cases.paged_outputs,
    timed=lambda case: case,
    traffic=work.listed,
    relations=LinearRelations(lambda inputs: _CHANNELS, thresholds=()).all(),
)
