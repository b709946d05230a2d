"""The record of ``sparse_qkv``; n of its cases is the sum of the sizes of q, k and v."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_sparsity.checking import cases
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.decoding import THRESHOLD, activations, channels
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, LinearRelations
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs
from pytest_sparsity.targets import work

_PARTS = ("outputs_q", "outputs_k", "outputs_v")
_EDGES = ((576, 192, 192), (1, 1, 1), (65, 1, 63), (100, 3, 29), (192, 64, 64))


def _drawn(draw: Draw) -> SparseQkvInputs:
    case = draw.case
    x, thresholds = draw.x_and_thresholds(3)
    sizes = case.option("sizes", (case.n, 1, 1))
    n = sum(sizes)
    return SparseQkvInputs(x, draw.weight(n, case.k), sizes, thresholds, draw.bias(n))  # type: ignore[arg-type]


def _decoding(case: Case) -> SparseQkvInputs:
    x = activations(case)
    three = (case.n, case.n // 4, case.n // 4)  # grouped queries: a quarter as many keys and values
    return SparseQkvInputs(x, channels(x, sum(three), case.k), three, (THRESHOLD,) * 3)


def _settled(drawn: dict[str, Any]) -> dict[str, Any]:
    return {"sizes": tuple(drawn[part] for part in _PARTS)}


def _fitted(case: Case) -> Case:
    return replace(case, n=sum(case.option("sizes", (case.n,))))


def _large(case: Case, hidden: int, index: int) -> Case:
    n = case.n
    return case.with_options(sizes=(n - n // 2, n // 4 + 1, n // 4 + 1))


def _quarters(case: Case) -> Case:
    n = case.n
    return case.with_options(sizes=(n // 2, n // 4, n // 4))


RECORD = OpRecord(
    op=op_of(SparseQkvInputs),
    draw=_drawn,
    space={**cases.decoding_space(n=(1,)), **dict.fromkeys(_PARTS, cases.sizes(640))},
    settled=_settled,
    fitted=_fitted,
    edges=cases.edges([{"sizes": three} for three in _EDGES], _large),
    counted=cases.counted([{"sizes": (192, 32, 32)}, {"sizes": (33, 17, 15)}], large=_quarters),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=lambda page: dict.fromkeys(_PARTS, cases.sizes(640, often=page)),
    timed=_quarters,
    traffic=work.linear,
    relations=LinearRelations(
        lambda inputs: {"x": Axis(1), "weight": Axis(1)}, thresholds=("thresholds",)
    ).all(),
)
