"""What a device runs: a source compiled by nvcc, or without it by NVRTC, and kept."""

from __future__ import annotations

from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import built, run_compiler
from pytest_sparsity.kernels.cuda import nvcc
from pytest_sparsity.kernels.cuda.source import CudaSource


def cubin(source: CudaSource, arch: str) -> Path:
    """The kernels of a source, compiled for ``arch`` (``sm_90``).

    Raises:
        SparsityError: the compiler fails, or its result cannot be kept.
    """
    name = f"cuda-{Path(source.name).stem}-{arch}"
    if nvcc.find() is None:
        key = (source.fingerprint, arch, _nvrtc_version())
        return built(name, key, ".cubin", lambda: _with_nvrtc(source, arch))
    version = run_compiler([nvcc.command(), "--version"], "anything")
    key = (source.fingerprint, arch, version)
    return built(name, key, ".cubin", lambda: nvcc.compiled(source, arch).cubin)


def _with_nvrtc(source: CudaSource, arch: str) -> bytes:
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(
        std="c++17",
        arch=arch,
        include_path=list(source.folders),
        define_macro=[tuple(each) for each in source.defines],
    )
    try:
        code = Program(source.text, code_type="c++", options=options).compile("cubin").code
    except Exception as error:  # of several types, by version; the message holds the log
        last = "\n".join(str(error).splitlines()[-12:])
        raise SparsityError(f"NVRTC cannot compile {source.name} for {arch}: {last}") from error
    return bytes(code)


def _nvrtc_version() -> str:
    from cuda.bindings import nvrtc

    return f"NVRTC {nvrtc.nvrtcVersion()}"
