"""Processes that time kernels: they answer, raise, crash and are interrupted, and none is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pytest_sparsity.kernels import registry
from pytest_sparsity.speed.gate import processes, worker
from pytest_sparsity.speed.gate.processes import Place, Process, Processes, WorkerError
from pytest_sparsity.speed.gate.workload import Workload

KERNELS = """
from pytest_sparsity.testing import sparse_kernel

def dense(x, weight, threshold, bias):
    kept = x * (x.abs() > threshold)
    return (kept.float() @ weight.float().T).to(x.dtype)

@sparse_kernel(op="sparse_linear", backend="cpu", name="right", skips=False)
def right(x, weight, threshold, bias=None):
    return dense(x, weight, threshold, bias)

@sparse_kernel(op="sparse_linear", backend="cpu", name="raising", skips=False)
def raising(x, weight, threshold, bias=None):
    raise ArithmeticError("lost a carry")

@sparse_kernel(op="sparse_linear", backend="cpu", name="crashing", skips=False)
def crashing(x, weight, threshold, bias=None):
    import ctypes
    print("last words", flush=True)
    ctypes.string_at(0)

@sparse_kernel(op="sparse_linear", backend="cpu", name="sleeping", skips=False)
def sleeping(x, weight, threshold, bias=None):
    import time
    time.sleep(600)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "conftest.py"
    path.write_text(KERNELS)
    return str(path)


@pytest.fixture
def workload() -> Workload:
    return Workload.of(registry.kernel("sparse_linear/torch"), "cpu", small=True, seed=0)


@pytest.fixture
def process(workload: Workload) -> Iterator[Process]:
    found = Process(Place.here())
    found.ask("operands", workload.operands, "cpu", 2)
    yield found
    found.close()


def test_a_kernel_is_timed_there(process: Process, workload: Workload, file: str) -> None:
    assert process.ask("contender", "a", "sparse_linear/right", "conftest", file) == file
    assert 0 < process.ask("sample", "a", 3) < 1
    output = process.ask("output", "a")
    assert workload.fault(output) is None
    assert workload.fault(output, output) is None
    fault = workload.fault(output * 1.5)
    assert fault is not None
    assert "output[0, " in fault
    assert workload.fault(3) == "returned int, not a tensor"
    static_metrics = process.ask("static_metrics", "a")
    assert static_metrics["allocations"] >= 3
    assert static_metrics["allocated_bytes"] >= 4 * workload.inputs.weight.numel()
    with pytest.raises(WorkerError, match="ArithmeticError: lost a carry") as caught:
        process.ask("contender", "b", "sparse_linear/raising", "conftest", file)
    assert 'raise ArithmeticError("lost a carry")' in caught.value.details
    assert process.alive
    with pytest.raises(WorkerError, match="was killed by SIGSEGV") as caught:
        process.ask("contender", "c", "sparse_linear/crashing", "conftest", file)
    assert "last words" in caught.value.details
    assert not process.alive


def test_one_that_hangs_is_ended(
    process: Process, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 3.0)
    with pytest.raises(WorkerError, match="gave no answer for 3 s"):
        process.ask("contender", "a", "sparse_linear/sleeping", "conftest", file)
    assert not process.alive


def test_an_interrupted_question_ends_the_process(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(process._connection, "poll", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        process.ask("sample", "a", 1)
    assert not process.alive


def test_processes_are_kept_and_replaced() -> None:
    kept = Processes()
    place = Place.here()
    first = kept.get(place)
    assert kept.get(place) is first
    second = kept.get(place, 1)
    assert second is not first
    fresh = kept.fresh(place)
    assert not first.alive
    fresh.close()
    again = kept.get(place)
    assert again.alive
    kept.close()
    assert not again.alive
    assert not second.alive


def test_all_ops_have_a_shape_at_which_they_are_gated() -> None:
    """Operands can be built, and torch's composition is right for them."""
    for kernel in registry.registered().values():
        if kernel.backend != "torch":
            continue
        found = Workload.of(kernel, "cpu", small=True, seed=0)
        output = kernel.call(**found.operands)
        assert isinstance(output, torch.Tensor)
        assert found.fault(output) is None, kernel.id
        assert found.weight_bytes > 0 or kernel.op == "compact"


def test_a_worker_needs_nothing_of_this_folder(tmp_path: Path) -> None:
    """It is started by its path, with whatever package a revision has."""
    package = tmp_path / "pytest_sparsity"
    package.mkdir()
    (package / "__init__.py").write_text("OLD = True\n")
    code = (
        "import runpy, sys; import pytest_sparsity; assert pytest_sparsity.OLD; "
        f"runpy.run_path({worker.__file__!r}, run_name='there')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
