"""The record of ``sparse_quantized_linear``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import cases
from pytest_sparsity.checking.case import Case, Value
from pytest_sparsity.checking.decoding import THRESHOLD, activations
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import Axis, LinearRelations
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs
from pytest_sparsity.targets import work

_GROUPS = (32, 1, 2, 4, 8, 16, 64, 128)
_GROUP = 128  # of a compiled case
_FOUR_BITS: list[dict[str, Value]] = [{"bits": 4, "group": g} for g in (32, 1, 2, 8, 128)]


def _drawn(draw: Draw) -> SparseQuantizedLinearInputs:
    x, threshold = draw.x_and_threshold()
    bits = draw.case.option("bits", 8)
    weight = _eight_bits(draw) if bits == 8 else _four_bits(draw)
    return SparseQuantizedLinearInputs(x, weight, threshold, draw.bias(draw.case.n))


def _eight_bits(draw: Draw) -> QuantizedWeight:
    case = draw.case
    payload = draw.integers(16 if draw.integer else 127, case.k, case.n)
    payload[draw.chance(case.k, case.n) < 0.01] = -128
    return QuantizedWeight(
        draw.rows_pitched(payload.to(torch.int8)), _scales(draw, 127, case.n), 8, case.n
    )


def _four_bits(draw: Draw) -> QuantizedWeight:
    case = draw.case
    group = case.option("group", 32)
    # Two outputs share a byte.
    padded = -(-case.n // math.lcm(group, 2)) * math.lcm(group, 2)
    nibbles = torch.randint(0, 16, (2, case.k, padded // 2), generator=draw.generator)
    payload = (nibbles[0] | nibbles[1] << 4).to(torch.uint8)
    scales = _scales(draw, 8, case.k, padded // group)
    return QuantizedWeight(draw.rows_pitched(payload), scales, 4, case.n)


def _scales(draw: Draw, largest: int, *shape: int) -> Tensor:
    """Scales of a quantised weight whose payload reaches ``largest``; some are zero."""
    if draw.integer:
        scales = 2.0 ** torch.randint(0, 3, shape, generator=draw.generator)
    else:
        spread = 0.02 if draw.case.values == "small" else 1 / math.sqrt(draw.case.k)
        scales = (draw.chance(*shape) + 0.5) * spread / largest
    scales = torch.where(draw.chance(*shape) < 0.02, torch.zeros_like(scales), scales)
    return draw.packed(scales.to(draw.dtype))


def _decoding(case: Case) -> SparseQuantizedLinearInputs:
    x, k, n = activations(case), case.k, case.n
    if case.option("bits", 8) == 8:
        weight = QuantizedWeight(torch.empty(k, n, dtype=torch.int8), x.new_empty(n), 8, n)
    else:
        scales = x.new_empty(k, n // case.option("group", _GROUP))
        weight = QuantizedWeight(torch.empty(k, n // 2, dtype=torch.uint8), scales, 4, n)
    return SparseQuantizedLinearInputs(x, weight, THRESHOLD)


def _settled(drawn: dict[str, Any]) -> dict[str, Any]:
    """Eight bits have no groups."""
    return {n: v for n, v in drawn.items() if n != "group"} if drawn["bits"] == 8 else drawn


def _channels(inputs: Any) -> dict[str, Axis]:
    found = {"x": Axis(1), "weight.payload": Axis(0)}
    return found | ({"weight.scales": Axis(0)} if inputs.weight.scales.ndim == 2 else {})


RECORD = OpRecord(
    op=op_of(SparseQuantizedLinearInputs),
    draw=_drawn,
    # Rows of a payload are contiguous; x and bias may have gaps.
    space=cases.decoding_space(layouts=cases.PACKED, bits=(8, 4), group=_GROUPS),
    settled=_settled,
    edges=cases.edges([{"bits": 8}, *_FOUR_BITS]),
    counted=cases.counted([{"bits": 8}, {"bits": 4, "group": 32}]),
    compiled=cases.compiled([{"bits": 8}, {"bits": 4, "group": _GROUP}]),
    decoding=_decoding,
    paged=lambda page: cases.paged_outputs(4 * page),
    timed=lambda case: case.with_options(bits=4, group=64),
    traffic=work.quantized,
    relations=LinearRelations(_channels).all(),
)
