"""Triton kernels: a few cases of each in the interpreter, others compiled, in processes apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.checking import static
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.triton import launching
from pytest_sparsity.reference.ops import OPS

KERNELS = sorted(k.id for k in registry.registered().values() if k.backend == "triton")
needs_triton = pytest.mark.skipif(
    launching.unavailable() is not None, reason=str(launching.unavailable())
)
WEIGHTS = {"weight", "gate", "up", "down", "weight.payload", "weight.values"}


def lines_of(script: str, kernels: list[str], **environment: str) -> list[Any]:
    """What the script next to this file prints about ``kernels``."""
    rest = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *kernels],
        env={**rest, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_op_has_a_deterministic_kernel_and_sums_have_an_atomic_one() -> None:
    kernels = registry.registered()
    for op in OPS:
        assert kernels[f"{op}/triton"].deterministic
        if op != "compact":
            assert not kernels[f"{op}/triton-split-k"].deterministic


@needs_triton
@pytest.mark.slow
def test_kernels_are_right_in_the_interpreter() -> None:
    found = lines_of("interpreted.py", KERNELS, TRITON_INTERPRET="1")
    assert {kernel for kernel, *_ in found} == set(KERNELS)
    assert [line for line in found if isinstance(line[-1], str) or line[-1] > 1] == []


@needs_triton
@pytest.mark.slow
def test_kernels_do_not_spill_and_load_weights_by_16_bytes() -> None:
    ordered = [f"{op}/triton" for op in OPS]
    found = lines_of("compiled.py", ordered)
    assert {kernel for kernel, *_ in found} == set(ordered)
    limits = static._of_version(static.ONE_ROW, version("triton"))
    assert [line for line in found if line[3] > limits.registers or line[4] > limits.spilled] == []
    widest: dict[tuple[str, str], dict[str, int]] = {}
    for kernel, case, _, _, _, loads in found:
        of_case = widest.setdefault((kernel, case), {})
        for name, bits in loads.items():
            of_case[name] = max(of_case.get(name, 0), bits or 0)
    narrow = [
        (*where, name, bits)
        for where, loads in widest.items()
        for name, bits in loads.items()
        if name in WEIGHTS and bits < 128
    ]
    assert narrow == []


@needs_triton
def test_tensors_on_the_cpu_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    call = registry.kernel("sparse_linear/triton").call
    with pytest.raises(ValueError, match="x must be on a GPU, not on cpu; Triton works"):
        call(x=torch.zeros(1, 4), weight=torch.zeros(3, 4), threshold=0.0)


@pytest.mark.parametrize("kernel_id", KERNELS)
def test_operands_are_checked(kernel_id: str) -> None:
    kernel = registry.kernel(kernel_id)
    x = torch.zeros(9, 4)
    given: dict[str, Any] = {
        "compact": {"threshold": 0.0},
        "hot_cold_mlp": {"up": x, "down": x.T, "hot": 1, "cold": torch.zeros(0)},
        "sparse_linear_indexed": {"weight": x, "indices": torch.zeros(0)},
        "sparse_qkv": {"weight": x, "sizes": (3, 3, 3), "thresholds": (0.0,) * 3},
        "sparse_swiglu": {"gate": x, "up": x, "down": x.T, "threshold": 0.0},
    }.get(kernel.op, {"weight": x, "threshold": 0.0})
    with pytest.raises(ValueError, match="x must have 1 to 8 rows, not 9"):
        kernel.call(x=x, **given)


def test_without_triton_kernels_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    assert "triton is not installed" in str(registry.kernel("compact/triton").unavailable())


def test_the_registry_does_not_import_triton() -> None:
    program = (
        "import sys; from pytest_sparsity.kernels import registry; registry.registered(); "
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
