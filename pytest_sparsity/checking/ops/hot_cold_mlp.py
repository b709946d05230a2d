"""The record of ``hot_cold_mlp``."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import torch

from pytest_sparsity.checking import activations, cases
from pytest_sparsity.checking.case import SATURATED, Case, Value
from pytest_sparsity.checking.decoding import activations as plain
from pytest_sparsity.checking.decoding import channels, every, neurons
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import gated_mlp
from pytest_sparsity.checking.relations import neurons as some_neurons
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.targets import work


def _drawn(draw: Draw) -> HotColdMlpInputs:
    case = draw.case
    neurons = case.option("hidden", case.k)
    hot = min(case.option("hot", neurons // 2), neurons)
    x = activations.plain(case, case.rows, case.k, draw.generator)
    x = activations.with_special(case, x, torch.ones_like(x, dtype=torch.bool), draw.generator)
    chosen = torch.zeros(neurons, dtype=torch.bool)
    if hot < neurons:
        chosen[hot:] = activations.mask(case, 1, neurons - hot, draw.generator)[0]
    gated = case.option("gate", False)
    return HotColdMlpInputs(
        draw.activations_arranged(x),
        draw.arranged(draw.neurons(neurons, activated=not gated), "output_major"),
        draw.weight(case.n, neurons),
        hot,
        draw.listed(chosen),
        case.option("activation", "relu"),
        draw.arranged(draw.neurons(neurons, activated=True), "output_major") if gated else None,
    )


def _decoding(case: Case) -> HotColdMlpInputs:
    x, hot = plain(case), case.n // 4
    up, down = neurons(x, case.n, case.k), channels(x, case.k, case.n)
    return HotColdMlpInputs(x, up, down, hot, every(4, hot, case.n))


def _settled(drawn: dict[str, Any]) -> dict[str, Any]:
    """``hot`` is drawn as the share of the neurons."""
    return drawn | {"hot": int(drawn["hot"] * drawn["hidden"])}


def _edges() -> list[dict[str, Value]]:
    return [
        {"activation": name, "gate": gate, "hidden": width, "hot": hot}
        for gate, width, name in product((False, True), cases.HIDDEN, ACTIVATIONS)
        for hot in {0, width // 3, width}
    ]


def _large(case: Case, hidden: int, index: int) -> Case:
    large = cases.mlp_large(case, hidden, index)
    if case.pattern == "last":  # relu may make a single neuron 0
        return large.with_options(hot=0, activation="silu")
    return large.with_options(hot=hidden // 2)


def _timed(case: Case) -> Case:
    found = cases.mlp_timed(case)
    hot = found.option("hidden", 0) // 4
    return found.with_options(gate=True, activation="silu", hot=hot)


def _part(inputs: Any, start: int, stop: int) -> Any:
    cold = inputs.cold[(inputs.cold >= start) & (inputs.cold < stop)] - start
    hot = min(max(inputs.hot - start, 0), stop - start)
    return dataclasses.replace(inputs, **some_neurons(inputs, start, stop), hot=hot, cold=cold)


RECORD = OpRecord(
    op=op_of(HotColdMlpInputs),
    draw=_drawn,
    # 0 times infinity is NaN, unless a kernel leaves out neurons that are zero, which it may.
    space=cases.decoding_space(
        (*cases.LISTED, "nan", SATURATED),
        bias=False,
        hidden=cases.SIZES,
        activation=ACTIVATIONS,
        hot=(0.5, 0.0, 1.0, 0.1),
        gate=(False, True),
    ),
    settled=_settled,
    fitted=cases.mlp_fitted,
    edges=cases.edges(_edges(), _large),
    counted=cases.counted([{"gate": True}, {"gate": False}], large=cases.mlp_counted),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=cases.mlp_paged,
    timed=_timed,
    traffic=work.predicted,
    relations=gated_mlp({"hot": (0.0,)}, _part),
)
