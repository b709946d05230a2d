"""Integers by rounding and by GPTQ, against the format of reference/ and the definition."""

from __future__ import annotations

import pytest
import torch

from pytest_sparsity.models.compression import columns, pruning, quantisation
from pytest_sparsity.models.compression.hessian import DAMPING, output_error, second_moment
from pytest_sparsity.models.compression.names import parse
from pytest_sparsity.reference.quantization import dequantize, quantize_int4, quantize_int8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_those_of_the_stored_form(layer, dtype):
    weight = layer(64, 9)[0].to(dtype)
    assert quantisation.int8(weight).dtype == dtype
    assert torch.equal(quantisation.int8(weight), dequantize(quantize_int8(weight)).to(dtype))
    assert torch.equal(
        quantisation.int4(weight, 32), dequantize(quantize_int4(weight, 32)).to(dtype)
    )


def test_int8_is_within_half_a_step(layer):
    weight, _ = layer(16, 9)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((weight - quantisation.int8(weight)).abs() <= step / 2 * 1.001).all()


def test_smaller_groups_lose_less(layer):
    weight, _ = layer(128, 32)
    errors = [float((weight - quantisation.int4(weight, g)).pow(2).sum()) for g in (16, 64, 128)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("block", [128, 4])
def test_gptq_by_definition(layer, monkeypatch, block):
    """Column by column with explicit inverses, in float64."""
    monkeypatch.setattr(columns, "BLOCK", block)
    weight, x = layer(8, 12)
    hessian = second_moment(x)
    order = hessian.diagonal().argsort(descending=True)
    w, h = weight.double()[:, order], hessian.double()[order][:, order]
    h.diagonal().add_(DAMPING * h.diagonal().mean())
    for k in range(12):
        column = w[:, k]
        scale = column.view(2, 4).abs().amax(1).float().repeat_interleave(4) / 7
        stored = (column / scale).round().clamp(-7, 7) * scale
        inverse = torch.linalg.inv(h[k:, k:])
        w[:, k + 1 :] -= ((column - stored) / inverse[0, 0])[:, None] * inverse[0, 1:]
        w[:, k] = stored
    expected = w[:, order.argsort()]
    assert torch.allclose(quantisation.gptq4(weight, hessian, 4).double(), expected, atol=1e-4)


def test_gptq_gives_values_of_the_stored_form(layer):
    weight, x = layer(32, 24)
    weight = weight.bfloat16()
    found = quantisation.gptq4(weight, second_moment(x), 16)
    assert found.dtype == torch.bfloat16
    # Each group is a scale times integers from -7 to 7, of which the largest is 7.
    groups = found.T.reshape(24, 2, 16).double()
    steps = groups / groups.abs().amax(2, keepdim=True) * 7
    assert torch.allclose(steps, steps.round(), atol=0.06)


def test_gptq_loses_less_in_the_outputs(layer):
    """Papers' claim Q3, on the data it was calibrated with and on others."""
    weight, x = layer(64, 64)
    _, others = layer(64, 64, seed=0, rows=4000)
    rounded, found = quantisation.int4(weight, 32), quantisation.gptq4(weight, second_moment(x), 32)
    for data in (x, others[400:]):
        hessian = second_moment(data)
        assert output_error(weight - found, hessian) < output_error(weight - rounded, hessian)


@pytest.mark.parametrize("amount", ["0.5", "2:4"])
def test_pruned_zeros_stay_zero(layer, amount):
    weight, x = layer(64, 32)
    pruned = pruning.magnitude(weight, parse(f"magnitude-{amount}"))
    for found in (
        quantisation.int8(pruned),
        quantisation.int4(pruned, 32),
        quantisation.gptq4(pruned, second_moment(x), 32),
    ):
        assert not found[pruned == 0].any()
        assert found[pruned != 0].any()


def test_gptq_makes_up_for_zeros_too(layer):
    weight, x = layer(64, 64)
    hessian = second_moment(x)
    pruned = pruning.magnitude(weight, parse("magnitude-0.5"))
    error = output_error(pruned - quantisation.gptq4(pruned, hessian, 32), hessian)
    assert error < output_error(pruned - quantisation.int4(pruned, 32), hessian)


@pytest.mark.parametrize("dead", [(1, 5), tuple(range(16))])
def test_dead_inputs(layer, dead):
    weight, x = layer(8, 16)
    x[:, dead] = 0
    found = quantisation.gptq4(weight, second_moment(x), 4)
    assert found.isfinite().all()
    assert not found[:, dead].any()
