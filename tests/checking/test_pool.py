from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_sparsity.checking import pool as pool_module
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.pool import Pool, mode_of
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel

MISBEHAVING = Path(__file__).with_name("misbehaving.py")


def kernel(name: str, file: Path = MISBEHAVING, backend: str = "test") -> Kernel:
    """As registered in ``file``, which is imported in the worker only."""
    return Kernel(
        op="sparse_linear",
        name=name,
        backend=backend,
        call=lambda: pytest.fail("called in the parent"),
        dtypes=("float32",),
        max_rows=8,
        module=file.stem,
        file=str(file),
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(case_limit=2, first_limit=60) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _the_run_goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After whatever happened, the next check passes."""
    yield
    if "pool" in request.fixturenames:
        outcome = request.getfixturevalue("pool").run_check(kernel("right"), "fuzz", 3, 0)
        assert outcome.status == "passed", outcome.message


def alive(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        # A zombie of a container without init counts as gone.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


@pytest.mark.parametrize("check", ["fuzz", "bounds", "unread"])
def test_a_right_kernel_passes(pool: Pool, check: str) -> None:
    assert pool.run_check(kernel("right"), check, 5, 0).status == "passed"


def test_a_crash_is_reported_with_its_case_and_last_words(pool: Pool) -> None:
    case = Case(rows=1, k=7, n=3)
    outcome = pool.run_check(kernel("segfault"), "fuzz", 50, 0, case=case)
    assert (outcome.status, outcome.case, outcome.examples) == ("failed", case, 1)
    assert outcome.message.startswith("was killed by SIGSEGV\n")
    assert "last words" in outcome.message
    assert "in segfault" in outcome.message  # faulthandler's frame
    assert "runner.py" not in outcome.message


@pytest.mark.slow
def test_a_crash_is_reported_with_the_simplest_case(pool: Pool) -> None:
    outcome = pool.run_check(kernel("segfault"), "fuzz", 50, 0)
    assert outcome.status == "failed"
    assert outcome.case is not None
    assert outcome.case == Case(rows=1, k=3, n=1)


@pytest.mark.slow
def test_a_crash_that_one_case_does_not_make(pool: Pool) -> None:
    outcome = pool.run_check(kernel("segfault-late"), "fuzz", 50, 0)
    assert "SIGSEGV, though not when the process does this case only" in outcome.message
    assert outcome.examples == 5


@pytest.mark.parametrize("name", ["loop", "loop-in-c"])
def test_a_hanging_kernel_is_ended(pool: Pool, name: str) -> None:
    outcome = pool.run_check(kernel(name), "fuzz", 5, 0)
    assert outcome.status == "failed"
    assert "hung: no new case within 2 s" in outcome.message
    assert outcome.case is not None
    assert f"in {name.replace('-', '_')}" in outcome.message


def test_one_that_prints_for_ever_is_ended(pool: Pool) -> None:
    outcome = pool.run_check(kernel("endless-chatter"), "fuzz", 5, 0)
    assert "hung" in outcome.message
    assert len(outcome.message) < 6000


def test_one_that_ends_its_process(pool: Pool) -> None:
    outcome = pool.run_check(kernel("exit"), "fuzz", 5, 0)
    assert outcome.status == "failed"
    assert "ended its process with exit status 3" in outcome.message
    assert outcome.case is not None


def test_what_kernels_print_does_not_disturb(pool: Pool) -> None:
    assert pool.run_check(kernel("chatter"), "fuzz", 3, 0).status == "passed"


def test_one_that_closes_all_files(pool: Pool) -> None:
    case = Case(rows=1, k=2, n=3)
    assert pool.run_check(kernel("deaf"), "fuzz", 3, 0, case=case).status == "failed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thread", "started a thread that still runs when it returns: endless"),
        ("closes-output", "closed standard output"),
        ("closes-descriptor", "closed standard output"),
        ("replaces-error", "replaced standard error"),
        ("leaves", "raised SystemExit: enough"),
    ],
)
def test_what_a_kernel_leaves_behind_is_its_own_failure(
    pool: Pool, name: str, message: str
) -> None:
    case = Case(rows=1, k=7, n=3)
    outcome = pool.run_check(kernel(name), "fuzz", 3, 0, case=case)
    assert (outcome.status, outcome.message) == ("failed", message)
    assert outcome.case == case


def test_a_thread_that_is_joined_is_no_mistake(pool: Pool) -> None:
    assert pool.run_check(kernel("joined-thread"), "fuzz", 3, 0).status == "passed"


def test_one_element_past_the_weights(pool: Pool) -> None:
    outcome = pool.run_check(kernel("reads-past"), "bounds", 20, 0)
    assert outcome.status == "failed"
    assert "SIGSEGV: it touched memory outside of an operand" in outcome.message


def test_one_element_past_the_output(pool: Pool) -> None:
    outcome = pool.run_check(kernel("writes-past"), "bounds", 20, 0)
    assert outcome.status == "failed"
    assert "past the end of the float32 tensor" in outcome.message


def test_a_skipped_row(pool: Pool) -> None:
    outcome = pool.run_check(kernel("reads-skipped"), "unread", 50, 0)
    assert outcome.status == "failed"
    assert "SIGSEGV: it read weights of a skipped channel" in outcome.message


def test_a_case_alone(pool: Pool) -> None:
    case = Case(rows=1, k=2, n=3)
    outcome = pool.run_check(kernel("segfault"), "fuzz", 50, 0, case=case)
    assert (outcome.status, outcome.examples) == ("passed", 1)


def test_an_unavailable_kernel_is_skipped(pool: Pool) -> None:
    outcome = pool.run_check(kernel("absent"), "fuzz", 5, 0)
    assert outcome.status == "skipped"
    assert "no such hardware here" in outcome.message


def test_a_worker_killed_while_idle_is_replaced(pool: Pool) -> None:
    pool.run_check(kernel("right"), "fuzz", 1, 0)
    worker = pool._workers["native"]
    worker._process.kill()
    worker._process.wait()


CONFTEST = """
from helper import right
from pytest_sparsity.kernels.registry import sparse_kernel

@sparse_kernel(op="sparse_linear", backend="test", name={name!r})
def from_conftest(x, weight, threshold, bias=None):
    return right(x, weight, threshold, bias)
"""
HELPER = """
from pytest_sparsity.reference.sparse_linear import SparseLinearInputs, sparse_linear

def right(*given):
    return sparse_linear(SparseLinearInputs(*given)).to(given[0].dtype)
"""


def test_kernels_of_two_conftests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    helpers.joinpath("helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(helpers)
    with Pool() as pool:
        for name in ("a", "b"):
            file = tmp_path / name / "conftest.py"
            file.parent.mkdir()
            file.write_text(CONFTEST.format(name=name))
            outcome = pool.run_check(kernel(name, file), "fuzz", 3, 0)
            assert outcome.status == "passed", outcome.message
        # One that another module registers.
        registrar = tmp_path / "registrar.py"
        registrar.write_text(CONFTEST.format(name="c"))
        elsewhere = dataclasses.replace(kernel("c"), file="<string>")
        outcome = pool.run_check(elsewhere, "fuzz", 3, 0, modules=(str(registrar),))
        assert outcome.status == "passed"


def test_a_module_that_cannot_be_imported(pool: Pool, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module")
    with pytest.raises(SparsityError, match=r"broken\.py cannot be imported .*no_such_module"):
        pool.run_check(kernel("x", broken), "fuzz", 3, 0)


def test_a_module_that_does_not_register(pool: Pool, tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(SparsityError, match=r"sparse_linear/x is checked in .*at the top level"):
        pool.run_check(kernel("x", empty), "fuzz", 3, 0)


PARENT = """
import sys
sys.path.insert(0, {folder!r})
from test_pool import Pool, kernel
print("started", flush=True)
with Pool(case_limit=100) as pool:
    pool.run_check(kernel("loop-in-c"), "fuzz", 5, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_parent(how: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "process"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(folder=str(Path(__file__).parent))],
        env=os.environ | {"MISBEHAVING_PROCESS": str(note)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker = int(note.read_text())
    assert alive(worker)
    parent.send_signal(how)
    parent.wait(timeout=90)
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert mode_of(kernel("x"), "fuzz") == "native"
    assert mode_of(kernel("x", backend="triton"), "fuzz") == "interpret"
    assert mode_of(kernel("x", backend="triton"), "compile") == "compile"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert mode_of(kernel("x", backend="triton"), "fuzz") == "device"
    assert mode_of(kernel("x", backend="cuda"), "fuzz") == "device"
    assert mode_of(kernel("x"), "fuzz") == "native"


def test_skipped_where_there_is_no_triton_or_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(pool_module.importlib.util, "find_spec", lambda name: None)
    with Pool() as pool:
        outcome = pool.run_check(kernel("x", backend="triton"), "fuzz", 5, 0)
        assert (outcome.status, outcome.message.partition(",")[0]) == (
            "skipped",
            "triton is not installed",
        )
        outcome = pool.run_check(kernel("x", backend="cuda"), "fuzz", 5, 0)
        assert (outcome.status, outcome.message) == ("skipped", "there is no CUDA device")


TRITON = """
import torch
import triton
import triton.language as tl
from pytest_sparsity.kernels.registry import sparse_kernel

@triton.jit
def _kernel(x, weight, bias, out, K, N, stride_n, stride_k, threshold,
            HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1)
    total = 0.0
    for start in range(0, K, BLOCK):
        k = start + tl.arange(0, BLOCK)
        v = tl.load(x + row * K + k, k < K, 0.0).to(tl.float32)
        keep = (k < K) & ~(tl.abs(v) <= threshold)
        w = tl.load(weight + column * stride_n + k * stride_k, keep, 0.0).to(tl.float32)
        total += tl.sum(tl.where(keep, v * w, 0.0))
    if HAS_BIAS:
        total += tl.load(bias + column).to(tl.float32)
    tl.store(out + row * N + column, total)

@sparse_kernel(op="sparse_linear", backend="triton", name="mine")
def mine(x, weight, threshold, bias=None):
    x = x.contiguous()
    out = x.new_empty(x.shape[0], weight.shape[0])
    threshold = float(torch.tensor(threshold, dtype=x.dtype))
    _kernel[(x.shape[0], weight.shape[0])](
        x, weight, bias, out, x.shape[1], weight.shape[0], *weight.stride(), threshold,
        HAS_BIAS=bias is not None, BLOCK=32)
    return out
"""


@pytest.mark.slow
def test_triton_is_interpreted(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    file = tmp_path / "kernels_of_mine.py"
    file.write_text(TRITON)
    case = Case(rows=2, k=40, n=5, dtype="bfloat16", bias=True)
    with Pool() as pool:
        outcome = pool.run_check(kernel("mine", file, "triton"), "fuzz", 1, 0, case=case)
        assert outcome.status == "passed", outcome.message
