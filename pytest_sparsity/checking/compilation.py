"""Compiles Triton kernels for GPUs that are not there, as a call of their wrapper would.

The wrapper is called with operands on the CPU.  Triton is told that there is a GPU
(``triton_internals``) and comes as far as compiling each launch, specialised for the very
operands, as its runtime does; then the launch is left out.  The compiler's results are what the
report is about: registers, spills, shared memory, and how wide the loads of each operand are.

For a process that did not choose the interpreter.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import triton.language as tl
from torch import Tensor
from triton import knobs
from triton.runtime.jit import JITFunction

from pytest_sparsity.checking import pretended_tensors, ptx, triton_internals
from pytest_sparsity.checking.launched import Launched
from pytest_sparsity.checking.triton_internals import method
from pytest_sparsity.core.errors import SparsityError

#: Compute capabilities of A100, H100 and H200, and B200.
ARCHES = (80, 90, 100)
_FIGURE = re.compile(r"\b(REG|STACK|LOCAL):(\d+)")
#: In Triton's intermediate code, a product of float32 tiles that is not made of several in TF32.
_TF32 = re.compile(r"\btt\.dot .*\binputPrecision = tf32 : tensor<[\dx]+xf32>")


@dataclass(frozen=True)
class Compiled:
    """One launch, compiled.

    Attributes:
        kernel: its name.
        arch: compute capability, 90 for sm_90.
        warps: per program.
        registers: per thread.
        spilled: bytes per thread of registers that did not fit, in local memory.
        shared: bytes of shared memory per program.
        loads: operand (or the kernel's argument, if it points to none) to how many loads there
            are of which width in bits.
        dots: whether it multiplies tiles (``tl.dot``).
        tf32: whether it multiplies float32 tiles in TF32.
    """

    kernel: str
    arch: int
    warps: int
    registers: int
    spilled: int
    shared: int
    loads: Mapping[str, Mapping[int, int]]
    dots: bool = False
    tf32: bool = False

    def __str__(self) -> str:
        loads = ", ".join(
            f"{name} {' + '.join(f'{n} x {bits}' for bits, n in sorted(widths.items()))}"
            for name, widths in sorted(self.loads.items())
        )
        return (
            f"{self.kernel} for sm_{self.arch}: {self.registers} registers, {self.spilled} bytes "
            f"spilled, {self.shared} bytes shared, {self.warps} warps; loads in bits: {loads}"
        )

    def widest(self, operand: str) -> int | None:
        """Bits of the widest load of ``operand``, None if this launch does not load it."""
        unsure = self.loads.get(ptx.UNKNOWN, {})
        return max((*self.loads.get(operand, ()), *unsure), default=None)


class _State:
    """What holds for the launches to come."""

    installed = False
    configuration = 0
    #: Most configurations that an autotuned kernel had.
    configurations = 1
    tensors: Mapping[str, Tensor] = {}
    arguments: Mapping[str, Any] = {}
    compiled: list[Compiled] | None = None
    #: That were compiled so far.
    functions: ClassVar[dict[int, JITFunction]] = {}


def install() -> None:
    """Make Triton compile without a GPU in this process; a second call does nothing.

    To be called before kernels are imported: some ask for the device at once.  Contraction of
    products and sums is on unless TRITON_DEFAULT_FP_FUSION says otherwise, since its default
    depends on Triton's version.

    Raises:
        SparsityError: the process chose the interpreter, or Triton's internals are elsewhere.
    """
    if _State.installed:
        return
    if not isinstance(tl.sum, JITFunction):
        raise SparsityError(
            "TRITON_INTERPRET must not be in the environment of a process that compiles kernels"
        )
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    triton_internals.use_device(ARCHES[0])
    triton_internals.pin_autotuners(_pinned)
    pack = method(
        JITFunction, "_pack_args", "self", "backend", "kwargs", "bound_args", "specialization"
    )
    method(
        JITFunction, "_do_compile", "self", "key", "signature", "device", "constexprs", "options"
    )

    def noting(self: Any, backend: Any, kwargs: Any, bound_args: Any, *rest: Any) -> Any:
        _State.arguments = bound_args
        pretended_tensors.check_reachable(bound_args.items())
        return pack(self, backend, kwargs, bound_args, *rest)

    run = method(JITFunction, "run", "self", "args", "grid", "warmup")

    def ran(self: Any, *args: Any, **named: Any) -> Launched:
        run(self, *args, **named)
        rest = {name: given for name, given in named.items() if name not in self.arg_names}
        return Launched(lambda grid, *args: run(self, *args, **rest | {"grid": grid}))

    JITFunction.run = ran
    JITFunction._pack_args = noting
    JITFunction._do_compile = _compile
    _State.installed = True


def compiled(
    call: Callable[[], Any], tensors: Mapping[str, Tensor], arch: int, configuration: int = 0
) -> list[Compiled]:
    """Every launch of ``call``, compiled for ``arch``.

    Args:
        call: calls a kernel's wrapper; what it returns was not computed.
        tensors: the operands, by name.
        arch: compute capability, 90 for sm_90.
        configuration: which one autotuned kernels run with, modulo how many fit the operands.

    Raises:
        RuntimeError: :func:`install` was not called.
    """
    if not _State.installed:
        raise RuntimeError("call install() first")
    triton_internals.use_device(arch)
    for function in _State.functions.values():
        function.device_caches.clear()  # what Triton keeps is for the device of another arch
    found: list[Compiled] = []
    _State.tensors, _State.compiled, _State.configuration = tensors, found, configuration
    _State.configurations = 1
    try:
        call()
    finally:
        _State.tensors, _State.compiled = {}, None
    return found


def configurations() -> int:
    """How many configurations the kernels of the last :func:`compiled` have to choose among."""
    return _State.configurations


def _pinned(configs: Sequence[Any]) -> Sequence[Any]:
    _State.configurations = max(_State.configurations, len(configs))
    return [configs[_State.configuration % len(configs)]]


def _compile(
    self: Any,
    key: Any,
    signature: Mapping[str, Any],
    device: int,
    constexprs: Any,
    options: Any,
    attrs: Any,
    *rest: Any,
) -> None:
    """In place of ``JITFunction._do_compile``: what returns None is not launched."""
    _State.functions[id(self)] = self
    target = self.device_caches[device][2]
    source = self.ASTSource(self, signature, constexprs, attrs)
    kernel = self.compile(source, target=target, options=options.__dict__)
    if _State.compiled is None:
        return
    figures = _resources(kernel.asm["cubin"])
    _State.compiled.append(
        Compiled(
            kernel=self.__name__,
            arch=target.arch,
            warps=kernel.metadata.num_warps,
            registers=figures["REG"],
            spilled=figures["STACK"] + figures["LOCAL"],
            shared=kernel.metadata.shared,
            loads=ptx.loads(kernel.asm["ptx"], _pointers(signature)),
            dots="tt.dot " in kernel.asm["ttir"],
            tf32=ptx.multiplies_tf32(kernel.asm["ptx"]) and bool(_TF32.search(kernel.asm["ttir"])),
        )
    )


def _pointers(signature: Mapping[str, Any]) -> list[str | None] | None:
    """What each parameter of the compiled kernel points to, None for numbers.

    None altogether if arguments become several parameters: tuples and tensor descriptors.
    """
    kinds = {name: kind for name, kind in signature.items() if kind != "constexpr"}
    if not all(isinstance(kind, str) and "<" not in kind for kind in kinds.values()):
        return None
    return [_operand(name) if kind.startswith("*") else None for name, kind in kinds.items()]


def _operand(argument: str) -> str:
    """The operand that the kernel's argument points into, or the argument itself."""
    value = _State.arguments[argument]
    value = getattr(value, "base", value)
    if isinstance(value, Tensor):
        for name, tensor in _State.tensors.items():
            if value.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
                return name
    return argument


def _resources(cubin: bytes) -> Mapping[str, int]:
    """Figures of a compiled kernel by the tool that comes with Triton: most of any function."""
    with _file(cubin) as path:
        text = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "-res-usage", path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    figures = {"REG": 0, "STACK": 0, "LOCAL": 0}
    for name, value in _FIGURE.findall(text):
        figures[name] = max(figures[name], int(value))
    return figures


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernel.cubin")
        with open(path, "wb") as file:
            file.write(content)
        yield path
