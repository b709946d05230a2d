"""The registry of kernels: which implementations of which op there are, and what they promise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.as_declared import as_declared
from pytest_sparsity.kernels.contract import Contract
from pytest_sparsity.kernels.cuda.source import CudaSource
from pytest_sparsity.reference.operands import MAX_ROWS
from pytest_sparsity.reference.ops import OPS, Op
from pytest_sparsity.reference.precision import TF32, Precision

ENTRY_POINTS = "pytest_sparsity.kernels"
DTYPES = ("float32", "bfloat16", "float16")
#: Of an op of others: as many as its cases have.
_MOST_ROWS = 1 << 30
F = TypeVar("F", bound=Callable[..., Any])

#: The modules of this package that register kernels.
BUNDLED: tuple[str, ...] = (
    "cpu.compact",
    "cpu.hot_cold_mlp",
    "cpu.semi_structured_linear",
    "cpu.sparse_linear",
    "cpu.sparse_linear_indexed",
    "cpu.sparse_qkv",
    "cpu.sparse_quantized_linear",
    "cpu.sparse_swiglu",
    "cuda.sparse_linear",
    "cuda.sparse_swiglu",
    "native.sparse_linear",
    "native.sparse_quantized_linear",
    "native.sparse_swiglu",
    "torch.compact",
    "torch.hot_cold_mlp",
    "torch.semi_structured_linear",
    "torch.sparse_linear",
    "torch.sparse_linear_indexed",
    "torch.sparse_qkv",
    "torch.sparse_quantized_linear",
    "torch.sparse_swiglu",
    "triton.compact",
    "triton.hot_cold_mlp",
    "triton.semi_structured_linear",
    "triton.sparse_linear",
    "triton.sparse_linear_indexed",
    "triton.sparse_quantized_linear",
    "triton.sparse_qkv",
    "triton.sparse_swiglu",
)


@dataclass(frozen=True)
class Kernel:
    """One implementation of an op, and what its author promises about it.

    Attributes:
        op: name of the op in ``reference.ops.OPS``.
        name: tells it from the op's other kernels; the backend, or ``backend-variant``.
        backend: ``cpu``, ``native``, ``triton``, ``cuda``, ``torch``, or a name of its author's.
        call: the function; takes the op's operands by keyword, returns a new tensor.
        dtypes: of x that it takes.
        max_rows: most rows of x that it takes.
        module: name of the module that registered it.
        file: where it was registered.
        line: of that file.
        accumulate: dtype of its partial sums; ``operand`` for x's.
        intermediate: dtype of what it stores between two stages; ``operand`` for x's.
        products: what it rounds float32 operands of products to: ``tf32``, or ``operand`` for none.
        deterministic: the same operands give the same bits, run after run.
        skips: weights of skipped channels are not read.
        unavailable: says why it cannot run here, or None if it can.
        contract: what it takes, where that is less than the op has, and what it does otherwise.
        source: of what it launches, if that is CUDA C++: it is emulated where there is no device.
    """

    op: str
    name: str
    backend: str
    call: Callable[..., torch.Tensor]
    dtypes: tuple[str, ...]
    max_rows: int
    module: str
    file: str
    line: int = 0
    accumulate: str = "float32"
    intermediate: str = "float32"
    products: str = "operand"
    deterministic: bool = True
    skips: bool = True
    unavailable: Callable[[], str | None] = lambda: None
    contract: Contract = field(default_factory=Contract)
    source: CudaSource | None = None

    @property
    def id(self) -> str:
        """``op/name``, unique."""
        return f"{self.op}/{self.name}"

    @property
    def definition(self) -> Op:
        """The op it implements, as its contract has it."""
        return as_declared(OPS[self.op], self.contract)

    def precision(self, dtype: torch.dtype) -> Precision:
        """In which dtypes it computes for an x of ``dtype``."""

        def meant(name: str) -> torch.dtype:
            found: torch.dtype = dtype if name == "operand" else getattr(torch, name)
            return found

        return Precision(
            dtype,
            meant(self.accumulate),
            meant(self.intermediate),
            {name: meant(given) for name, given in self.contract.adds.items()},
            {name: meant(given) for name, given in self.contract.outside.items()},
            TF32 if self.products == "tf32" else 0.0,
        )


_KERNELS: dict[str, Kernel] = {}
#: The names of the module whose execution registered a kernel: it may be executed again.
_EXECUTIONS: dict[str, dict[str, Any]] = {}


def sparse_kernel(
    *,
    op: str,
    backend: str,
    name: str | None = None,
    dtypes: Iterable[str] | None = None,
    max_rows: int | None = None,
    accumulate: str = "float32",
    intermediate: str = "float32",
    products: str = "operand",
    deterministic: bool = True,
    skips: bool = True,
    unavailable: Callable[[], str | None] | None = None,
    contract: Contract | None = None,
    source: CudaSource | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as a kernel; see :class:`Kernel` for what is declared.

    The function itself is returned unchanged.  Without ``dtypes`` a kernel takes those of its op,
    and without ``max_rows`` all the rows that cases of its op have: 8 of ours.  Without
    ``unavailable`` it runs everywhere, and with a ``source`` where there is a CUDA device.

    Raises:
        SparsityError: the op is unknown, a declaration is not possible, or another function is
            registered under this op and name.
    """
    if op not in OPS:
        load_entry_points("pytest_sparsity.ops")
    if op not in OPS:
        raise SparsityError(
            f"@sparse_kernel(op={op!r}): there is no such op; use one of {', '.join(OPS)}, or "
            "define it with @sparse_op before"
        )
    if isinstance(dtypes, str):
        raise SparsityError(f"@sparse_kernel(dtypes={dtypes!r}): give a sequence, ({dtypes!r},)")
    dtypes = OPS[op].takes if dtypes is None else tuple(dtypes)
    for given in dtypes:
        if given not in OPS[op].takes:
            known = ", ".join(OPS[op].takes)
            raise SparsityError(f"@sparse_kernel(dtypes={given!r}): use one of {known}")
    if source is not None and not isinstance(source, CudaSource):
        raise SparsityError(f"@sparse_kernel(source={source!r}): give a CudaSource")
    for argument, given in (("accumulate", accumulate), ("intermediate", intermediate)):
        if given != "operand":
            _check_dtype(argument, given)
    if products not in ("operand", "tf32"):
        raise SparsityError(f"@sparse_kernel(products={products!r}): use operand or tf32")
    if max_rows is None:
        max_rows = _MOST_ROWS if OPS[op].module else MAX_ROWS
    if max_rows < 1:
        raise SparsityError(f"@sparse_kernel(max_rows={max_rows}): give at least 1")

    def register(function: F) -> F:
        if not callable(function):
            raise SparsityError(
                f"@sparse_kernel(op={op!r}): {function!r} cannot be called; register what computes "
                "the op"
            )
        # Of the registration: what is registered may be of another library, or have no source.
        place = inspect.currentframe()
        place = place.f_back if place is not None else None
        assert place is not None  # CPython has frames
        kernel = Kernel(
            op=op,
            name=name or backend,
            backend=backend,
            call=function,
            dtypes=dtypes,
            max_rows=max_rows,
            accumulate=accumulate,
            intermediate=intermediate,
            deterministic=deterministic,
            skips=skips,
            unavailable=unavailable or _needs(source),
            module=place.f_globals["__name__"],
            file=place.f_code.co_filename,
            line=place.f_lineno,
            contract=Contract() if contract is None else contract,
            products=products,
            source=source,
        )
        before = _KERNELS.get(kernel.id)
        # The same file may be imported twice, under two names.
        again = before is not None and _EXECUTIONS.get(kernel.id) is place.f_globals
        if before is not None and (again or before.file != kernel.file):
            raise SparsityError(
                f"@sparse_kernel: {kernel.id} is registered twice, in {before.file}, line "
                f"{before.line}, and in {kernel.file}, line {kernel.line}; give one of them "
                "another name="
            )
        _KERNELS[kernel.id] = kernel
        _EXECUTIONS[kernel.id] = place.f_globals
        return function

    return register


def registered() -> Mapping[str, Kernel]:
    """Every kernel registered so far, by id: ours, those of entry points, those of conftests.

    Raises:
        SparsityError: an entry point of the group ``pytest_sparsity.kernels`` cannot be loaded.
    """
    for module in BUNDLED:
        import_module(f"pytest_sparsity.kernels.{module}")
    load_entry_points(ENTRY_POINTS)
    return dict(_KERNELS)


def load_entry_points(group: str) -> None:
    """Import what installed packages name in this group.

    Raises:
        SparsityError: one cannot be loaded.
    """
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:
            raise SparsityError(
                f"entry point {entry.name} = {entry.value} of the group {group} cannot "
                f"be loaded: {type(error).__name__}: {error}"
            ) from error


def kernel(id: str) -> Kernel:
    """The kernel registered as ``op/name``.

    Raises:
        SparsityError: there is none.
    """
    if id not in _KERNELS:  # or nothing else need be imported
        known = registered()
        if id not in known:
            raise SparsityError(f"there is no kernel {id!r}; registered are {', '.join(known)}")
    return _KERNELS[id]


def find(kernel: Kernel | str | Callable[..., Any]) -> Kernel:
    """A kernel by itself, its id, or what was registered.

    Raises:
        SparsityError: there is none.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, str):
        return _named(kernel)
    for known in registered().values():
        if known.call is kernel:
            return known
    name = getattr(kernel, "__qualname__", repr(kernel))
    raise SparsityError(f"{name} is not a kernel: decorate it with @sparse_kernel(op=..., ...)")


_named = kernel


def _needs(source: CudaSource | None) -> Callable[[], str | None]:
    if source is None:
        return lambda: None
    from pytest_sparsity.kernels.cuda import device

    return device.unavailable


def _check_dtype(argument: str, given: str) -> None:
    if not isinstance(getattr(torch, str(given), None), torch.dtype):
        raise SparsityError(
            f"@sparse_kernel({argument}={given!r}): use the name of a dtype of torch, such as "
            f"{', '.join(DTYPES)}"
        )
