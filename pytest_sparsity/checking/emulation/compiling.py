"""From CUDA C++ to a library for the CPU in which a kernel's threads are fibers."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pytest_sparsity.checking.emulation import ptx
from pytest_sparsity.checking.failure import CannotCheck
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import built, run_compiler
from pytest_sparsity.kernels.cuda.source import CudaSource

_FOLDER = Path(__file__).parent
_HEADERS = _FOLDER / "include"
_COMMON = ("-std=c++17", "-fPIC", "-w", "-march=native")
#: Products and sums are contracted as the GPU's compiler does, types are punned as there.  Small
#: functions are inlined: a struct that a call takes from memory by value is not seen to be read.
_FLAGS = (
    *("-finline-functions", "-finline-small-functions", "-findirect-inlining"),
    *("-fvisibility=hidden", "-fno-semantic-interposition"),
    *("-O1", "-g1", "-x", "c++", "-ffp-contract=fast", "-fno-math-errno", "-fno-strict-aliasing"),
    *("-fwrapv", "-fno-exceptions", "-fno-extern-tls-init"),
    *("-fsanitize=thread,alignment,bounds", "--param", "tsan-distinguish-volatile=1"),
    *("--param", "tsan-instrument-func-entry-exit=0"),
)
#: The parts of the toolkit that have no twin here.
_FOREIGN = re.compile(r"^(mma|cooperative_groups|curand|cub|cuda|cute|cutlass|thrust|nvtx)\b")
_MISSING = re.compile(r"fatal error: (\S+): No such file")
_ATTRIBUTE = r"(?:\s*__attribute__\s*\(\([^;]*?\)\))?"
_DYNAMIC = re.compile(
    rf"\bextern{_ATTRIBUTE}\s*thread_local\b{_ATTRIBUTE}[^;=()\[\]]*?(\w+)\s*\[\s*\]"
)
_LAST_LINES = 6


class NotEmulated(CannotCheck):
    """A kernel uses what cannot be emulated."""


@cache
def find_compiler() -> tuple[str, ...] | None:
    """The command that starts g++: what CXX says, if that is g++, or the one on the PATH."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    for candidate in (chosen, ["g++"], ["c++"]):
        found = shutil.which(candidate[0]) if candidate else None
        if found and _is_gcc((found, *candidate[1:])):
            return (found, *candidate[1:])
    return None


def unavailable() -> str | None:
    """Why nothing can be emulated here, or None."""
    return None if find_compiler() else "no g++: CUDA kernels are emulated with it, install it"


def obstacle(source: CudaSource) -> str | None:
    """Why kernels of this source cannot be emulated here, or None.

    What is wrong with it is told when it is launched.
    """
    if (reason := unavailable()) is not None:
        return reason
    try:
        preprocessed(source)
    except NotEmulated as error:
        return str(error)
    except SparsityError:
        return None
    return None


@cache
def engine() -> ctypes.CDLL:
    """The library that runs and watches threads; what kernels call is found in it.

    Raises:
        SparsityError: it cannot be compiled or loaded.
    """
    sources = [_FOLDER / "engine.cpp", _FOLDER / "watching.cpp"]
    texts = [path.read_text() for path in sorted(_FOLDER.glob("*.[ch]*"))]

    def compile() -> bytes:
        with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as folder:
            output = Path(folder, "engine.so")
            flags = ("-O2", *_COMMON, "-shared", "-pthread")
            run_compiler(
                [*_compiler(), *flags, *map(str, sources), "-o", str(output)],
                "the emulation of CUDA kernels",
            )
            return output.read_bytes()

    return _loaded(built("cuda-engine", (*texts, _version()), ".so", compile), ctypes.RTLD_GLOBAL)


@cache
def preprocessed(source: CudaSource) -> str:
    """The source with everything that it includes, and its inline PTX in C++.

    Raises:
        NotEmulated: it uses what has no twin on a CPU.
        SparsityError: it cannot be preprocessed.
    """
    command = [
        *(*_compiler(), "-E", "-x", "c++", *_COMMON),
        *("-include", str(_HEADERS / "emulation.h"), "-I", str(_HEADERS)),
        *(f"-D{name}={value}" for name, value in source.defines),
        *(part for folder in source.folders for part in ("-I", folder)),
        "-",
    ]
    text = f'#line 1 "{source.name}"\n{source.text}\n'
    done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        missing = _MISSING.search(done.stderr)
        if missing and _FOREIGN.match(missing[1]):
            raise NotEmulated(f"it includes <{missing[1]}>, which is not emulated")
        raise SparsityError(f"{source.name} does not compile: {_told(done.stderr)}")
    expanded = done.stdout.replace('"<stdin>"', f'"{source.name}"')
    found = ptx.translated(re.sub(r"<<<.*?>>>", "", expanded, flags=re.S))
    if isinstance(found, ptx.Unknown):
        raise NotEmulated(f"it has {found}, which is not emulated")
    return found


@cache
def library(source: CudaSource, entry: str) -> ctypes.CDLL:
    """The library with this kernel, compiled if it is not in the cache of builds.

    Raises:
        NotEmulated: the source uses what has no twin on a CPU.
        SparsityError: it does not compile, or has no such kernel.
    """
    engine()
    text = preprocessed(source)
    names = tuple(dict.fromkeys(_DYNAMIC.findall(text)))
    call = _call(entry, bool(names))
    key = (text, call, *(path.read_text() for path in sorted(_FOLDER.glob("engine.h"))), _version())
    path = built("cuda-emulated", key, ".so", lambda: _compiled(source, text, call, entry, names))
    return _loaded(path, 0)


def _call(entry: str, dynamic: bool) -> str:
    """What is compiled behind the source: the call that Python makes."""
    declared = "extern thread_local char emulation_dynamic[];" if dynamic else ""
    return (
        f'\n# 1 "{_HEADERS}/kernel.h"\n{(_HEADERS / "kernel.h").read_text()}\n'
        f'{declared}\nextern "C" __attribute__((visibility("default")))\n'
        "int emulation_call(emulation::Launch* launch, const emulation::Argument* given, int count)"
        " {\n"
        f"    return emulation::call({entry}, launch, given, count, "
        f"{'emulation_dynamic' if dynamic else 'nullptr'});\n}}\n"
    ).replace("#pragma once", "")


def _compiled(source: CudaSource, text: str, call: str, entry: str, names: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as folder:
        code, output = Path(folder, "kernel.ii"), Path(folder, "kernel.so")
        objects = [Path(folder, "kernel.o")]
        code.write_text(text + call)
        flags = (*_COMMON, *_FLAGS, "-fpreprocessed")
        done = _run([*_compiler(), *flags, "-c", str(code), "-o", str(objects[0])])
        if done.returncode != 0:
            code.write_text(text)
            alone = _run([*_compiler(), *flags, "-fsyntax-only", str(code)])
            if alone.returncode != 0:
                raise SparsityError(f"{source.name} does not compile: {_told(alone.stderr)}")
            known = f"; it has {', '.join(source.kernels)}" if source.kernels else ""
            raise SparsityError(f"{source.name} has no kernel {entry!r}{known}")
        if names:
            symbols = Path(folder, "shared.s")
            symbols.write_text(_dynamic_memory(_undefined(objects[0]), names))
            objects.append(symbols)
        run_compiler([*_compiler(), "-shared", *map(str, objects), "-o", str(output)], source.name)
        return output.read_bytes()


def _dynamic_memory(undefined: Sequence[str], names: Sequence[str]) -> str:
    """Assembler that puts all arrays of dynamic shared memory at one place.

    Args:
        undefined: symbols that the kernel leaves open, mangled.
        names: of the arrays, as they stand in the source.
    """
    ends = tuple(f"{len(name)}{name}E" for name in names)
    symbols = [s for s in undefined if s in names or s.endswith(ends)]
    lines = ['.section .tbss,"awT",%nobits', ".balign 128"]
    for symbol in ("emulation_dynamic", *symbols):
        lines += [f".globl {symbol}", f".type {symbol}, %object", f"{symbol}:"]
    return "\n".join([*lines, f".zero {227 * 1024}", '.section .note.GNU-stack,"",%progbits', ""])


def _undefined(path: Path) -> list[str]:
    told = run_compiler(["nm", "-u", str(path)], "anything")
    return [line.split()[-1] for line in told.splitlines() if line.strip()]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


def _compiler() -> tuple[str, ...]:
    found = find_compiler()
    if found is None:
        raise SparsityError(str(unavailable()))
    return found


def _is_gcc(command: Sequence[str]) -> bool:
    macros = subprocess.run(
        [*command, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True
    )
    return macros.returncode == 0 and "__clang__" not in macros.stdout


@cache
def _version() -> str:
    """What a build depends on beside its source."""
    native = run_compiler([*_compiler(), "-march=native", "-Q", "--help=target"], "anything")
    told = run_compiler([*_compiler(), "--version"], "anything")
    return "\n".join([told, native, *_COMMON, *_FLAGS])


def _loaded(path: Path, mode: int) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode=mode or ctypes.DEFAULT_MODE)
    except OSError as error:
        raise SparsityError(f"{path} cannot be loaded: {error}") from error


def _told(errors: str) -> str:
    """The first errors of the compiler, without its own headers' lines."""
    lines = [line for line in errors.splitlines() if "error:" in line] or errors.splitlines()
    return "; ".join(line.strip() for line in lines[:_LAST_LINES])
