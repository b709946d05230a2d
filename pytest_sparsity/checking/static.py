"""The check ``compile``: what the compiler makes of a kernel for GPUs that need not be there.

It must compile, keep its values in registers, leave room for enough programs to hide the latency
of memory, and load weights 16 bytes at a time.  All of it decides about speed, and none of it
shows in a result.  And float32 must be multiplied as float32, unless the kernel declares TF32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pytest_sparsity.checking import pretended_cuda
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda import nvcc
from pytest_sparsity.kernels.cuda.source import Launch, instead
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands

if TYPE_CHECKING:
    from pytest_sparsity.checking.compilation import Compiled


@dataclass(frozen=True)
class Limits:
    """What a kernel is allowed.

    Attributes:
        registers: per thread at most.
        width: bits of the widest load of each large operand, at least.
        spilled: bytes of registers per thread that may be moved to memory, at most.
    """

    registers: int
    width: int
    spilled: int = 0


#: For one row of x.  With more registers a multiprocessor (it has 65536) holds less than a quarter
#: of the threads it could, and kernels that wait for memory wait longer.
ONE_ROW = Limits(registers=128, width=128)
#: Several rows need registers for their sums, up to what a thread can have, and leave fewer for
#: loads.
SEVERAL_ROWS = Limits(registers=255, width=64)
#: What older compilers may take on top, by the first version of Triton that needs less.  Of the
#: same kernels, ours, ptxas 12.8 of 3.5 and 3.6 makes code with up to 254 registers for one row,
#: and those of 3.5 to 3.7 move up to 40 bytes to memory, beside the loop over channels.
OLDER: Mapping[tuple[int, int], Limits] = {
    (3, 7): Limits(registers=127, width=0, spilled=64),
    (3, 8): Limits(registers=0, width=0, spilled=64),
}
#: Bytes of shared memory that a program can have (CUDA C++ Programming Guide, compute
#: capabilities, "Maximum amount of shared memory per thread block").
MAX_SHARED: Mapping[int, int] = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}

_OURS = "pytest_sparsity.kernels.cuda."


def applies(kernel: Kernel) -> bool:
    """Whether a kernel can be compiled here: Triton's, and CUDA's if it tells its resources.

    The op's record must have cases and operands for it.
    """
    own = record(kernel.op)
    if own.compiled is None or own.decoding is None:
        return False
    if kernel.backend == "triton":
        return True
    told = _teller(kernel) is not None or kernel.source is not None
    return nvcc.find() is not None and told


def run(trial: Trial) -> float:
    """The check: figures of what the compiler made of the kernel, told in the trial's figures.

    Raises:
        CheckFailure: see :func:`measured`.
    """
    if trial.kernel.backend == "triton":
        trial.figures.extend(map(str, measured(trial)))
    else:
        trial.figures.extend(_told(trial))
    return 0.0


def measured(trial: Trial) -> list[Compiled]:
    """Compile what the kernel launches for every architecture; the figures of each launch.

    Of an autotuned kernel one configuration must do, as the tuner takes the best.

    Raises:
        CheckFailure: it does not compile, launches nothing, spills registers, uses too many of them
            or too much shared memory, loads a large operand in too narrow pieces only, or
            multiplies float32 operands in TF32.
    """
    import triton

    from pytest_sparsity.checking import compilation

    inputs, tensors = _operands(trial)
    leading, outside = trial.kernel.definition.leading, trial.kernel.contract.outside
    own = {n: tensor for n, tensor in tensors.items() if n.partition(".")[0] not in outside}
    limits = _of_version(ONE_ROW if trial.case.rows == 1 else SEVERAL_ROWS, triton.__version__)
    found: list[Compiled] = []
    for arch in compilation.ARCHES:
        findings: list[CheckFailure] = []
        index = 0
        while True:
            try:
                launches = compilation.compiled(lambda: trial.call(inputs), tensors, arch, index)
                _check(launches, own, leading, limits)
            except CheckFailure as finding:
                findings.append(finding)
            else:
                found += launches
                break
            index += 1
            if index == compilation.configurations():
                tried = f", and {index - 1} other configurations do no better" if index > 1 else ""
                raise CheckFailure(f"{findings[0].what} when compiled for sm_{arch}{tried}")
    if trial.kernel.products != "tf32" and any(launch.dots for launch in found):
        _check_products(trial)
    return found


def _check_products(trial: Trial) -> None:
    """See what becomes of float32 operands; one architecture tells, since the kernel decides.

    Those of other dtypes are exact in TF32.
    """
    from pytest_sparsity.checking import compilation

    if "float32" not in trial.kernel.dtypes:
        return
    single = replace(trial, case=replace(trial.case, dtype="float32"))
    inputs, tensors = _operands(single)
    arch = compilation.ARCHES[0]
    for launch in compilation.compiled(lambda: single.call(inputs), tensors, arch):
        if launch.tf32:
            raise CheckFailure(
                f"multiplies float32 operands in TF32, with 10 bits, in {launch.kernel}: tl.dot "
                'does so unless it is given input_precision="ieee", or products="tf32" is declared,'
                f" when compiled for sm_{arch}"
            )


def _operands(trial: Trial) -> tuple[Any, Mapping[str, Tensor]]:
    """Operands to compile for, and their tensors by name."""
    make = record(trial.kernel.op).decoding
    assert make is not None  # see applies
    inputs = make(trial.case)
    return inputs, operands.tensors(inputs)


def _teller(kernel: Kernel) -> Callable[[str], Mapping[str, Any]] | None:
    """The function that says what the kernels of a CUDA module take, by entry, on ``sm_90``.

    It is called ``resources`` and stands in the module that registers the kernel.  What it says of
    an entry has the attributes ``registers``, ``spills`` and ``wide_loads`` (128-bit loads).
    """
    if kernel.module.startswith(_OURS):
        return _our_resources
    return getattr(sys.modules.get(kernel.module), "resources", None)


@cache  # it takes seconds, and tells of the kernels of all ops at once
def _our_resources(arch: str) -> Mapping[str, Any]:
    from pytest_sparsity.kernels.cuda.compiler import resources

    return resources(arch)


def _launched(trial: Trial) -> Sequence[Launch]:
    """What the kernel launches at a shape of decoding; nothing is computed."""
    make = record(trial.kernel.op).decoding
    assert make is not None  # see applies
    launches: list[Launch] = []
    inputs = make(trial.case)  # outside of the scope, in which what is made is on the CPU
    with pretended_cuda.scope(), instead(launches.append):
        try:
            trial.kernel.call(**operands.arguments(inputs))
        except Exception as error:
            raise CheckFailure(f"raised {type(error).__name__}: {error}") from error
    if not launches:
        raise CheckFailure("launches no kernel of a CudaSource")
    return launches


def _by_entry(trial: Trial, arch: int) -> Iterator[tuple[str, Any]]:
    """What each kernel takes: as its module tells, or of those that it launches."""
    teller = _teller(trial.kernel)
    if teller is not None:
        ours = trial.kernel.module.startswith(_OURS)
        for entry, told in teller(f"sm_{arch}").items():
            if not ours or trial.kernel.op.removeprefix("sparse_") in entry:
                yield entry, told
        return
    for launch in _launched(trial):
        try:
            found = nvcc.compiled(launch.source.instantiating(launch.entry), f"sm_{arch}")
        except SparsityError as error:
            raise CheckFailure(f"does not compile: {error}") from error
        name = launch.entry.partition("<")[0].rpartition(":")[2]
        for entry, told in found.resources.items():
            if entry == name or f"{len(name)}{name}" in entry:
                _check_shared(told.shared + launch.shared, arch, f"in {entry}")
                yield entry, told


def _check_shared(used: int, arch: int, where: str) -> None:
    if used > MAX_SHARED[arch]:
        raise CheckFailure(
            f"uses {used} bytes of shared memory, more than there are, {where} when compiled for "
            f"sm_{arch}"
        )


def _told(trial: Trial) -> Iterator[str]:
    for arch in MAX_SHARED:
        wide = 0
        for entry, told in _by_entry(trial, arch):
            where = f"in {entry} when compiled for sm_{arch}"
            _check_registers(told.spills, told.registers, ONE_ROW, where)
            wide += told.wide_loads
            if not told.wide_loads and _teller(trial.kernel) is not None:
                raise CheckFailure(f"has no load of 128 bits {where}")
            yield (
                f"{entry} for sm_{arch}: {told.registers} registers, {told.spills} bytes spilled, "
                f"{told.wide_loads} loads of 128 bits"
            )
        if not wide:
            raise CheckFailure(f"has no load of 128 bits in any kernel when compiled for sm_{arch}")


def _check(
    launches: Sequence[Compiled], tensors: Mapping[str, Tensor], leading: str, limits: Limits
) -> None:
    if not launches:
        raise CheckFailure("launches no Triton kernel")
    for launch in launches:
        where = f"in {launch.kernel} ({launch.warps} warps)"
        _check_registers(launch.spilled, launch.registers, limits, where)
        if launch.shared > MAX_SHARED[launch.arch]:
            raise CheckFailure(
                f"uses {launch.shared} bytes of shared memory, more than there are, {where}"
            )
    for operand in _large(tensors, leading):
        widths = [width for launch in launches if (width := launch.widest(operand)) is not None]
        if not widths:
            raise CheckFailure(
                f"does not load {operand} in any launch: it works on a copy, or not with Triton,"
            )
        if max(widths) < limits.width:
            raise CheckFailure(
                f"loads {operand} by at most {max(widths)} bits at a time, though its elements "
                f"are adjacent and aligned ({limits.width} are right),"
            )


def _check_registers(spilled: int, registers: int, limits: Limits, where: str) -> None:
    if spilled > limits.spilled:
        raise CheckFailure(f"spills {spilled} bytes of registers per thread {where}")
    if registers > limits.registers:
        raise CheckFailure(
            f"uses {registers} registers per thread, more than {limits.registers}, {where}"
        )


def _of_version(limits: Limits, triton: str) -> Limits:
    """``limits`` for what the compiler of a version of Triton makes of a kernel, see ``OLDER``."""
    major, minor = map(int, triton.split(".")[:2])
    for newer, more in OLDER.items():
        if (major, minor) < newer:
            registers = min(limits.registers + more.registers, SEVERAL_ROWS.registers)
            return replace(limits, registers=registers, spilled=more.spilled)
    return limits


def _large(tensors: Mapping[str, Tensor], leading: str) -> list[str]:
    """The operands that take the time: at least a quarter of all bytes beside activations."""
    sizes = {name: t.numel() * t.element_size() for name, t in tensors.items() if name != leading}
    return [name for name, size in sizes.items() if 4 * size >= sum(sizes.values())]
