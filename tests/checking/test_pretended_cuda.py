"""Wrappers that were made for a GPU run unchanged where there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from pytest_sparsity.checking.failure import obstacle
from pytest_sparsity.checking.pool import Pool
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.kernels.registry import Kernel

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or torch.cuda.is_available(),
    reason="there is no triton for this platform, or a real device",
)

WITHOUT_BLOCK_POINTERS = version("triton") >= "3.9"  # no release of it had two digits before

FILE = Path(__file__).with_name("gpu_habits.py")
RIGHT = (
    "asserts-cuda",
    "goes-another-way-on-a-cpu",
    "enters-device-and-stream",
    "asks-for-properties",
    "moves-to-the-device",
    "casts-by-autocast",
    "is-compiled-by-torch",
    "is-an-operator-of-torch",
    "looks-at-a-copy",
    "makes-tensors-on-a-default-device",
    "makes-numbers-without-a-device",
    "keeps-what-was-compiled",
    "compiles-before-it-launches",
    "passes-what-is-no-tensor",
)
SAID_NOTHING = "it is a tensor on the CPU, for it was made without a device; give device=x.device"
#: What Triton's interpreter has not by itself.
GIVEN = ("has-block-pointers", "has-a-tensor-descriptor", "calls-libdevice")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


def checked(pool: Pool, name: str, check: str, examples: int = 3) -> CheckResult:
    """What comes of a kernel that this process never imports: there is no device here."""
    kernel = Kernel(
        op="sparse_linear",
        backend="triton",
        name=name,
        call=lambda: pytest.fail("called in the parent"),
        dtypes=("float32", "float16", "bfloat16"),
        max_rows=1,
        module=FILE.stem,
        file=str(FILE),
    )
    return pool.run_check(kernel, check, examples, 0)


@pytest.mark.parametrize("name", [*RIGHT, *GIVEN])
def test_habits_of_wrappers_for_a_gpu_are_no_faults(pool: Pool, name: str) -> None:
    outcome = checked(pool, name, "fuzz")
    assert (outcome.status, outcome.message) == ("passed", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_they_are_compiled_for_every_architecture(pool: Pool, name: str) -> None:
    outcome = checked(pool, name, "compile", 1)
    assert outcome.status == "passed", outcome.message
    told = " ".join(outcome.figures)
    assert all(f"gemv for sm_{arch}" in told for arch in (80, 90, 100))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reads-as-numpy", "can't convert cuda:0 device type tensor to numpy"),
        ("starts-with-a-copy-on-the-cpu", "x cannot be accessed from Triton"),
        ("returns-a-copy-on-the-cpu", "returned a tensor of device cpu, not cuda:0"),
        ("uses-another-device", "invalid device ordinal"),
        ("allocates-without-a-device", f"y cannot be accessed from Triton: {SAID_NOTHING}"),
        ("starts-with-a-table-of-its-module", f"w cannot be accessed from Triton: {SAID_NOTHING}"),
        (
            "returns-zeros-without-a-device",
            "returned a tensor of device cpu, not cuda:0, for it was made without a device",
        ),
    ],
)
def test_what_fails_on_a_gpu_fails(pool: Pool, name: str, words: str) -> None:
    outcome = checked(pool, name, "fuzz")
    assert outcome.status == "failed"
    assert words in outcome.message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("records-a-graph", "it records a CUDA graph, which needs a GPU"),
        (
            "has-inline-assembly",
            "it has inline assembly (tl.inline_asm_elementwise), which only a GPU runs",
        ),
        ("passes-an-address", "its argument y is an address of no known memory (Address)"),
        ("asks-for-registers", "it asks for n_regs of a compiled kernel, which needs a GPU"),
        ("calls-what-has-no-twin", "it calls __nv_ynf, which has no twin on a CPU"),
    ],
)
def test_what_needs_a_gpu_is_skipped_with_its_reason(pool: Pool, name: str, reason: str) -> None:
    outcome = checked(pool, name, "fuzz")
    assert (outcome.status, outcome.message) == ("skipped", reason)


def test_skipped_cases_of_a_check_that_passes_are_told(pool: Pool) -> None:
    outcome = checked(pool, "records-a-graph-of-wide-ones", "fuzz", 20)
    assert outcome.status == "passed"
    assert 0 < outcome.examples < 20
    assert outcome.message.endswith(
        " of 20 cases skipped: it records a CUDA graph, which needs a GPU"
    )


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("\"mm_cpu\" not implemented for 'Half'", "torch has no mm_cpu of Half on the CPU"),
        (
            "Could not run 'vllm::gemm' with arguments from the 'CPU' backend. This could be ...",
            "vllm::gemm is there for GPUs only",
        ),
        ("expected m1 and m2 to have the same dtype", None),
    ],
)
def test_what_torch_has_for_gpus_only_is_an_obstacle(told: str, reason: str | None) -> None:
    found = obstacle(ValueError("later"))
    assert found is None
    error = ValueError("a wrapper's")
    error.__cause__ = NotImplementedError(told)
    found = obstacle(error)
    assert reason == (None if found is None else found.reason)


@pytest.mark.skipif(not WITHOUT_BLOCK_POINTERS, reason="this version of Triton has block pointers")
def test_block_pointers_are_no_fault_where_triton_does_not_compile_them(pool: Pool) -> None:
    outcome = checked(pool, "has-block-pointers", "compile", 1)
    assert outcome.status == "skipped"
    assert outcome.message.startswith("it has block pointers (tl.make_block_ptr)")


def test_the_users_process_has_no_pretended_device() -> None:
    assert not torch.cuda.is_available()
    assert not torch.ones(1).is_cuda
