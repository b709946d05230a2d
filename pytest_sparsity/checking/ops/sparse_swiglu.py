"""The record of ``sparse_swiglu``."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking import activations, cases
from pytest_sparsity.checking.case import SATURATED, Case
from pytest_sparsity.checking.decoding import activations as plain
from pytest_sparsity.checking.decoding import channels, neurons
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.checking.relations import gated_mlp
from pytest_sparsity.checking.relations import neurons as some_neurons
from pytest_sparsity.reference.activation import ACTIVATIONS, activate
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.precision import round_to
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs
from pytest_sparsity.targets import work


def _drawn(draw: Draw) -> SparseSwigluInputs:
    case = draw.case
    neurons = case.option("hidden", case.k)
    activation = case.option("activation", "silu")
    x = activations.plain(case, case.rows, case.k, draw.generator)
    if case.pattern == "rows_differ":
        x[1::2] = 0
    gate = draw.neurons(neurons, activated=True)
    a = activate(activation, x.double() @ gate.double().T).abs()
    threshold, places = _chosen(draw, a)
    gate = gate[places]
    x = activations.with_special(case, x, torch.ones_like(x, dtype=torch.bool), draw.generator)
    return SparseSwigluInputs(
        draw.activations_arranged(x),
        draw.arranged(gate, "output_major"),
        draw.arranged(draw.neurons(neurons), "output_major"),
        draw.weight(case.n, neurons),
        threshold,
        activation,
    )


def _chosen(draw: Draw, a: Tensor) -> tuple[float, Tensor]:
    """A threshold on |a| [rows, I], and an order of neurons in which row 0 has the pattern.

    The threshold is in the widest gap near the level, so that few neurons are so near it that a
    right kernel may take them for either.  Where |a| are integers it is one of them.
    """
    case = draw.case
    mask = activations.mask(case, 1, a.shape[1], draw.generator)[0]
    # Wanted neurons first, those at the ends before all others.
    wanted = mask.double()
    if case.pattern in ("first", "last"):
        wanted[0 if case.pattern == "first" else -1] = 2.0
    places = wanted.argsort(descending=True, stable=True)
    order = torch.empty_like(places)
    order[places] = a[0].argsort(descending=True, stable=True)
    if case.pattern in ("all", "zeros"):
        return 0.0, order
    if case.pattern == "none":
        return round_to(2 * float(a.max()) + 1.0, draw.dtype), order
    ranked = a.flatten().sort().values
    middle = min(int((1 - mask.double().mean()) * len(ranked)), len(ranked) - 1)
    if draw.integer and case.option("activation", "silu") in ("relu", "relu2"):
        return round_to(float(ranked[middle]), draw.dtype), order
    reach = max(len(ranked) // 20, 1)
    near = ranked[max(middle - reach, 0) : middle + reach + 1]
    if len(near) == 1:
        return round_to(float(near[0]) / 2, draw.dtype), order
    widest = int(near.diff().argmax())
    return round_to(float(near[widest : widest + 2].mean()), draw.dtype), order


def _decoding(case: Case) -> SparseSwigluInputs:
    x = plain(case)
    gate, up = neurons(x, case.n, case.k), neurons(x, case.n, case.k)
    return SparseSwigluInputs(x, gate, up, channels(x, case.k, case.n), 0.1)


def _part(inputs: Any, start: int, stop: int) -> Any:
    return dataclasses.replace(inputs, **some_neurons(inputs, start, stop))


RECORD = OpRecord(
    op=op_of(SparseSwigluInputs),
    draw=_drawn,
    # The threshold is not on x: ties there have no meaning.
    space=cases.decoding_space(
        (*cases.LISTED, "nan", "zeros", "rows_differ", SATURATED),
        bias=False,
        hidden=cases.SIZES,
        activation=ACTIVATIONS,
    ),
    fitted=cases.mlp_fitted,
    edges=cases.edges(
        [
            {"activation": name, "hidden": width}
            for width, name in product(cases.HIDDEN, ACTIVATIONS)
        ],
        cases.mlp_large,
    ),
    counted=cases.counted(large=cases.mlp_counted),
    compiled=cases.compiled(),
    decoding=_decoding,
    paged=cases.mlp_paged,
    timed=cases.mlp_timed,
    traffic=work.gated,
    relations=gated_mlp({}, _part),
)
