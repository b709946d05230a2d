"""The error bounds: right kernels stay within them, and wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision, sum_bound, tolerance_used
from pytest_sparsity.reference.quantization import dequantize, quantize_int4, quantize_int8
from pytest_sparsity.reference.semi_structured import pack, prune, unpack

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LINEAR = (
    "sparse_linear",
    "sparse_linear_indexed",
    "sparse_qkv",
    "sparse_quantized_linear 8",
    "sparse_quantized_linear 4",
    "semi_structured_linear",
)
VALUES = ("normal", "positive", "equal", "opposite", "heavy", "alike rows", "alike columns")
Product = Callable[[Tensor, Tensor], Tensor]


def drawn(generator: torch.Generator, values: str, *shape: int) -> Tensor:
    """Numbers of which products are easy or hard to add up, float32."""
    normal = torch.randn(*shape, generator=generator)
    return {
        "normal": normal,
        "positive": normal.abs(),
        "equal": normal[:1, :1].expand(shape),
        "opposite": normal[:1, :1].abs() * normal.sign(),
        "heavy": normal**5,
        "alike rows": normal[:1].expand(shape),
        "alike columns": normal[:, :1].expand(shape),
    }[values]


def product(x: Tensor, weight: Tensor) -> Tensor:
    return x.float() @ weight.float().T


def one_by_one(x: Tensor, weight: Tensor) -> Tensor:
    """The order of a kernel that walks through the channels: the least exact one."""
    total = torch.zeros(len(x), len(weight))
    for k in range(x.shape[1]):
        total += x[:, k : k + 1].float() * weight[:, k].float()
    return total


def coarse(x: Tensor, weight: Tensor) -> Tensor:
    """Partial sums in bfloat16, though only eight of them."""
    total = torch.zeros(len(x), len(weight))
    for a, b in zip(x.chunk(8, 1), weight.chunk(8, 1), strict=True):
        total = (total + product(a, b)).bfloat16().float()
    return total


def scale_of(
    op: str, inputs: Any, stored: torch.dtype = torch.float32
) -> Callable[[Tensor], float]:
    """What tells how much of the tolerance an output uses."""
    definition = OPS[op]
    assert definition.bound is not None
    reference = definition.define(inputs)
    bound = definition.bound(inputs, Precision(inputs.x.dtype, torch.float32, stored))
    return lambda output: float(tolerance_used(output, reference, bound).max())


def used(op: str, inputs: Any, output: Tensor, stored: torch.dtype = torch.float32) -> float:
    return scale_of(op, inputs, stored)(output)


# Linear layers


def linear_inputs(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    threshold: float,
) -> Any:
    """Operands of a linear op from a dense weight."""
    op = name.split()[0]
    extra: tuple[Any, ...] = (threshold,)
    packed: Any = weight
    if op == "sparse_linear_indexed":
        kept = operands.active(x, threshold).any(0)
        extra = (kept.nonzero().flatten().int(),)
    elif op == "sparse_qkv":
        half = len(weight) // 2
        extra = ((half, 1, len(weight) - half - 1), (threshold, 0.0, threshold / 2))
    elif name == "sparse_quantized_linear 8":
        packed = quantize_int8(weight)
    elif name == "sparse_quantized_linear 4":
        packed = quantize_int4(weight, 16, pad=True)
    elif op == "semi_structured_linear":
        packed = pack(prune(weight, 4, 8), 4, 8)
    return OPS[op].inputs(x, packed, *extra, bias)


def linear_kernel(op: str, i: Any, multiply: Product) -> Tensor:
    """The op as a float32 kernel computes it, before its result is rounded."""
    if op == "sparse_qkv":
        rows = i.weight.split(i.sizes)
        parts = [
            multiply(torch.where(operands.active(i.x, t), i.x, 0), w)
            for t, w in zip(i.thresholds, rows, strict=True)
        ]
        output = torch.cat(parts, 1)
    elif op == "sparse_linear_indexed":
        output = multiply(i.x[:, i.indices.long()], i.weight[:, i.indices.long()])
    else:
        weight, scale = i.weight, torch.ones(())
        if op == "semi_structured_linear":
            weight = unpack(weight)
        elif op == "sparse_quantized_linear" and weight.bits == 8:
            weight, scale = weight.payload.T, weight.scales.float()
        elif op == "sparse_quantized_linear":
            weight = dequantize(weight).float()
        output = multiply(torch.where(operands.active(i.x, i.threshold), i.x, 0), weight) * scale
    return output if i.bias is None else output + i.bias.float()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_right_linear_kernels_stay_within(data: st.DataObject) -> None:
    def choose(*values: Any) -> Any:
        return data.draw(st.sampled_from(values))

    name, dtype = choose(*LINEAR), choose(*DTYPES)
    channels, outputs, rows = choose(8, 64, 576, 2048), choose(3, 48), choose(1, 3)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    x = drawn(generator, choose(*VALUES), rows, channels).to(dtype)
    weight = (drawn(generator, choose(*VALUES), outputs, channels) / 32).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if choose(True, False) else None
    threshold = choose(0.0, 0.3, 1.0)
    inputs = linear_inputs(name, x, weight, bias, threshold)
    op = name.split()[0]
    share = scale_of(op, inputs)
    for multiply in (product, one_by_one):
        output = linear_kernel(op, inputs, multiply).to(dtype)
        if output.isfinite().all():
            assert share(output) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LINEAR)
def test_wrong_linear_kernels_do_not(name: str, dtype: torch.dtype) -> None:
    op = name.split()[0]
    generator = torch.Generator().manual_seed(5)
    for channels in (576, 2048):
        x = torch.randn(2, channels, generator=generator).to(dtype)
        weight = (torch.randn(192, channels, generator=generator) / 32).to(dtype)
        bias = torch.randn(192, generator=generator).to(dtype)
        inputs = linear_inputs(name, x, weight, bias, 0.5)
        right = linear_kernel(op, inputs, product)
        share = scale_of(op, inputs)
        assert share(right.to(dtype)) <= 1
        without = linear_kernel(op, replace(inputs, bias=None), product)
        fewer = x.clone()
        fewer[:, x.abs().sum(0).argmax()] = 0
        for wrong in (
            linear_kernel(op, inputs, coarse),
            right * (1.02 if dtype == torch.bfloat16 else 1.01),
            without,
            linear_kernel(op, replace(inputs, x=fewer), product),
        ):
            assert share(wrong.to(dtype)) > 1.3


def test_sums_of_equal_terms_may_err_in_one_direction() -> None:
    x, weight = torch.full((1, 2048), 0.6146951), torch.full((1, 2048), 0.38101286)
    inputs = OPS["sparse_linear"].inputs(x, weight, 0.0)
    output, reference = one_by_one(x, weight), OPS["sparse_linear"].define(inputs)
    assert (output - reference).abs() > 2 * sum_bound(reference, torch.tensor(2049), torch.float32)
    assert used("sparse_linear", inputs, output) <= 1
    biased = replace(inputs, bias=-output[0])
    assert used("sparse_linear", biased, torch.zeros(1, 1)) <= 1


# MLPs


@dataclass(frozen=True)
class Mlp:
    """An MLP kernel, stage by stage; a wrong one differs in one field."""

    gate: Product = product
    up: Product = product
    down: Product = product
    stored: torch.dtype = torch.float32
    activation: str | None = None
    threshold: float | None = None
    scale: float = 1.0
    drop: bool = False

    def __call__(self, op: str, i: Any) -> Tensor:
        def store(values: Tensor) -> Tensor:
            return values.to(self.stored).float()

        def act(values: Tensor) -> Tensor:
            return store(ACT[self.activation or i.activation](values))

        h = store(self.up(i.x, i.up))
        if op == "hot_cold_mlp":
            h = act(h) if i.gate is None else store(act(store(self.gate(i.x, i.gate))) * h)
            hot = torch.arange(h.shape[1]) < i.hot
            cold = torch.zeros_like(hot)
            cold[i.cold.long()] = True
            parts = [torch.where(hot, h, 0), torch.where(cold, h, 0)]
        else:
            threshold = i.threshold if self.threshold is None else self.threshold
            a = act(store(self.gate(i.x, i.gate)))
            parts = [torch.where(a.abs() <= threshold, 0, store(a * h))]
        if self.drop:
            for part in parts:
                part[:, part.abs().sum(0).argmax()] = 0
        output = sum(store(self.down(part, i.down)) for part in parts)
        assert isinstance(output, Tensor)
        return (output * self.scale).to(i.x.dtype)


ACT: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "relu2": lambda x: torch.relu(x) ** 2,
}
OTHER = {"silu": "gelu_tanh", "gelu_tanh": "silu", "relu": "silu", "relu2": "relu"}
MLPS = ("sparse_swiglu", "hot_cold_mlp", "hot_cold_mlp gated")


def mlp_inputs(
    name: str, x: Tensor, weights: tuple[Tensor, ...], activation: str, level: float
) -> Any:
    gate, up, down = weights
    if name == "sparse_swiglu":
        a = ACT[activation](product(x, gate)).abs().flatten()
        threshold = float(a.sort().values[int(level * (len(a) - 1))]) if level else 0.0
        return OPS[name].inputs(x, gate, up, down, threshold, activation)
    hot = len(up) // 3
    cold = torch.arange(hot, len(up), 2, dtype=torch.int32)
    gated = gate if name.endswith("gated") else None
    return OPS["hot_cold_mlp"].inputs(x, up, down, hot, cold, activation, gated)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_right_mlp_kernels_stay_within(data: st.DataObject) -> None:
    def choose(*values: Any) -> Any:
        return data.draw(st.sampled_from(values))

    name, dtype, activation = choose(*MLPS), choose(*DTYPES), choose(*ACTIVATIONS)
    channels, neurons, outputs = choose(1, 7, 64, 576), choose(1, 5, 300, 1536), choose(1, 40)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    calm = VALUES if dtype != torch.float16 else tuple(v for v in VALUES if v != "heavy")
    x = drawn(generator, choose(*calm), choose(1, 3), channels).to(dtype)
    shapes = ((neurons, channels), (neurons, channels), (outputs, neurons))
    weights = [
        (drawn(generator, choose(*calm), *shape) / shape[1] ** 0.5).to(dtype) for shape in shapes
    ]
    inputs = mlp_inputs(name, x, tuple(weights), activation, choose(0.0, 0.3, 0.9))
    multiply = one_by_one if channels < 100 and neurons < 1000 else product
    for stored in (torch.float32, dtype):
        output = Mlp(multiply, multiply, multiply, stored)(name.split()[0], inputs)
        if output.isfinite().all():
            assert used(name.split()[0], inputs, output, stored) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", MLPS)
def test_wrong_mlp_kernels_do_not(name: str, activation: str, dtype: torch.dtype) -> None:
    op = name.split()[0]
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 576, generator=generator).to(dtype)
    shapes = ((1536, 576), (1536, 576), (192, 1536))
    weights = [
        (torch.randn(shape, generator=generator) / shape[1] ** 0.5).to(dtype) for shape in shapes
    ]
    inputs = mlp_inputs(name, x, tuple(weights), activation, 0.7)
    share = scale_of(op, inputs)
    assert share(Mlp()(op, inputs)) <= 1
    wrong = [
        Mlp(up=coarse),
        Mlp(down=coarse),
        Mlp(activation=OTHER[activation]),
        Mlp(scale=1.02 if dtype == torch.bfloat16 else 1.01),
        Mlp(drop=True),
    ]
    if name != "hot_cold_mlp":
        wrong.append(Mlp(gate=coarse))
    if name == "sparse_swiglu":
        wrong += [Mlp(threshold=0.0), Mlp(threshold=1.1 * inputs.threshold)]
    for kernel in wrong:
        assert share(kernel(op, inputs)) > 1.3, kernel


def test_coarse_intermediates_are_a_matter_of_declaration() -> None:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 576, generator=generator)
    weights = tuple(
        torch.randn(shape, generator=generator) / shape[1] ** 0.5
        for shape in ((1536, 576), (1536, 576), (192, 1536))
    )
    for name in MLPS:
        inputs = mlp_inputs(name, x, weights, "silu", 0.5)
        output = Mlp(stored=torch.bfloat16)(name.split()[0], inputs)
        assert used(name.split()[0], inputs, output) > 10
        assert used(name.split()[0], inputs, output, torch.bfloat16) <= 1


def test_a_neuron_at_the_threshold_may_be_either() -> None:
    x, weight = torch.ones(1, 1), torch.ones(1, 1)
    up = torch.full((1, 1), 3.0)
    for threshold, right in ((1.0, True), (1 + 1e-7, True), (0.99, False), (1.01, False)):
        inputs = OPS["sparse_swiglu"].inputs(x, weight, up, weight, threshold, "relu")
        skipped = used("sparse_swiglu", inputs, torch.zeros(1, 1)) <= 1
        computed = used("sparse_swiglu", inputs, torch.full((1, 1), 3.0)) <= 1
        assert skipped == (right or threshold > 1)
        assert computed == (right or threshold < 1)
    # A tie for a kernel that stores a in bfloat16 is none for one that keeps it in float32.
    inputs = OPS["sparse_swiglu"].inputs(x, weight, up, weight, 1.001, "relu")
    assert used("sparse_swiglu", inputs, torch.full((1, 1), 3.0), torch.bfloat16) <= 1
    assert used("sparse_swiglu", inputs, torch.full((1, 1), 3.0)) > 1
