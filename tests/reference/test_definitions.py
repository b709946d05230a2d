"""Every definition against plain loops over numbers, and what each says is needed by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_sparsity.reference import operands
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.ops import OPS
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.quantization import dequantize, quantize_int4, quantize_int8
from pytest_sparsity.reference.semi_structured import PATTERNS, pack, prune, unpack

nan = math.nan
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Draw:
    """Seeded tensors of one dtype."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._dtype = dtype

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator).to(self._dtype)

    def some(self, start: int, stop: int) -> Tensor:
        """About half of the numbers from start to stop."""
        chosen = torch.rand(stop - start, generator=self._generator) < 0.5
        return torch.arange(start, stop, dtype=torch.int32)[chosen]


def examples(seed: int, dtype: torch.dtype) -> dict[str, Any]:
    """Small operands of every op and of its variants: name of the op and a letter -> inputs."""
    draw = Draw(seed, dtype)
    x = draw(3, 16)
    x[:, ::5] = 0
    made: dict[str, Any] = {}

    def add(name: str, *arguments: Any) -> None:
        made[f"{name} {len(made)}"] = OPS[name].inputs(*arguments)

    add("sparse_linear", x, draw(5, 16), 0.9, draw(5))
    add("sparse_linear", x, draw(16, 5).T, 0.0)
    add("sparse_linear_indexed", x, draw(5, 16), draw.some(0, 16), draw(5))
    add("sparse_linear_indexed", x, draw(5, 16), torch.empty(0, dtype=torch.int32))
    add("sparse_qkv", x, draw(8, 16), (4, 3, 1), (0.2, 1.0, 2.0), draw(8))
    for activation in ACTIVATIONS:
        threshold = 0.0 if activation == "relu2" else 0.4
        add("sparse_swiglu", x, draw(9, 16), draw(9, 16), draw(5, 9), threshold, activation)
        add("hot_cold_mlp", x, draw(9, 16), draw(5, 9), 4, draw.some(4, 9), activation)
        gate = draw(9, 16)
        add("hot_cold_mlp", x, draw(9, 16), draw(5, 9), 3, draw.some(3, 9), activation, gate)
    add("sparse_quantized_linear", x, quantize_int8(draw(5, 16)), 1.0, draw(5))
    add("sparse_quantized_linear", x, quantize_int4(draw(5, 16), 4, pad=True), 1.0)
    for n, m in PATTERNS:
        add("semi_structured_linear", x, pack(prune(draw(5, 16), n, m), n, m), 1.5, draw(5))
    add("compact", x, 1.0)
    return made


NAMES = tuple(examples(0, torch.float32))


def act(name: str, x: float) -> float:
    if name == "silu":
        return x / (1 + math.exp(-x))
    if name == "gelu_tanh":
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return max(x, 0.0) ** (1 if name == "relu" else 2)


def dot(weights: list[float], x: list[float]) -> float:
    return math.fsum(w * v for w, v in zip(weights, x, strict=True))


def by_loops(name: str, i: Any) -> list[list[float]]:
    """The op, number by number."""
    if name == "sparse_swiglu":
        return [mlp_row(i, row, i.gate, range(len(i.up)), i.threshold) for row in i.x.tolist()]
    if name == "hot_cold_mlp":
        neurons = [*range(i.hot), *i.cold.tolist()]
        return [mlp_row(i, row, i.gate, neurons, -1.0) for row in i.x.tolist()]
    weight = i.weight
    if name == "sparse_quantized_linear":
        weight = dequantize(weight)
    if name == "semi_structured_linear":
        weight = unpack(weight)
    output: list[list[float]] = []
    for row in i.x.tolist():
        output.append([])
        for n, weights in enumerate(weight.tolist()):
            total = 0.0 if i.bias is None else float(i.bias[n])
            for k, value in enumerate(row):
                if name == "sparse_linear_indexed":
                    keep = k in i.indices.tolist()
                elif name == "sparse_qkv":
                    part = (n >= i.sizes[0]) + (n >= i.sizes[0] + i.sizes[1])
                    keep = abs(value) > i.thresholds[part]
                else:
                    keep = abs(value) > i.threshold
                total += weights[k] * value if keep else 0.0
            output[-1].append(total)
    return output


def mlp_row(
    i: Any, row: list[float], gate: Tensor | None, neurons: Any, threshold: float
) -> list[float]:
    output = [0.0] * len(i.down)
    for neuron in neurons:
        up = dot(i.up[neuron].tolist(), row)
        if gate is None:
            hidden = act(i.activation, up)
        else:
            a = act(i.activation, dot(gate[neuron].tolist(), row))
            hidden = a * up if abs(a) > threshold else 0.0
        for n in range(len(output)):
            output[n] += float(i.down[n, neuron]) * hidden
    return output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("example", NAMES)
def test_definitions_by_loops(example: str, seed: int, dtype: torch.dtype) -> None:
    name = example.split()[0]
    inputs = examples(seed, dtype)[example]
    output = OPS[name].define(inputs)
    if name == "compact":
        columns = inputs.x.T.tolist()
        active = [k for k, column in enumerate(columns) if max(map(abs, column)) > 1.0]
        assert output.dtype == torch.int32
        assert output.tolist() == active
        return
    assert output.dtype == torch.float64
    expected = torch.tensor(by_loops(name, inputs), dtype=torch.float64)
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)


def poisoned(inputs: Any, masks: Mapping[str, Tensor]) -> Any:
    """The same operands with NaN, or all bits set, in what is not needed."""
    tensors = operands.tensors(inputs)
    new = {}
    for name, keep in masks.items():
        assert keep.shape == tensors[name].shape
        assert keep.dtype == torch.bool
        worst = nan if tensors[name].is_floating_point() else torch.tensor(-1).to(tensors[name])
        new[name] = torch.where(keep, tensors[name], worst)
    return operands.with_tensors(inputs, new)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("example", NAMES)
def test_what_is_not_needed_does_not_matter(example: str, dtype: torch.dtype) -> None:
    op = OPS[example.split()[0]]
    for seed in range(3):
        inputs = examples(seed, dtype)[example]
        changed = poisoned(inputs, op.must_read(inputs))
        assert torch.equal(op.define(changed), op.define(inputs))
        if op.bound is None:
            continue
        for intermediate in (torch.float32, dtype):
            precision = Precision(dtype, torch.float32, intermediate)
            bound = op.bound(inputs, precision)
            assert bound.isfinite().all()
            assert (bound > 0).all()
            assert torch.equal(op.bound(changed, precision), bound)


@pytest.mark.parametrize("example", [name for name in NAMES if not name.startswith("compact")])
def test_a_nan_activation_spoils_its_row_alone(example: str) -> None:
    op = OPS[example.split()[0]]
    inputs = examples(0, torch.float32)[example]
    before = op.define(inputs)
    channels = range(16)
    if example.startswith("sparse_linear_indexed"):
        channels = inputs.indices.tolist()
    for channel in channels:
        inputs.x[1, channel] = nan
        after = op.define(inputs)
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        if example.startswith("semi_structured"):  # only the outputs that keep the channel
            kept = unpack(inputs.weight)[:, channel] != 0
            assert (after[1].isnan() | ~kept).all()
        else:
            assert after[1].isnan().all()


def test_a_nan_activation_is_active() -> None:
    inputs = OPS["compact"].inputs(torch.tensor([[0.1, nan, 0.1]]), 0.5)
    assert OPS["compact"].define(inputs).tolist() == [1]


def test_channels_that_an_output_does_not_keep_are_no_part_of_it() -> None:
    weight = pack(torch.tensor([[1.0, 2, 0, 0], [0.0, 2, 3, 0]]), 2, 4)
    inputs = OPS["semi_structured_linear"].inputs(torch.tensor([[nan, 1.0, 1, 1]]), weight)
    output = OPS["semi_structured_linear"].define(inputs)
    assert output[0, 0].isnan()
    assert output[0, 1] == 5


# What is needed, by hand: channel 0 is active in row 0, channel 2 in row 1, the others nowhere.

X = torch.tensor([[2.0, 0.1, 0.1, 0.1], [0.1, 0.1, -2.0, 0.5]])
KEEP = [True, False, True, False]


def needed(name: str, *arguments: Any) -> dict[str, Any]:
    inputs = OPS[name].inputs(*arguments)
    return {key: mask.tolist() for key, mask in OPS[name].must_read(inputs).items()}


def test_needed_of_linear_layers() -> None:
    weight = torch.ones(2, 4)
    assert needed("sparse_linear", X, weight, 0.5) == {"weight": [KEEP, KEEP]}
    indices = torch.tensor([1, 3], dtype=torch.int32)
    expected = [False, True, False, True]
    assert needed("sparse_linear_indexed", X, weight, indices) == {"weight": [expected] * 2}
    thresholds = (0.5, 0.4, 3.0)
    assert needed("sparse_qkv", X, torch.ones(4, 4), (2, 1, 1), thresholds) == {
        "weight": [KEEP, KEEP, [True, False, True, True], [False] * 4]
    }
    assert needed("compact", X, 0.5) == {}


def test_needed_of_packed_weights() -> None:
    assert needed("sparse_quantized_linear", X, quantize_int8(torch.ones(3, 4)), 0.5) == {
        "weight.payload": [[keep] * 3 for keep in KEEP],
        "weight.scales": [True] * 3,
    }
    assert needed("sparse_quantized_linear", X, quantize_int4(torch.ones(8, 4), 4), 0.5) == {
        "weight.payload": [[keep] * 4 for keep in KEEP],
        "weight.scales": [[keep] * 2 for keep in KEEP],
    }
    x = torch.tensor([[0.1] * 4 + [0.1, 0.1, 2.0, 0.1] + [0.1] * 4])
    weight = pack(prune(torch.ones(3, 12), 2, 4), 2, 4)
    assert needed("semi_structured_linear", x, weight, 0.5) == {
        "weight.values": [[[False] * 3] * 2, [[True] * 3] * 2, [[False] * 3] * 2],
        "weight.indices": [[[False] * 3], [[True] * 3], [[False] * 3]],
    }


def test_needed_of_gated_layers() -> None:
    # Gates of the neurons: row 0: 2, 0.1, 0.5 (a tie), 0; row 1: 0.1, 0.1, -2, 0.5 after relu 0.
    gate = torch.eye(4)
    x = torch.tensor([[2.0, 0.1, 0.25, 0.0], [0.1, 0.1, -2.0, 1.0]])
    up, down = torch.ones(4, 4), torch.ones(3, 4)
    masks = needed("sparse_swiglu", x, gate, up, down, 0.5, "relu")
    neurons = [True, False, False, True]
    assert masks == {
        "gate": [[True] * 4] * 4,
        "up": [[keep] * 4 for keep in neurons],
        "down": [neurons] * 3,
    }
    # A neuron at the threshold may be active for a kernel that rounds otherwise.
    assert needed("sparse_swiglu", x, gate, up, down, 1.0, "relu")["down"] == [neurons] * 3
    # relu gives exact zeros, which a threshold of zero skips for certain.
    assert (
        needed("sparse_swiglu", -x.abs(), gate, up, down, 0.0, "relu")["down"] == [[False] * 4] * 3
    )
    cold = torch.tensor([2], dtype=torch.int32)
    computed = [True, False, True, False]
    masks = needed("hot_cold_mlp", x, up, down, 1, cold, "relu", gate)
    rows = [[keep] * 4 for keep in computed]
    assert masks == {"up": rows, "down": [computed] * 3, "gate": rows}
    assert set(needed("hot_cold_mlp", x, up, down, 1, cold)) == {"up", "down"}
