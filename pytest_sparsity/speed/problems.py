"""What the kernel benchmark times: operands of an op at a shape, and dense ways to compute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pytest_sparsity.kernels.dispatch import obstacle
from pytest_sparsity.kernels.registry import Kernel, registered
from pytest_sparsity.kernels.unchecked import unchecked
from pytest_sparsity.reference.activation import activate
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs
from pytest_sparsity.reference.operands import arguments, tensors
from pytest_sparsity.reference.ops import OPS, as_tuple, op_of
from pytest_sparsity.reference.precision import Precision, tolerance_used
from pytest_sparsity.reference.quantization import QuantizedWeight
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs
from pytest_sparsity.reference.sparse_qkv import SparseQkvInputs
from pytest_sparsity.reference.sparse_quantized_linear import SparseQuantizedLinearInputs
from pytest_sparsity.reference.sparse_swiglu import SparseSwigluInputs

Dense = Callable[[Tensor, Tensor], Tensor]  # x [1, K], output-major weight [N, K] -> [1, N]
GROUP = 64


@dataclass(frozen=True)
class Problem:
    """One op on one row at one shape.

    Attributes:
        op: its name.
        at: operands by level, which is the fraction of channels or neurons that are inactive; at
            level 0 none is.
        dense: name to a function that computes the op at level 0, from weights of its own
            layout.
        ideal: level to the speed-up of a kernel whose time is the weights it must read.
    """

    op: str
    at: Mapping[float, Any]
    dense: Mapping[str, Callable[[], Tensor]]
    ideal: Mapping[float, float]

    @property
    def x(self) -> Tensor:
        """The activations, [1, K]."""
        x: Tensor = self.at[0.0].x
        return x

    def bytes_needed(self, level: float) -> int:
        """Bytes of weights that a sparse kernel reads."""
        inputs = self.at[level]
        named = tensors(inputs)
        masks = OPS[self.op].must_read(inputs)
        return sum(int(mask.sum()) * named[name].element_size() for name, mask in masks.items())

    def call(self, kernel: Kernel, level: float, *, checked: bool = True) -> Callable[[], Tensor]:
        """A call of a kernel with the operands of a level.

        Args:
            kernel: of this op.
            level: one of ``at``.
            checked: the kernel looks at its operands, as whoever calls it once wants it; False for
                loops that have looked before.  Kernels of others have no such choice.
        """
        run = kernel.call if checked else unchecked(kernel)
        return partial(run, **arguments(self.at[level]))


def runnable(op: str, device: str, dtype: str) -> list[Kernel]:
    """The kernels of an op that run here and leave skipped weights unread.

    Args:
        op: its name.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: of weights and activations, for example ``"bfloat16"``.
    """
    return [
        kernel
        for kernel in registered().values()
        if kernel.op == op and kernel.skips and obstacle(kernel, device, dtype) is None
    ]


def dense_ways(device: str) -> dict[str, Dense]:
    """Dense layers for weights whose rows are contiguous: torch's, and plain dot products."""
    ways: dict[str, Dense] = {"torch F.linear": functional.linear}
    if device == "cpu":
        from pytest_sparsity.kernels.cpu import dense_linear as cpu
        from pytest_sparsity.kernels.native import dense_linear as native
        from pytest_sparsity.kernels.native import library

        def row_dot(x: Tensor, weight: Tensor) -> Tensor:
            out = x.new_empty(x.shape[0], weight.shape[0])
            cpu.run(x, weight, None, out)
            return out

        ways["cpu row-dot"] = row_dot
        if library.unavailable() is None:
            ways["native row-dot"] = native.dense_linear
    return ways


class Oracle:
    """The float64 result and error bound of a problem at one level."""

    def __init__(self, problem: Problem, level: float) -> None:
        op, inputs = OPS[problem.op], problem.at[level]
        assert op.bound is not None
        (self._reference,) = as_tuple(op.define(inputs))
        self._bounds: dict[Precision, Tensor] = {}
        self._bound = partial(op.bound, inputs)

    def tolerance_used(self, output: Tensor, precision: Precision) -> float:
        """Largest error over bound; at most 1 if ``output`` is right."""
        if precision not in self._bounds:
            (self._bounds[precision],) = as_tuple(self._bound(precision))
        return float(tolerance_used(output, self._reference, self._bounds[precision]).max())


def linear_problem(
    k: int, n: int, levels: tuple[float, ...], dense: Mapping[str, Dense], device: str, seed: int
) -> Problem:
    """``sparse_linear`` in bfloat16, weight input-major; dense ways get an output-major copy."""
    normal = _normal(device, seed)
    x = normal(1, k)
    channels = normal(k, n) / k**0.5
    weight = channels.t().contiguous()
    return Problem(
        op_of(SparseLinearInputs).name,
        _by_threshold(SparseLinearInputs(x, channels.t(), 0.0), x.float().abs(), levels),
        {name: partial(compute, x, weight) for name, compute in dense.items()},
        {level: 1 / (1 - level) for level in levels},
    )


def int4_problem(
    k: int, n: int, levels: tuple[float, ...], dense: Mapping[str, Dense], device: str, seed: int
) -> Problem:
    """``sparse_quantized_linear`` in 4 bits, in groups of 64 outputs.

    torch's own int4 groups *input* channels.  With one scale for all groups the two formats hold
    the same weights, and neither kernel can tell; a power of two keeps bfloat16 exact.
    """
    x = _normal(device, seed)(1, k)
    generator = torch.Generator(device).manual_seed(seed + 1)
    payload = torch.randint(
        0, 256, (k, n // 2), dtype=torch.uint8, device=device, generator=generator
    )
    scale = torch.tensor(2.0 ** round(math.log2(0.2 / k**0.5)), dtype=x.dtype, device=device)
    weight = QuantizedWeight(payload, scale.expand(k, n // GROUP).contiguous(), 4, n)
    ways: dict[str, Callable[[], Tensor]] = {
        name: partial(compute, x, _dequantized(weight)) for name, compute in dense.items()
    }
    if device == "cpu":
        nibbles = torch.cat([payload & 0xF, payload >> 4], 1).t().int().contiguous()
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles, 1)
        scales = torch.stack([scale, torch.zeros_like(scale)]).expand(k // GROUP, n, 2).contiguous()
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
        ways["torch int4pack"] = partial(multiply, x, packed, GROUP, scales)
    return Problem(
        op_of(SparseQuantizedLinearInputs).name,
        _by_threshold(SparseQuantizedLinearInputs(x, weight, 0.0), x.float().abs(), levels),
        ways,
        {level: 1 / (1 - level) for level in levels},
    )


def swiglu_problem(
    k: int, n: int, levels: tuple[float, ...], dense: Mapping[str, Dense], device: str, seed: int
) -> Problem:
    """``sparse_swiglu`` in bfloat16: k channels, n neurons.

    The gate is read whole: of three matrices, 3 - 2 level are left.
    """
    x, gate, up, down, a, ways = _mlp(k, n, dense, device, seed)
    return Problem(
        op_of(SparseSwigluInputs).name,
        _by_threshold(SparseSwigluInputs(x, gate, up, down, 0.0), a, levels),
        ways,
        {level: 3 / (3 - 2 * level) for level in levels},
    )


def qkv_problem(
    k: int,
    sizes: tuple[int, int, int],
    levels: tuple[float, ...],
    dense: Mapping[str, Dense],
    device: str,
    seed: int,
) -> Problem:
    """``sparse_qkv`` in bfloat16, weight input-major; one threshold for q, k and v."""
    normal = _normal(device, seed)
    x = normal(1, k)
    channels = normal(k, sum(sizes)) / k**0.5
    weight = channels.t().contiguous()
    ordered = x.float().abs().flatten().sort().values
    thresholds = {level: float(ordered[round(level * k) - 1]) for level in levels}
    return Problem(
        op_of(SparseQkvInputs).name,
        {
            level: SparseQkvInputs(x, channels.t(), sizes, (threshold,) * 3)
            for level, threshold in {0.0: 0.0, **thresholds}.items()
        },
        {name: partial(compute, x, weight) for name, compute in dense.items()},
        {level: 1 / (1 - level) for level in levels},
    )


def predicted_problem(
    k: int, n: int, levels: tuple[float, ...], dense: Mapping[str, Dense], device: str, seed: int
) -> Problem:
    """``hot_cold_mlp`` in bfloat16 on a swiglu MLP: k channels, n neurons, none of them hot.

    The neurons are known before (the prediction, and its cost, are left out), so that the gate
    is sparse as well.
    """
    x, gate, up, down, a, ways = _mlp(k, n, dense, device, seed)

    def largest(level: float) -> HotColdMlpInputs:
        kept = a.flatten().topk(n - round(level * n)).indices.sort().values.int()
        return HotColdMlpInputs(x, up, down, 0, kept, "silu", gate)

    return Problem(
        op_of(HotColdMlpInputs).name,
        {level: largest(level) for level in (0.0, *levels)},
        ways,
        {level: 1 / (1 - level) for level in levels},
    )


def _mlp(
    k: int, n: int, dense: Mapping[str, Dense], device: str, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, dict[str, Callable[[], Tensor]]]:
    """x, gate, up, down as sparse kernels want them, |silu(gate x)| [1, n], and dense ways."""
    normal = _normal(device, seed)
    x = normal(1, k)
    gate, up, rows = normal(n, k) / k**0.5, normal(n, k) / k**0.5, normal(n, k) / n**0.5
    down = rows.t().contiguous()

    def mlp(compute: Dense) -> Tensor:
        hidden = functional.silu(compute(x, gate)) * compute(x, up)
        return compute(hidden, down)

    magnitude = activate("silu", x.double() @ gate.double().t()).abs()
    ways: dict[str, Callable[[], Tensor]] = {
        name: partial(mlp, compute) for name, compute in dense.items()
    }
    return x, gate, up, rows.t(), magnitude, ways


def _by_threshold(inputs: Any, magnitude: Tensor, levels: tuple[float, ...]) -> dict[float, Any]:
    """The operands by level; the threshold of each makes that fraction of magnitudes inactive."""
    ordered = magnitude.flatten().sort().values
    thresholds = {level: float(ordered[round(level * len(ordered)) - 1]) for level in levels}
    return {0.0: inputs, **{level: replace(inputs, threshold=t) for level, t in thresholds.items()}}


def _normal(device: str, seed: int) -> Callable[[int, int], Tensor]:
    generator = torch.Generator(device).manual_seed(seed)

    def draw(rows: int, columns: int) -> Tensor:
        empty = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)
        return empty.normal_(generator=generator)

    return draw


def _dequantized(weight: QuantizedWeight) -> Tensor:
    nibbles = torch.cat([weight.payload & 0xF, weight.payload >> 4], 1).to(weight.scales.dtype) - 8
    return (nibbles * weight.scales[0, 0]).t().contiguous()
