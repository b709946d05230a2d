"""What nvcc makes of the CUDA source, where nvcc is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels import build
from pytest_sparsity.kernels.cuda import compiler, nvcc
from pytest_sparsity.kernels.cuda.cubin import cubin

needs_nvcc = pytest.mark.skipif(nvcc.find() is None, reason="no nvcc")

LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    16 bytes stack frame, 48 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 16384 bytes smem, 424 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 424 bytes cmem[0]
"""
PTX = """
.visible .entry second(.param .u64 a)
{ ld.global.nc.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1]; ld.global.v2.f32 {%f1, %f2}, [%rd1]; }
.visible .entry first(
{ ld.global.v4.f32 {%f1}, [%rd1]; ld.global.v4.b32 {%r1}, [%rd1]; }
"""


def test_report_is_read() -> None:
    assert dict(nvcc.report(LOG, PTX)) == {
        "first": compiler.Resources(64, spills=80, shared=16384, stack=16, wide_loads=2),
        "second": compiler.Resources(40, spills=0, shared=0, stack=0, wide_loads=1),
    }


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_resources(arch: str) -> None:
    found = compiler.resources(arch)
    assert len(found) == 3 * 3 * 2
    for name, used in found.items():
        assert (used.spills, used.stack) == (0, 0), name
        assert used.registers <= 128, name
        assert used.wide_loads > 0, name


@pytest.mark.skipif(nvcc._packaged() is None, reason="the extra cuda is not installed")
def test_nvcc_of_the_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    assert nvcc.find() == nvcc._packaged()
    found = nvcc.compiled(compiler.instance(torch.bfloat16, 1), "sm_90").resources
    assert found.keys() == {
        compiler.entry(name, torch.bfloat16, 1)
        for name in ("sparse_linear", "swiglu_neurons", "swiglu_down")
    }


@needs_nvcc
def test_cubin_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.FOLDER_VARIABLE, str(tmp_path))
    source = compiler.instance(torch.float16, 1)
    path = cubin(source, "sm_90")
    assert path.read_bytes().startswith(b"\x7fELF")
    monkeypatch.setattr(nvcc, "compiled", None)
    assert cubin(source, "sm_90") == path


@needs_nvcc
def test_unknown_architecture_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(SparsityError, match=r"(?s)cannot compile kernels.cu for sm_1.*sm_1"):
        cubin(compiler.instance(torch.float16, 1), "sm_1")


def test_no_nvcc_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(nvcc, "_packaged", lambda: None)
    with pytest.raises(SparsityError, match="no nvcc on the PATH"):
        compiler.resources("sm_90")
