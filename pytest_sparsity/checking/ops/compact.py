"""The record of ``compact``."""

from __future__ import annotations

from pytest_sparsity.checking import cases
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.decoding import THRESHOLD, activations
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.reference.compact import CompactInputs
from pytest_sparsity.reference.ops import op_of


def _drawn(draw: Draw) -> CompactInputs:
    return CompactInputs(*draw.x_and_threshold())


def _decoding(case: Case) -> CompactInputs:
    return CompactInputs(activations(case), THRESHOLD)


RECORD = OpRecord(
    op=op_of(CompactInputs),
    draw=_drawn,
    space=cases.decoding_space(layouts=cases.PACKED, bias=False, n=(1,)),
    edges=cases.edges(),
    counted=cases.counted(),
    compiled=cases.compiled(),
    decoding=_decoding,
    timed=lambda case: case,
    relations=Relations(rows=True, ends={}),
)
