"""What cannot be launched is one sentence, and what cannot be emulated a reason to skip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from emulate import emulate

from pytest_sparsity.checking.emulation import compiling
from pytest_sparsity.checking.emulation.launching import emulating
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda.source import CudaSource, Size
from pytest_sparsity.testing import check_kernel, sparse_kernel

GOOD = 'extern "C" __global__ void kernel(int n, float* out) { if (threadIdx.x < n) out[0] = 1; }'


def refusal(text: str, *arguments: object, **options: object) -> str:
    with pytest.raises(SparsityError) as caught:
        emulate(text, *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_source_that_does_not_compile() -> None:
    told = refusal(GOOD.replace("threadIdx.x", "thread"), 1, torch.zeros(1))
    assert told.startswith("source.cu does not compile: source.cu:1:")
    assert "thread" in told.partition("error:")[2]
    assert "missing.h" in refusal(f'#include "missing.h"\n{GOOD}', 1, torch.zeros(1))


def test_a_kernel_that_is_not_there() -> None:
    told = refusal(GOOD, 1, torch.zeros(1), entry="other")
    assert told == "source.cu has no kernel 'other'; it has kernel"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((1,), "kernel takes 2 arguments, not 1"),
        ((1, None, 3), "kernel takes 2 arguments, not 3"),
        ((1.5, None), "kernel was given no integer for an integer, as argument 1"),
        ((1 << 40, None), "given an integer that its type cannot hold, as argument 1"),
        ((1 << 70, None), "argument 1 is 1180591620717411303424, which no integer of 64 bits"),
        ((1, 3), "kernel was given a number for a pointer, as argument 2"),
        ((1, "x"), "argument 2 is str: give a tensor, a number, None, or the bytes of a struct"),
    ],
)
def test_wrong_arguments(arguments: tuple[object, ...], told: str) -> None:
    assert told in refusal(GOOD, *arguments)


@pytest.mark.parametrize(
    ("grid", "block", "shared", "told"),
    [
        (1, (64, 32), 0, "block=(64, 32) has 2048 threads, and at most 1024 are possible"),
        (1, 1025, 0, "block=1025: give 1 to 1024 where 1025 is"),
        (1, (1, 1, 65), 0, "give 1 to 64 where 65 is"),
        (0, 32, 0, "grid=0: give 1 to 2147483647 where 0 is"),
        ((1, 1, 1, 1), 32, 0, "grid=(1, 1, 1, 1): give one to three whole numbers"),
        (1, 32, 300_000, "shared=300000: give 0 to 232448 bytes"),
    ],
)
def test_impossible_launches(grid: Size, block: Size, shared: int, told: str) -> None:
    assert told in refusal(GOOD, 1, torch.zeros(1), grid=grid, block=block, shared=shared)


def test_a_source_must_have_a_kernel(tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match=r"CudaSource\('mine.cu'\): there is no __global__"):
        CudaSource("mine.cu")
    with pytest.raises(SparsityError, match=r"mine.cu cannot be read"):
        CudaSource(tmp_path / "mine.cu")
    with pytest.raises(SparsityError, match=r"source='mine.cu'\): give a CudaSource"):
        sparse_kernel(op="sparse_linear", backend="cuda", source="mine.cu")  # type: ignore[arg-type]


def test_headers_and_macros_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "value.h").write_text("constexpr float value = SCALE * 2.0f;\n")
    (tmp_path / "mine.cu").write_text('#include "value.h"\n' + GOOD.replace("= 1", "= value"))
    source = CudaSource(tmp_path / "mine.cu", defines={"SCALE": 3})
    out = torch.zeros(1)
    with emulating():
        source.launch("kernel", 1, 32, (1, out))
    assert out.item() == 6
    assert source.kernels == ("kernel",)
    assert source.fingerprint != CudaSource(tmp_path / "mine.cu", defines={"SCALE": 4}).fingerprint


def test_without_an_emulation_tensors_must_be_on_a_device() -> None:
    with pytest.raises(ValueError, match="kernel: x must be on a CUDA device, not on cpu"):
        CudaSource(GOOD).launch("kernel", 1, 32, (1, torch.zeros(1)))


NOT_EMULATED = {
    "#include <mma.h>": "it includes <mma.h>, which is not emulated",
    "#include <cuda/barrier>": "it includes <cuda/barrier>, which is not emulated",
    'inline void f(float& d) { asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0}, '
    '{%0};" : "+f"(d)); }': "inline PTX 'mma.sync.aligned.m16n8k8",
    '__device__ void f(unsigned a) {\n    asm volatile("barrier.cluster.arrive;"); }': (
        "it has inline PTX 'barrier.cluster.arrive', source.cu, line 2, which is not emulated"
    ),
    '__device__ void f(void* p) { asm volatile("cp.async.bulk.wait_group 0;" ::); }': (
        "inline PTX 'cp.async.bulk.wait_group'"
    ),
}


@pytest.mark.parametrize("text", NOT_EMULATED)
def test_what_is_not_emulated_is_skipped(text: str, own_kernels: None) -> None:
    source = CudaSource(f"{text}\n{GOOD}")
    assert NOT_EMULATED[text] in str(compiling.obstacle(source))

    def kernel(x, weight, threshold, bias=None):  # type: ignore[no-untyped-def]
        raise AssertionError("it is skipped")

    sparse_kernel(op="sparse_linear", backend="cuda", name="tensor-cores", source=source)(kernel)
    (outcome,) = check_kernel(kernel, "fuzz", processes=False).outcomes
    assert outcome.status == "skipped"
    assert NOT_EMULATED[text] in outcome.message


def test_what_a_condition_hides_is_no_obstacle() -> None:
    text = '#if __CUDA_ARCH__ >= 900\n__device__ void f() { asm("wgmma.fence;"); }\n#endif\n'
    assert compiling.obstacle(CudaSource(text + GOOD)) is None


def test_another_source_than_was_declared_is_skipped_as_well(own_kernels: None) -> None:

    @sparse_kernel(op="sparse_linear", backend="cuda", name="two", source=CudaSource(GOOD))
    def kernel(x, weight, threshold, bias=None):  # type: ignore[no-untyped-def]
        CudaSource(f"#include <mma.h>\n{GOOD}").launch("kernel", 1, 1, (1, x))

    (outcome,) = check_kernel(kernel, "edges", processes=False).outcomes
    assert (outcome.status, "includes <mma.h>" in outcome.message) == ("skipped", True)


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_compiler", lambda: None)
    assert "no g++" in str(compiling.obstacle(CudaSource(GOOD)))
