"""The record of ``semi_structured_linear``; K of its cases is whole groups of n:m."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from pytest_sparsity.checking import cases
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.decoding import THRESHOLD, activations
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, LinearRelations
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.semi_structured import PATTERNS, SemiStructuredWeight
from pytest_sparsity.reference.semi_structured_linear import SemiStructuredLinearInputs
from pytest_sparsity.targets import work


def _drawn(draw: Draw) -> SemiStructuredLinearInputs:
    x, threshold = draw.x_and_threshold()
    case = draw.case
    kept, group = case.option("nm", (2, 4))
    groups = case.k // group
    dense = draw.weight(case.n, groups * kept).t().reshape(groups, kept, case.n)
    slots = draw.chance(groups, group, case.n).argsort(1)[:, :kept].sort(1).values
    indices = (slots[:, 0::2] | slots[:, 1::2] << 4).to(torch.uint8)
    weight = SemiStructuredWeight(draw.packed(dense), draw.packed(indices), kept, group)
    return SemiStructuredLinearInputs(x, weight, threshold, draw.bias(case.n))


def _decoding(case: Case) -> SemiStructuredLinearInputs:
    x = activations(case)
    kept, group = case.option("nm", (2, 4))
    values = x.new_empty(case.k // group, kept, case.n)
    indices = torch.empty(case.k // group, kept // 2, case.n, dtype=torch.uint8)
    weight = SemiStructuredWeight(values, indices, kept, group)
    return SemiStructuredLinearInputs(x, weight, THRESHOLD)


def _fitted(case: Case) -> Case:
    group = case.option("nm", (1, 1))[1]
    return replace(case, k=-(-case.k // group) * group)


def _large(case: Case, hidden: int, index: int) -> Case:
    return case.with_options(nm=PATTERNS[index % len(PATTERNS)])


def _channels(inputs: Any) -> dict[str, Axis]:
    groups = Axis(0, inputs.weight.m)
    return {"x": Axis(1), "weight.values": groups, "weight.indices": groups}


RECORD = OpRecord(
    op=op_of(SemiStructuredLinearInputs),
    draw=_drawn,
    # Packed weights have no other layout; x and bias may have gaps.
    space=cases.decoding_space(layouts=cases.PACKED, nm=PATTERNS),
    fitted=_fitted,
    edges=cases.edges([{"nm": packing} for packing in PATTERNS], _large),
    counted=cases.counted([{"nm": packing} for packing in PATTERNS], odd=144),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=cases.paged_outputs,
    timed=lambda case: case,
    traffic=work.semi_structured,
    relations=LinearRelations(_channels).all(),
)
