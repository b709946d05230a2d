"""The torch kernel against its float64 definition, and the bound against wrong kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_sparsity.kernels.torch import sparse_linear as kernel
from pytest_sparsity.reference import operands, precision
from pytest_sparsity.reference import sparse_linear as reference
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MODEL_SHAPES = ((576, 576), (576, 192), (576, 1536), (1536, 576), (640, 1024), (2048, 640))
nan, inf = math.nan, math.inf


@dataclass(frozen=True)
class Case:
    """Everything that makes one set of operands; the tensors follow from the seed."""

    rows: int
    channels: int
    outputs: int
    dtype: torch.dtype
    level: float
    seed: int
    bias: bool = False

    def inputs(self) -> SparseLinearInputs:
        """Activations with ties at the threshold, signed zeros and subnormals among them."""
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(self.rows, self.channels, generator=generator)
        x = (x * 10 ** torch.empty(1).uniform_(-2, 1, generator=generator)).to(self.dtype)
        threshold = quantile(x, self.level)
        flat = x.view(-1)
        info = torch.finfo(self.dtype)
        for value in (threshold, -threshold, 0.0, -0.0, info.smallest_normal * info.eps):
            spots = torch.rand(flat.shape, generator=generator) < 0.02
            flat[spots] = value
        weight = (torch.randn(self.outputs, self.channels, generator=generator) * 0.02).to(x)
        bias = torch.randn(self.outputs, generator=generator).to(x) if self.bias else None
        return SparseLinearInputs(x, weight, threshold, bias)


def quantile(x: Tensor, level: float) -> float:
    """The magnitude below or at which the share ``level`` of x lies; level 0: zero."""
    magnitudes = x.abs().float().flatten().sort().values
    rank = math.ceil(level * magnitudes.numel())
    return float(magnitudes[rank - 1]) if rank else 0.0


def run(inputs: SparseLinearInputs) -> Tensor:
    return kernel.sparse_linear(inputs.x, inputs.weight, inputs.threshold, inputs.bias)


def active(inputs: SparseLinearInputs) -> Tensor:
    return operands.active(inputs.x, inputs.threshold)


def bound_of(inputs: SparseLinearInputs, output: torch.dtype, accumulate: torch.dtype) -> Tensor:
    return reference.error_bound(inputs, Precision(output, accumulate, accumulate))


def tolerance_used(
    output: Tensor, inputs: SparseLinearInputs, accumulate: torch.dtype = torch.float32
) -> Tensor:
    bound = bound_of(inputs, output.dtype, accumulate)
    return precision.tolerance_used(output, reference.sparse_linear(inputs), bound)


def cases() -> st.SearchStrategy[Case]:
    small = st.integers(1, 67)
    shapes = st.one_of(st.tuples(small, small), st.sampled_from(MODEL_SHAPES))
    levels = st.sampled_from((0.0, 0.25, 0.4, 0.5, 0.9, 0.99, 1.0))
    return st.builds(
        lambda shape, rows, dtype, level, seed, bias: Case(
            rows, *shape, dtype=dtype, level=level, seed=seed, bias=bias
        ),
        shapes,
        st.integers(1, 8),
        st.sampled_from(DTYPES),
        levels,
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )


@settings(deadline=None, max_examples=80)
@given(cases())
@example(Case(1, 1, 1, torch.float32, 0.0, 0))
@example(Case(2, 1, 1, torch.bfloat16, 1.0, 0, bias=True))
def test_kernel_is_within_the_bound(case: Case) -> None:
    inputs = case.inputs()
    output = run(inputs)
    assert output.dtype == case.dtype
    assert tolerance_used(output, inputs).max() <= 1


@settings(deadline=None, max_examples=40)
@given(cases(), st.sampled_from((nan, inf, -inf)))
def test_kernel_keeps_what_is_not_finite(case: Case, value: float) -> None:
    inputs = case.inputs()
    inputs.x[0, case.seed % case.channels] = value
    output = run(inputs)
    assert not output[0].isfinite().any()
    assert tolerance_used(output, inputs).max() <= 1


@settings(deadline=None, max_examples=40)
@given(cases())
def test_kernel_keeps_the_channels_of_the_definition(case: Case) -> None:
    inputs = case.inputs()
    kept = kernel.sparsify_activations(inputs.x, inputs.threshold)
    expected = torch.where(active(inputs), inputs.x, 0.0)
    assert torch.equal(kept, expected)
    assert not kept[kept == 0].signbit().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 8, 64, 67])
def test_rule_is_strict_and_in_the_dtype_of_x(dtype: torch.dtype, size: int) -> None:
    # None of the three dtypes can represent 0.1; the threshold in force is the nearest that can.
    threshold = float(torch.tensor(0.1, dtype=dtype))
    above = torch.nextafter(torch.tensor(threshold, dtype=dtype), torch.tensor(1.0, dtype=dtype))
    for value, stays in ((threshold, False), (float(above), True), (nan, True), (inf, True)):
        for signed in (value, -value):
            x = torch.full((1, size), signed, dtype=dtype)
            inputs = SparseLinearInputs(x, torch.ones(1, size, dtype=dtype), 0.1)
            assert (active(inputs) == stays).all()
            kept = kernel.sparsify_activations(x, 0.1)
            assert ((kept != 0) == stays).all()


def test_subnormals_are_above_a_threshold_of_zero() -> None:
    for dtype in DTYPES:
        info = torch.finfo(dtype)
        x = torch.tensor([[info.smallest_normal * info.eps, 0.0, -0.0]], dtype=dtype)
        inputs = SparseLinearInputs(x, torch.ones(1, 3, dtype=dtype), 0.0)
        assert active(inputs).tolist() == [[True, False, False]]
        assert (kernel.sparsify_activations(x, 0.0) != 0).tolist() == [[True, False, False]]


def test_kernel_takes_any_batch_shape_and_strides() -> None:
    x = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    weight = torch.eye(10)
    output = kernel.sparse_linear(x, weight, 0.5)
    assert torch.equal(output, torch.where(x.abs() > 0.5, x, 0.0))


# The definition itself


def test_definition_by_hand() -> None:
    x = torch.tensor([[1.0, -0.5, 0.5, -2.0], [0.0, 0.6, -0.6, 0.1]])
    weight = torch.tensor([[1.0, 10.0, 100.0, 1000.0], [-1.0, 0.0, 0.0, 1.0]])
    inputs = SparseLinearInputs(x, weight, 0.5, torch.tensor([0.25, 0.0]))
    expected = torch.tensor([[1 - 2000 + 0.25, -3.0], [0, 0]], dtype=torch.float64)
    expected[1] = (
        torch.tensor([0.6, -0.6]).double() @ torch.tensor([[10.0, 0], [100.0, 0]]).double()
    )
    expected[1, 0] += 0.25
    torch.testing.assert_close(reference.sparse_linear(inputs), expected, rtol=1e-15, atol=1e-15)


def test_definition_at_threshold_zero_is_the_dense_layer() -> None:
    inputs = Case(5, 31, 17, torch.float32, 0.0, seed=3, bias=True).inputs()
    assert inputs.threshold == 0.0
    assert inputs.bias is not None
    dense = torch.nn.functional.linear(
        inputs.x.double(), inputs.weight.double(), inputs.bias.double()
    )
    torch.testing.assert_close(reference.sparse_linear(inputs), dense, rtol=1e-12, atol=1e-12)


def test_weights_of_inactive_channels_are_not_read() -> None:
    x = torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    weight = torch.tensor([[2.0, nan], [3.0, nan]])
    inputs = SparseLinearInputs(x, weight, 0.5)
    output = reference.sparse_linear(inputs)
    assert output[0].tolist() == [2.0, 3.0]
    assert output[1].isnan().all()
    assert bound_of(inputs, torch.float32, torch.float32)[0].isfinite().all()


def test_nan_activation_is_kept_and_spoils_its_row() -> None:
    inputs = SparseLinearInputs(torch.tensor([[nan, 1.0], [1.0, 1.0]]), torch.ones(1, 2), 0.5)
    assert active(inputs).all()
    assert reference.sparse_linear(inputs).isnan().tolist() == [[True], [False]]


# The bound


def test_bound_by_hand() -> None:
    # Three active channels, so n = 4: |ref| = |3*1 - 4*1 + 2| = 1, |W||x| + |b| = 9, |b| = 2.
    inputs = SparseLinearInputs(
        torch.tensor([[3.0, -4.0, 0.0, 0.0, 1.0]]),
        torch.tensor([[1.0, 1.0, nan, nan, 0.0]]),
        0.5,
        torch.tensor([2.0]),
    )
    bound = bound_of(inputs, torch.bfloat16, torch.float32).item()
    assert bound == pytest.approx(
        2 * 2**-8 * 1 + 4 * 4**0.5 * 2**-24 * 9 + 4 / 2 * 2**-24 * (1 + 2), rel=1e-6
    )


def test_bound_without_active_channels_is_next_to_nothing() -> None:
    inputs = SparseLinearInputs(torch.zeros(1, 4), torch.full((1, 4), nan), 0.0)
    assert 0 < bound_of(inputs, torch.float32, torch.float32).item() < 1e-37
    assert tolerance_used(torch.zeros(1, 1), inputs).item() == 0.0
    assert tolerance_used(torch.tensor([[1e-30]]), inputs).item() > 1


def at_or_above(i: SparseLinearInputs) -> Tensor:
    return torch.where(i.x.abs() >= i.threshold, i.x, 0.0) @ i.weight.T


def lost_tile(i: SparseLinearInputs) -> Tensor:
    x = kernel.sparsify_activations(i.x, i.threshold)
    x[:, 64:96] = 0
    return x @ i.weight.T


def scaled(i: SparseLinearInputs) -> Tensor:
    return (run(i).float() * 1.02).to(i.x.dtype)


def zeros(i: SparseLinearInputs) -> Tensor:
    return torch.zeros_like(run(i))


def one_flipped_sign(i: SparseLinearInputs) -> Tensor:
    weight = i.weight.clone()
    weight[:, i.x.abs().amax(0).argmax()] *= -1
    return kernel.sparsify_activations(i.x, i.threshold) @ weight.T


def shifted_indices(i: SparseLinearInputs) -> Tensor:
    return kernel.sparsify_activations(i.x, i.threshold) @ i.weight.roll(1, dims=1).T


def half_precision_sums(i: SparseLinearInputs) -> Tensor:
    x = kernel.sparsify_activations(i.x, i.threshold)
    halves = [
        (a @ b.T).bfloat16() for a, b in zip(x.chunk(8, 1), i.weight.chunk(8, 1), strict=True)
    ]
    return torch.stack(halves).sum(0).to(i.x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.25, 0.5, 0.95])
@pytest.mark.parametrize(
    "wrong", [at_or_above, lost_tile, scaled, zeros, one_flipped_sign, shifted_indices]
)
def test_bound_rejects(
    wrong: Callable[[SparseLinearInputs], Tensor], level: float, dtype: torch.dtype
) -> None:
    inputs = Case(4, 576, 192, dtype, level, seed=11).inputs()
    assert tolerance_used(run(inputs), inputs).max() <= 1
    assert tolerance_used(wrong(inputs), inputs).max() > 2


def test_bound_knows_the_accumulator() -> None:
    inputs = Case(4, 576, 192, torch.float32, 0.5, seed=11).inputs()
    output = half_precision_sums(inputs)
    assert tolerance_used(output, inputs).max() > 100
    assert tolerance_used(output, inputs, torch.bfloat16).max() <= 1


def test_bound_rejects_a_forgotten_bias() -> None:
    inputs = Case(4, 64, 64, torch.bfloat16, 0.5, seed=1, bias=True).inputs()
    forgotten = kernel.sparse_linear(inputs.x, inputs.weight, inputs.threshold)
    assert tolerance_used(forgotten, inputs).max() > 100


@pytest.mark.parametrize(
    ("x", "output", "right"),
    [
        (nan, nan, True), (nan, 0.0, False), (nan, inf, False),
        (inf, inf, True), (inf, nan, False), (inf, -inf, False), (inf, 60000.0, False),
        # 2 * 60000 is beyond float16: infinity is the right answer, the largest number is not.
        (60000.0, inf, True), (60000.0, 65504.0, False),
        (2.0, 4.0, True), (2.0, nan, False), (2.0, inf, False),
    ],
)  # fmt: skip
def test_special_values(x: float, output: float, right: bool) -> None:
    inputs = SparseLinearInputs(torch.tensor([[x]]).half(), torch.tensor([[2.0]]).half(), 0.5)
    used = tolerance_used(torch.tensor([[output]]).half(), inputs).item()
    assert used == 0.0 if right else used > 1
