"""Loads, stores and atomics of interpreted kernels: seen by the launch that they belong to.

What is outside of every tensor of the launch does not happen (``traffic.Launch``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

from pytest_sparsity.checking import choices
from pytest_sparsity.checking.elements import Addresses, Lanes
from pytest_sparsity.checking.programs import Programs
from pytest_sparsity.checking.traffic import PLAIN, RELAXED, Access, Launch, Sharing
from pytest_sparsity.checking.triton_internals import method

_SEMANTICS = {
    ir.MEM_SEMANTIC.RELAXED: RELAXED,
    ir.MEM_SEMANTIC.ACQUIRE: Sharing(atomic=True, acquires=True),
    ir.MEM_SEMANTIC.RELEASE: Sharing(atomic=True, releases=True),
    ir.MEM_SEMANTIC.ACQUIRE_RELEASE: Sharing(atomic=True, acquires=True, releases=True),
}


@dataclass
class Current:
    """What is going on.

    Attributes:
        launch: to which accesses belong, None outside of one.
        programs: of it.
        sharing: what loads and stores mean that are parts of an atomic.
    """

    launch: Launch | None = None
    programs: Programs | None = None
    sharing: Sharing = PLAIN


current = Current()


def guard() -> None:
    """Replace the interpreter's loads, stores and atomics."""
    _guard_loads()
    _guard_stores()
    _guard_updates()
    _guard_exchanges()
    for name in ("create_atomic_load", "create_atomic_store"):
        if hasattr(InterpreterBuilder, name):  # of Triton 3.9
            setattr(InterpreterBuilder, name, _as_atomic(getattr(InterpreterBuilder, name)))


def _guard_loads() -> None:
    load = method(InterpreterBuilder, "create_masked_load", "self", "ptrs", "mask", "other")

    def guarded(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:
        sharing = current.sharing
        # The last argument of all versions; before it they differ.
        volatile = named["is_volatile"] if "is_volatile" in named else rest[-1]
        if volatile and not sharing.atomic:
            sharing = RELAXED
        wanted, legal = _checked(self, ptrs, mask.data, "load", sharing=sharing)
        if other is None and not wanted.all():
            other = _undefined(ptrs)
        if legal is wanted:
            return load(self, ptrs, mask, other, *rest, **named)
        result = load(self, ptrs, TensorHandle(legal, tl.int1), other, *rest, **named)
        result.data = np.where(wanted & ~legal, _all_bits(result.data.dtype), result.data)
        return result

    InterpreterBuilder.create_masked_load = guarded


def _guard_stores() -> None:
    store = method(InterpreterBuilder, "create_masked_store", "self", "ptrs", "value", "mask")

    def guarded(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        wanted, legal = _checked(self, ptrs, mask.data, "store", value, current.sharing)
        if legal is not wanted:
            mask = TensorHandle(legal, tl.int1)
        return store(self, ptrs, value, mask, *rest)

    InterpreterBuilder.create_masked_store = guarded


def _guard_updates() -> None:
    update = method(
        InterpreterBuilder, "create_atomic_rmw", "self", "rmwOp", "ptr", "val", "mask", "sem"
    )

    def guarded(self: Any, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, *rest: Any) -> Any:
        sharing = _sharing(sem, *rest)
        wanted, legal = _checked(self, ptr, mask.data, "atomic", sharing=sharing)
        if legal is not wanted:
            mask = TensorHandle(legal, tl.int1)
        given = map(_in_one_piece, (ptr, val, mask))
        result = update(self, op, *given, sem, *rest)
        if not wanted.all():
            result.data = np.where(wanted, result.data, _undefined(ptr).data)
        return result

    InterpreterBuilder.create_atomic_rmw = guarded


def _guard_exchanges() -> None:
    exchange = method(InterpreterBuilder, "create_atomic_cas", "self", "ptr", "cmp", "val", "sem")

    def guarded(self: Any, ptr: Any, cmp: Any, val: Any, sem: Any, *rest: Any) -> Any:
        everything = np.ones(ptr.data.shape, bool)
        wanted, legal = _checked(self, ptr, everything, "atomic", sharing=_sharing(sem, *rest))
        if legal is wanted:
            return exchange(self, *map(_in_one_piece, (ptr, cmp, val)), sem, *rest)
        return TensorHandle(np.full(ptr.data.shape, _all_bits(cmp.data.dtype)[0]), cmp.dtype)

    InterpreterBuilder.create_atomic_cas = guarded


def _in_one_piece(handle: Any) -> TensorHandle:
    """The same lanes beside each other: Triton 3.5's atomics ask no array for its strides."""
    return TensorHandle(np.ascontiguousarray(handle.data), handle.dtype)


def _as_atomic(access: Callable[..., Any]) -> Callable[..., Any]:
    """A load or store that is atomic: its order of memory is the last argument but one."""

    def guarded(self: Any, *arguments: Any) -> Any:
        current.sharing = _sharing(*arguments[-2:])
        try:
            return access(self, *arguments)
        finally:
            current.sharing = PLAIN

    return guarded


def _sharing(semantic: Any, scope: Any = None) -> Sharing:
    """What an atomic orders; nothing between programs if it is one of a block of threads."""
    return RELAXED if scope == ir.MEM_SYNC_SCOPE.CTA else _SEMANTICS[semantic]


def _checked(
    builder: Any,
    ptrs: Any,
    mask: Lanes,
    kind: Access,
    value: Any = None,
    sharing: Sharing = PLAIN,
) -> tuple[Lanes, Lanes]:
    """The lanes that are active, and those of them that may be: the same array if all may."""
    wanted = np.broadcast_to(mask, ptrs.data.shape).astype(bool, copy=False)
    if current.launch is None:
        return wanted, wanted
    size = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
    everything = bool(wanted.all())
    addresses: Addresses = ptrs.data.ravel() if everything else ptrs.data[wanted]
    values = None
    if value is not None:
        spread = np.broadcast_to(value.data, ptrs.data.shape)
        values = spread.ravel() if everything else spread[wanted]
    if sharing.atomic and len(addresses) == 1 and current.programs is not None:
        current.programs.looks(int(addresses[0]))
    allowed = current.launch.access(
        addresses, size, kind, place, tuple(builder.grid_idx), values, sharing
    )
    if allowed is None:
        return wanted, wanted
    legal = wanted.copy()
    legal[wanted] = allowed
    return wanted, legal


def _undefined(ptrs: Any) -> TensorHandle:
    """What lanes hold that nothing was loaded into, of the shape of ``ptrs``."""
    dtype = ptrs.get_element_ty()
    kept_as = interpreter._get_np_dtype(dtype)
    element = choices.undefined(dtype, kept_as, place)
    return TensorHandle(np.full(ptrs.data.shape, element[0], kept_as), dtype)


def _all_bits(dtype: np.dtype[Any]) -> choices.Element:
    """One element with all bits set: NaN, of floats."""
    return np.full(1, 0xFF, np.uint8).repeat(dtype.itemsize).view(dtype)


def place(program: Sequence[int] | None = None) -> str:
    """Where in the kernel's source the interpreter is, and where in a function that it calls.

    With the program of the launch, if one is given.
    """
    machinery = (triton.__path__[0], __file__.rpartition("/")[0])
    places: list[tuple[str, str]] = []  # outside of Triton, from the inside
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in (
        GridExecutor.__call__.__code__,
        Programs.__call__.__code__,
        Programs.looks.__code__,
    ):
        code = frame.f_code
        if not code.co_filename.startswith(machinery):
            places.append((code.co_name, f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"))
        frame = frame.f_back
    told = [] if program is None else [f"program {tuple(program)}"]
    if places:
        kernel, line = places[-1]
        told = [kernel, *told, line]
    if len(places) > 1:
        told.append(f"in {', '.join(places[0])}")
    return ", ".join(told)
