"""What a test may ask of the machine it runs on: ``@pytest.mark.sparsity(target="cuda>=90")``."""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets.cuda import cuda_targets
from pytest_sparsity.targets.host import ISA, host_target
from pytest_sparsity.targets.known import is_known, known
from pytest_sparsity.targets.resolve import is_target

FORMS = (
    "auto, cpu, cuda, cuda:INDEX, cuda>=90 for compute capability 9.0, cuda:memory>=40GB, "
    "cpu:memory>=16GB, cpu:avx512_bf16 or another instruction set, h100 or another that "
    "pytest-sparsity list targets names"
)
_CAPABILITY = re.compile(r"cuda>=(\d+)\.?(\d)")
_MEMORY = re.compile(r"(cpu|cuda):memory>=(\d+(?:\.\d+)?)(GB|GiB)")
_INSTRUCTIONS = re.compile(r"cpu:(\w+)")
_UNITS = {"GB": 10**9, "GiB": 1 << 30}
_NO_GPU = "this machine has no CUDA device"


def missing(requirement: object) -> str | None:
    """What is missing here for a test with this requirement, or None if nothing is.

    A requirement of a GPU is met if any device of this machine meets it.

    Raises:
        SparsityError: it is not a requirement.
    """
    return _parsed(requirement)()


def check_requirement(requirement: object) -> None:
    """Look at the form of a requirement and at nothing else.

    Raises:
        SparsityError: it is not a requirement.
    """
    _parsed(requirement)


def _parsed(text: object) -> Callable[[], str | None]:
    if isinstance(text, str):
        if is_target(text):
            return lambda: _device(text)
        if match := _CAPABILITY.fullmatch(text):
            capability = (int(match[1]), int(match[2]))
            return lambda: _capability(capability)
        if match := _MEMORY.fullmatch(text):
            kind, amount, unit = match.groups()
            return lambda: _memory(kind, f"{amount} {unit}", float(amount) * _UNITS[unit])
        if match := _INSTRUCTIONS.fullmatch(text):
            flag = match[1]
            if flag not in ISA:
                raise SparsityError(
                    f"target {text!r}: {flag!r} is none of the instruction sets "
                    f"{', '.join(sorted(ISA))}"
                )
            return lambda: _instructions(flag)
        if is_known(text):
            return lambda: _known(text)
    raise SparsityError(f"target {text!r} is none of {FORMS}")


def _device(name: str) -> str | None:
    if name in ("auto", "cpu"):
        return None
    wanted = is_target(name)
    index, count = int((wanted and wanted[1]) or 0), len(cuda_targets())
    if index < count:
        return None
    return f"needs {name}, {f'this machine has {count} CUDA device(s)' if count else _NO_GPU}"


def _capability(wanted: tuple[int, int]) -> str | None:
    devices = [(d.capability, d.name) for d in cuda_targets() if d.capability is not None]
    if devices and max(devices)[0] >= wanted:
        return None
    needs = f"needs CUDA compute capability {_dotted(wanted)}"
    if not devices:
        return f"{needs}, {_NO_GPU}"
    best, name = max(devices)
    return f"{needs}, the best of this machine is {_dotted(best)} ({name})"


def _memory(kind: str, said: str, wanted: float) -> str | None:
    if kind == "cpu":
        here = host_target().memory_bytes
        found = f"this machine has {here / 1e9:.1f} GB"
    else:
        largest = max(cuda_targets(), key=lambda device: device.memory_bytes, default=None)
        here = largest.memory_bytes if largest else 0
        found = f"{largest.name} has {here / 1e9:.1f} GB" if largest else _NO_GPU
    of = "GPU memory" if kind == "cuda" else "memory"
    return None if here >= wanted else f"needs {said} of {of}, {found}"


def _instructions(flag: str) -> str | None:
    target = host_target()
    if flag in target.isa:
        return None
    has = ", ".join(target.isa) or "none that is known"
    return f"needs a CPU with {flag}, this one ({target.name}) has {has}"


def _known(key: str) -> str | None:
    rows = known(key)
    cuda = any(row.kind == "cuda" for row in rows)
    here = [target.name for target in (cuda_targets() if cuda else (host_target(),))]
    if any(row.matches(name) for row in rows for name in here):
        return None
    found = f"this machine has {', '.join(here)}" if here else _NO_GPU
    return f"needs {' or '.join(row.name for row in rows)}, {found}"


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
