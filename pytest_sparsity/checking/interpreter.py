"""Triton's interpreter as an instrument: repaired, guarded, and counting what kernels read.

For a process of its own: the interpreter must be chosen, by TRITON_INTERPRET=1 in the
environment, before Triton is imported, and then it serves every kernel of the process.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import (
    GridExecutor,
    InterpretedFunction,
    InterpreterBuilder,
    TensorHandle,
)

from pytest_sparsity.checking import (
    bfloat16,
    block_pointers,
    choices,
    dots,
    libdevice,
    pretended_tensors,
    triton_internals,
)
from pytest_sparsity.checking.elements import Addresses, Lanes, known
from pytest_sparsity.checking.traffic import Access, Launch, Traffic
from pytest_sparsity.checking.triton_internals import method
from pytest_sparsity.core.errors import SparsityError

#: Compute capability that wrappers are told when they ask.
_ARCH = 90


class _State:
    """What holds for the launches to come."""

    installed = False
    traffic: Traffic | None = None
    launch: Launch | None = None
    #: Modules of Triton's language that the launch has redirected to the interpreter.
    redirected: frozenset[int] = frozenset()


def install() -> None:
    """Make the interpreter of this process fit for checks; a second call does nothing.

    bfloat16 is repaired (``bfloat16``), and float32 multiplied as on a GPU (``dots``).  What the
    language leaves open is chosen (``choices``): the configuration of autotuned kernels, and what
    lanes hold that are masked off.  Accesses outside of every tensor of a launch do not happen.
    They are an exception (``traffic.OutOfBounds``); under :func:`watch` they are reported instead,
    loads give NaN (all bits set), stores and atomics do nothing.

    Raises:
        SparsityError: Triton was imported without TRITON_INTERPRET=1, or is of a version whose
            internals are elsewhere.
    """
    if _State.installed:
        return
    if not isinstance(tl.sum, InterpretedFunction):
        raise SparsityError(
            "TRITON_INTERPRET=1 must be in the environment before triton is first imported; "
            "it was not, so the interpreter cannot be used in this process"
        )
    bfloat16.repair()
    dots.repair(_place)
    triton_internals.use_device(_ARCH)
    triton_internals.pin_autotuners(lambda configs: [configs[choices.configuration(len(configs))]])
    libdevice.install()
    block_pointers.install()
    _guard_accesses()
    _guard_launches()
    _hasten()
    _State.installed = True


@contextmanager
def watch(tensors: Mapping[str, Tensor]) -> Iterator[Traffic]:
    """Count what the launches inside read of ``tensors``, and what they hit outside of them.

    Operands are known by their addresses: a kernel's wrapper may pass views of them.  Copies it
    makes are not them, and neither is what torch operators read.

    Args:
        tensors: the operands on the CPU, by name, as in ``reference.operands.tensors``.

    Raises:
        RuntimeError: :func:`install` was not called.
    """
    if not _State.installed:
        raise RuntimeError("call install() first")
    before = _State.traffic
    _State.traffic = Traffic.of(tensors)
    try:
        yield _State.traffic
    finally:
        _State.traffic = before


def _guard_launches() -> None:
    call = method(GridExecutor, "__call__", "self", "args_dev", "kwargs")

    @functools.wraps(call)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = [*zip(self.arg_names, args, strict=False), *kwargs.items()]
        tensors = [found for name, value in named for found in _tensors(name, value)]
        pretended_tensors.check_reachable(tensors)
        operands = known() if _State.traffic is None else []
        _State.launch = Launch(_State.traffic, self.fn.__name__, tensors, operands)
        try:
            # A device does not warn of NaN and overflow either.  The interpreter sees tensors where
            # they are, in the CPU's memory.
            with np.errstate(all="ignore"), torch._C.DisableTorchFunction():
                return call(self, *args, **kwargs)
        finally:
            _State.launch.finish()
            _State.launch, _State.redirected = None, frozenset()

    GridExecutor.__call__ = guarded


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an argument: itself, those of a tuple, that of a descriptor or wrapper."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _tensors(f"{name}[{index}]", item)
    elif isinstance(getattr(value, "base", None), Tensor):
        yield name, value.base


def _hasten() -> None:
    """Leave out work that changes no result: nearly half of the interpreter's time."""
    # Asserted only in Triton's debug mode, but always computed: is each integer sum in range?
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    # Every call of a @triton.jit function inside a kernel, tl.sum included, redirects the whole
    # language again.
    redirect = method(interpreter, "_patch_lang", "fn")

    @functools.wraps(redirect)
    def redirect_once(fn: Any) -> Any:
        languages = frozenset(id(v) for v in fn.__globals__.values() if v is tl or v is tl.core)
        if languages <= _State.redirected:
            return None
        _State.redirected |= languages
        return redirect(fn)

    interpreter._patch_lang = redirect_once


def _guard_accesses() -> None:
    load = method(InterpreterBuilder, "create_masked_load", "self", "ptrs", "mask", "other")
    store = method(InterpreterBuilder, "create_masked_store", "self", "ptrs", "value", "mask")
    update = method(InterpreterBuilder, "create_atomic_rmw", "self", "rmwOp", "ptr", "val", "mask")

    def guarded_load(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:
        wanted, legal = _checked(self, ptrs, mask, "load")
        if other is None and not wanted.all():
            other = _undefined(ptrs)
        if legal is wanted:
            return load(self, ptrs, mask, other, *rest, **named)
        result = load(self, ptrs, TensorHandle(legal, tl.int1), other, *rest, **named)
        poison = np.full(1, 0xFF, np.uint8).repeat(result.data.itemsize).view(result.data.dtype)
        result.data = np.where(wanted & ~legal, poison, result.data)
        return result

    def guarded_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        wanted, legal = _checked(self, ptrs, mask, "store")
        if legal is not wanted:
            mask = TensorHandle(legal, tl.int1)
        return store(self, ptrs, value, mask, *rest)

    def guarded_update(self: Any, op: Any, ptr: Any, val: Any, mask: Any, *rest: Any) -> Any:
        wanted, legal = _checked(self, ptr, mask, "atomic")
        if legal is not wanted:
            mask = TensorHandle(legal, tl.int1)
        result = update(self, op, ptr, val, mask, *rest)
        if not wanted.all():
            result.data = np.where(wanted, result.data, _undefined(ptr).data)
        return result

    InterpreterBuilder.create_masked_load = guarded_load
    InterpreterBuilder.create_masked_store = guarded_store
    InterpreterBuilder.create_atomic_rmw = guarded_update


def _checked(builder: Any, ptrs: Any, mask: Any, kind: Access) -> tuple[Lanes, Lanes]:
    """The lanes that are active, and those of them that may be: the same array if all may."""
    wanted = np.broadcast_to(mask.data, ptrs.data.shape).astype(bool, copy=False)
    if _State.launch is None:
        return wanted, wanted
    size = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
    everything = bool(wanted.all())
    addresses: Addresses = ptrs.data.ravel() if everything else ptrs.data[wanted]
    program = tuple(builder.grid_idx)
    allowed = _State.launch.access(addresses, size, kind, lambda: _place(program), program)
    if allowed is None:
        return wanted, wanted
    legal = wanted.copy()
    legal[wanted] = allowed
    return wanted, legal


def _undefined(ptrs: Any) -> TensorHandle:
    """What lanes hold that nothing was loaded into, of the shape of ``ptrs``."""
    dtype = ptrs.get_element_ty()
    kept_as = interpreter._get_np_dtype(dtype)
    element = choices.undefined(dtype, kept_as, _place)
    return TensorHandle(np.full(ptrs.data.shape, element[0], kept_as), dtype)


def _place(program: Sequence[int] | None = None) -> str:
    """Where in the kernel's source the interpreter is, and where in a function that it calls.

    With the program of the launch, if one is given.
    """
    machinery = (triton.__path__[0], __file__.rpartition("/")[0])
    places: list[tuple[str, str]] = []  # outside of Triton, from the inside
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not GridExecutor.__call__.__code__:
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
