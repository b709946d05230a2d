"""A program: what the interpreter, its guards and the check ``work`` say of the example kernels.

Run with TRITON_INTERPRET=1, it prints a JSON object for ``test_interpreter.py``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import triton_examples as examples
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime.interpreter import InterpreterBuilder

from pytest_sparsity.checking import bfloat16, choices, interpreter, triton_internals, work
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import kernel, sparse_kernel

KERNELS = (
    "gemv",
    "no_column_mask",
    "masks_arithmetic_only",
    "reads_twice",
    "works_on_a_copy",
    "drops_tail",
    "heuristic",
    "tuned",
)


def bfloat16_results() -> dict[str, bool]:
    size, half = 256, torch.bfloat16
    a, b = torch.randn(2, size).to(half)
    out, flags = torch.empty(13, size, dtype=half), torch.empty(3, size, dtype=torch.int8)
    examples.native_bfloat16[(1,)](a, b, out, flags, size)
    expected = {
        "sum": a + b,
        "difference": a - b,
        "product": a * b,
        "quotient": a / b,
        "negative": -a,
        "absolute": a.abs(),
        "maximum": torch.maximum(a, b),
        "cast from float32": (a.float() * 1.01).to(half),
        "cast from integers": torch.arange(size).to(half),
        "select": torch.where(a > b, a, b),
    }
    results = {name: torch.equal(out[row], t) for row, (name, t) in enumerate(expected.items())}
    results["reduction, rounded at every step"] = bool(out[10, 0] == rounded_tree(a))
    results["largest"] = bool(out[11, 0] == a.max())
    results["scan"] = torch.equal(out[12], torch.arange(1, size + 1).to(half))
    results["greater"] = torch.equal(flags[0], (a > b).to(torch.int8))
    results["not greater"] = torch.equal(flags[1], (a.abs() <= 0.5).to(torch.int8))
    results["cast to integers"] = torch.equal(flags[2], a.to(torch.int8))
    return results | rounding() | products()


def rounded_tree(values: torch.Tensor) -> torch.Tensor:
    while len(values) > 1:
        values = values[: len(values) // 2] + values[len(values) // 2 :]
    return values[0]


def rounding() -> dict[str, bool]:
    wide = torch.randn(10_000) * torch.exp(20 * torch.randn(10_000))
    edges = torch.tensor([torch.inf, -torch.inf, 3.4e38, -3.4e38, 1e-40, -0.0, 1.00390625])
    bits = torch.cat([wide, edges]).to(torch.bfloat16).view(torch.uint16).numpy()
    ours = bfloat16.rounded(torch.cat([wide, edges]).numpy())
    nan = bfloat16.widened(bfloat16.rounded(np.array([np.nan, -np.nan], np.float32)))
    return {"rounding": np.array_equal(ours, bits), "NaN": bool(np.isnan(nan).all())}


def float32_products() -> dict[str, float]:
    """Errors of products of float32 tiles, over those of TF32; what is infinite stays so."""
    a, b = torch.randn(2, 32, 32)
    a[0, 0] = torch.inf
    exact = (a.double() @ b.double())[1:]
    size = (a.abs().double() @ b.abs().double())[1:] * 2**-9
    found = {}
    for name in CUDAOptions.allowed_dot_input_precisions:  # bf16x3 and bf16x6 since 3.6
        out = torch.empty(32, 32)
        examples.dot[(1,)](a, b, out, 32, name)
        assert torch.equal(out[0].isinf(), b[0] != 0), name
        found[name] = float(((out[1:] - exact).abs() / size).max())
    return found


def products() -> dict[str, bool]:
    a, b = torch.randn(2, 32, 32).to(torch.bfloat16)
    out = torch.empty(32, 32)
    examples.dot[(1,)](a, b, out, 32)
    results = {"dot": torch.allclose(out, a.float() @ b.float(), atol=1e-5, rtol=0)}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x, total = torch.ones(16, dtype=dtype), torch.zeros(2, dtype=dtype)
        with interpreter.watch({"x": x}) as traffic:
            examples.atomic_sum[(1,)](x, total, 16)
        results[f"atomics in {dtype}"] = total.tolist() == [8, 8] and traffic.atomics == 8
    return results


def operands(n: int, k: int, pitch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One row of x, its last channel active, and an input-major weight with gaps."""
    x = torch.randn(1, k)
    x[0, -1] = 3.0
    return x, torch.randn(k, n + pitch)[:, :n].T


def violations(name: str, pitch: int) -> list[str]:
    x, weight = operands(100, 50, pitch)
    if not pitch:  # or another tensor may lie right behind it, and be hit
        room = bytearray(weight.nbytes + 4096)
        alone = torch.frombuffer(room, dtype=weight.dtype, count=weight.numel())
        weight = alone.as_strided(weight.shape, weight.stride()).copy_(weight)
    with interpreter.watch({"x": x, "weight": weight}) as traffic:
        examples.call(getattr(examples, name), x, weight, 0.5)
    return [str(violation) for violation in traffic.violations]


def error_of(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    return "no error"


def strays() -> dict[str, Any]:
    """What becomes of accesses outside: beside x lies memory that must stay as it is."""
    memory = torch.zeros(64)
    x = memory[:16].clone()
    with interpreter.watch({"x": x}) as traffic:
        examples.beside[(1,)](x, 32)
    unwatched = error_of(lambda: examples.beside[(1,)](x, 32))
    kinds = sorted({v.access for v in traffic.violations})
    return {"kinds": kinds, "x": x.isnan().all().item(), "unwatched": unwatched}


def register(name: str) -> None:
    function = getattr(examples, name, None)

    def call(x: Any, weight: Any, threshold: float, bias: Any = None) -> torch.Tensor:
        if name == "works_on_a_copy":
            return examples.call(examples.gemv, x, weight.clone(), threshold)
        return examples.call(function, x, weight, threshold)

    sparse_kernel(op="sparse_linear", backend="triton", name=name, max_rows=1)(call)


def findings(name: str) -> list[str]:
    """What the check finds, case by case: figures, or what is wrong."""
    told = []
    examined = kernel(f"sparse_linear/{name}")
    for case in record(examined.op).counted_cases(examined):
        trial = Trial(examined, case)
        try:
            work.run(trial)
        except CheckFailure as finding:
            told.append(f"FOUND {finding}")
        told += trial.figures
    return told


def configurations() -> list[list[str]]:
    """The kernels that a tuned one launches by the number of its configuration."""
    x, weight = operands(64, 64)
    chosen = []
    for index in range(3):
        choices.choose(index)
        with interpreter.watch({"x": x}) as traffic:
            examples.call(examples.tuned, x, weight, 0.5)
        chosen.append(traffic.reads("x").factor)
    choices.choose(0)
    return chosen


def orders() -> list[list[int]]:
    """When each of six programs ran, in launches that follow each other."""
    choices.choose(0)
    found = []
    for _ in range(4):
        out, counter = torch.zeros(6, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        examples.tickets[(3, 2)](out, counter)
        found.append(out.tolist())
    return found


def refusal() -> str:
    try:
        triton_internals.method(InterpreterBuilder, "create_masked_load", "self", "pointers")
    except SparsityError as error:
        return str(error)
    return "none"


def main() -> None:
    torch.manual_seed(0)
    for name in KERNELS:
        register(name)
    case = Case(1, 96, 80, dtype="bfloat16", level=0.75)
    right = work.measured(Trial(kernel("sparse_linear/gemv"), case))
    report = {
        "bfloat16": bfloat16_results(),
        "products": float32_products(),
        "violations": {
            f"{name} {pitch}": violations(name, pitch)
            for name in ("gemv", "no_column_mask")
            for pitch in (0, 40)
        },
        "strays": strays(),
        "work": {name: findings(name) for name in KERNELS},
        "right": [right.loaded, right.needed, right.dense, right.x_loads, right.launches],
        "configurations": configurations(),
        "orders": orders(),
        "refusal": refusal(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    interpreter.install()
    interpreter.install()
    main()
