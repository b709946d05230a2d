"""Instructions that native kernels execute in a call, counted by valgrind: the same in every run.

What the kernel's wrapper calls in the compiled library is called again by a small program, with
the same operands, under callgrind.  That knows no AVX-512, so the source is compiled for x86-64-v3
there: the count is not that of the library in use, and rises and falls with it.
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.build import built, run_compiler
from pytest_sparsity.kernels.native import library

_LEVEL = "x86-64-v3"
_COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")
_PROGRAM = """\
#include "{source}"
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct Any {{
    void* at;
    template <class T> operator T*() const {{ return static_cast<T*>(at); }}
}};

static void* read(std::FILE* file, std::size_t size, std::size_t shift) {{
    char* to = static_cast<char*>(std::aligned_alloc(64, (size + shift + 127) / 64 * 64)) + shift;
    return std::fread(to, 1, size, file) == size ? to : (std::abort(), to);
}}

int main(int, char** arguments) {{
    std::FILE* file = std::fopen(arguments[1], "rb");
{reads}
    auto volatile function = &{function};
    function({given});
    return 0;
}}
"""

#: A call of a function of the library: its name with the dtype, and what it was given.
Native = tuple[str, tuple[library.Argument, ...]]


def obstacle() -> str | None:
    """Why instructions cannot be counted here, or None."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    return library.unavailable()


def metrics(call: Callable[[], Any]) -> dict[str, int]:
    """The instructions of all that a call of a kernel calls in the native library.

    Returns:
        By a name with the compiler and what it compiles for, between which counts do not compare;
        nothing if the kernel is not native, or :func:`obstacle` has a reason.

    Raises:
        SparsityError: the program cannot be compiled, or fails.
    """
    if obstacle() is not None:
        return {}
    with _recorded() as natives:
        call()
    if not natives:
        return {}
    total = sum(_counted(function, arguments) for function, arguments in natives)
    return {f"instructions {_compiler_version()} {_target()}": total}


@contextmanager
def _recorded() -> Iterator[list[Native]]:
    natives: list[Native] = []
    original = library.call

    def noting(name: str, dtype: torch.dtype, *arguments: library.Argument) -> None:
        natives.append((f"{name}_{str(dtype).removeprefix('torch.')}", arguments))
        original(name, dtype, *arguments)

    with patch.object(library, "call", noting):
        yield natives


def _counted(function: str, arguments: Sequence[library.Argument]) -> int:
    reads, given, data = [], [], bytearray()
    for position, argument in enumerate(arguments):
        if isinstance(argument, Tensor):
            memory = _memory(argument)
            shift = argument.data_ptr() % 64
            reads.append(f"    void* a{position} = read(file, {len(memory)}, {shift});")
            given.append(f"Any{{a{position}}}")
            data += memory
        elif isinstance(argument, int):
            given.append(f"{argument}ll")
        else:
            given.append("nullptr" if argument is None else f"{float(argument).hex()}f")
    program = _PROGRAM.format(
        source=library.SOURCE, reads="\n".join(reads), function=function, given=", ".join(given)
    )
    path = built(
        "counted", (program, library.SOURCE.read_text(), _compiler_version(), *_flags()), "",
        lambda: _compiled(program),
    )  # fmt: skip
    path.chmod(0o755)
    with tempfile.NamedTemporaryFile(prefix="pytest-sparsity-") as file:
        file.write(data)
        file.flush()
        told = run_compiler(
            [
                *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
                *(f"--toggle-collect={function}", str(path), file.name),
            ],
            f"{function}, whose instructions are counted",
        )
    found = _COLLECTED.search(told)
    if found is None or int(found[1]) == 0:
        raise SparsityError(f"valgrind says nothing of the instructions of {function}")
    return int(found[1])


def _memory(tensor: Tensor) -> bytes:
    """What lies between the first and the last element."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    extent = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    flat = torch.as_strided(tensor, (extent,), (1,))
    return flat.view(torch.uint8).numpy().tobytes()


def _compiled(program: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as folder:
        source, output = Path(folder, "counted.cpp"), Path(folder, "counted")
        source.write_text(program)
        command = library.find_compiler()
        assert command is not None  # see obstacle
        run_compiler([*command, *_flags(), str(source), "-o", str(output)], library.SOURCE.name)
        return output.read_bytes()


def _flags() -> list[str]:
    flags = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC")]
    return [f"-march={_target()}" if flag == "-march=native" else flag for flag in flags]


def _target() -> str:
    return _LEVEL if platform.machine() in ("x86_64", "AMD64") else "native"


@cache
def _compiler_version() -> str:
    command = library.find_compiler()
    assert command is not None  # see obstacle
    told = run_compiler([*command, "--version"], "anything").splitlines()[0]
    return "-".join(re.sub(r"\(.*?\)", "", told).split())
