"""Makes Triton's interpreter several times as fast, by leaving out work that changes no result.

Most of its time goes into types: every operation of a kernel makes new ones, of shapes that were
made before.  They are remembered (``remembered``, ``operators``).  What a version of Triton has
elsewhere is left as it is: slower, and right.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

from pytest_sparsity.checking import operators, remembered

_core: Any = tl.core
#: Lanes that are loaded as fast one after another.
_FEW = 256


def hasten() -> None:
    """Replace what takes long; once per process."""
    # Asserted only in Triton's debug mode, but always computed: is each integer sum in range?
    builder = interpreter.interpreter_builder
    checked = hasattr(builder.options, "sanitize_overflow")
    if checked:
        builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    if not hasattr(tl.block_type(tl.int32, [1]).shape, "values"):
        return  # an older Triton, whose types are made in another way
    _replace(interpreter, "_patch_lang", ("fn",), _redirected_once)
    _replace(interpreter, "_get_np_dtype", ("tt_dtype",), remembered.dtypes)
    _replace(_core.block_type, "__init__", ("self", "element_ty", "shape"), remembered.blocks)
    _replace(_core.tensor, "__init__", ("self", "handle", "type"), remembered.shapes)
    _replace(
        TritonSemantic,
        "computation_type_impl",
        ("self", "a_ty", "a_is_scalar", "b_ty", "b_is_scalar", "div_or_mod"),
        remembered.promotions,
    )
    _replace(TritonSemantic, "broadcast_impl_value", ("self", "lhs", "rhs"), remembered.broadcasts)
    if checked:
        for name in operators.FUNCTIONS:
            rest = ("sanitize_overflow",) if name in ("add", "sub", "mul") else ()
            parameters = ("self", "input", "other", *rest)
            _replace(TritonSemantic, name, parameters, operators.remembered(name))
    _replace(
        TritonSemantic,
        "cast",
        ("self", "input", "dst_ty", "fp_downcast_rounding"),
        remembered.casts,
    )
    _replace(TritonSemantic, "expand_dims", ("self", "input", "axis"), remembered.expansions)
    _replace(_core.dtype, "__eq__", ("self", "other"), _identical_first)
    _replace(_core, "_unwrap_if_constexpr", ("o",), _plain_first)
    _replace(InterpreterBuilder, "create_splat", ("self", "ret_ty", "arg"), _splat_by_strides)
    _replace(
        InterpreterBuilder,
        "create_masked_load",
        ("self", "ptrs", "mask", "other", "cache_policy", "is_volatile"),
        _gathered,
    )
    _replace(TensorHandle, "__init__", ("self", "data", "dtype", "attr"), _quick_handles)
    _replace(
        GridExecutor,
        "_restore_args_dev",
        ("self", "args_dev", "args_hst", "kwargs", "kwargs_hst"),
        _restored_from_elsewhere,
    )


def _replace(
    owner: Any, name: str, parameters: Sequence[str], faster: Callable[[Any], Callable[..., Any]]
) -> None:
    """Put ``faster(original)`` in place of what has this name, if it is what is known."""
    found = getattr(owner, name, None)
    if found is not None and tuple(inspect.signature(found).parameters) == tuple(parameters):
        setattr(owner, name, functools.wraps(found)(faster(found)))


# The language


class _Nothing:
    """In place of what was redirected: it stays so."""

    def restore(self) -> None:
        """Nothing."""


def _redirected_once(redirect: Any) -> Callable[..., Any]:
    """The language leads to the interpreter from its first use on.

    The original does so for every call of a @triton.jit function, tl.sum included, and back again
    after each launch.
    """
    redirected: set[int] = set()
    done: dict[int, Any] = {}

    def faster(fn: Any) -> _Nothing:
        if done.get(id(fn)) is fn:
            return _Nothing()
        done[id(fn)] = fn  # which stays, and with it its id
        languages = {id(v) for v in fn.__globals__.values() if v is tl or v is _core}
        if not languages or not languages <= redirected:
            scope = redirect(fn)
            redirected.update(languages)
            for owner, name, before in getattr(scope, "_changes", ()):
                if hasattr(before, "__wrapped__") and _core.is_builtin(before):
                    called = None
                    if owner is _core.tensor:
                        called = operators.operator(name, interpreter.interpreter_semantic)
                    setattr(owner, name, called or _called(before.__wrapped__))
        return _Nothing()

    return faster


def _called(function: Any) -> Callable[..., Any]:
    """A builtin of the language, given the interpreter's semantics."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        kwargs["_semantic"] = interpreter.interpreter_semantic
        return function(*args, **kwargs)

    return called


# Values


def _identical_first(original: Any) -> Callable[..., Any]:
    return lambda self, other: self is other or original(self, other)


def _plain_first(original: Any) -> Callable[..., Any]:
    plain = {int, float, bool, str, type(None), tl.tensor, tl.dtype, tl.block_type, tl.pointer_type}
    constexpr = _core.constexpr

    def faster(o: Any) -> Any:
        kind = type(o)
        if kind is constexpr:
            return o.value
        return o if kind in plain else original(o)

    return faster


def _splat_by_strides(original: Any) -> Callable[..., Any]:
    """A scalar in every place of a block takes the memory of one."""

    def faster(self: Any, ret_ty: Any, arg: Any) -> Any:
        if arg.data.size != 1 or isinstance(arg.dtype, tl.block_type):
            return original(self, ret_ty, arg)
        value = arg.data.astype(interpreter._get_np_dtype(arg.dtype), copy=False).reshape(())
        return TensorHandle(np.broadcast_to(value, ret_ty.shape.values), arg.dtype.scalar)

    return faster


def _quick_handles(original: Any) -> Callable[..., Any]:
    pointer_type = tl.pointer_type

    def faster(self: Any, data: Any, dtype: Any, attr: Any = None) -> None:
        fits = isinstance(dtype, pointer_type) or data.itemsize * 8 <= max(
            8, dtype.primitive_bitwidth
        )
        if not fits:
            original(self, data, dtype)  # raises what tells so
        self.data, self.dtype, self.attr = data, dtype, {} if attr is None else attr

    return faster


# Memory


class _Memory:
    """``count`` elements from an address on, as numpy sees them; nothing is read."""

    def __init__(self, address: int, count: int, dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "data": (address, True),
            "shape": (count,),
            "typestr": dtype.str,
            "version": 3,
        }


def _gathered(original: Any) -> Callable[..., Any]:
    """Lanes are loaded by numpy, all at once; those that are masked off touch no memory."""

    def faster(
        self: Any, ptrs: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any
    ) -> Any:
        if ptrs.data.size < _FEW:
            return original(self, ptrs, mask, other, cache_policy, is_volatile)
        dtype = ptrs.get_element_ty()
        kept_as = interpreter._get_np_dtype(dtype)
        size = kept_as.itemsize
        active = np.broadcast_to(mask.data, ptrs.data.shape)
        every = bool(active.all())
        addresses = ptrs.data.ravel() if every else ptrs.data[active]
        loaded = np.empty(0, kept_as)
        if len(addresses):
            first = addresses.min()
            offsets = addresses - first
            if size > 1:
                if (offsets & np.uint64(size - 1)).any():
                    return original(self, ptrs, mask, other, cache_policy, is_volatile)
                offsets >>= np.uint64(size.bit_length() - 1)
            memory = np.asarray(_Memory(int(first), int(offsets.max()) + 1, kept_as))
            loaded = memory.take(offsets.view(np.int64))
        if every:
            return TensorHandle(loaded.reshape(ptrs.data.shape), dtype)
        data = np.zeros(ptrs.data.shape, kept_as)
        if other is not None:
            data[...] = other.data
        data[active] = loaded
        return TensorHandle(data, dtype)

    return faster


# Launches


def _restored_from_elsewhere(original: Any) -> Callable[..., Any]:
    """Operands on the CPU are the kernel's own: nothing is to be copied back to them."""

    def faster(self: Any, args_dev: Any, args_hst: Any, kwargs: Any, kwargs_hst: Any) -> None:
        arguments = [*args_dev, *kwargs.values()]
        if not all(_on_cpu(each) for each in arguments):
            original(self, args_dev, args_hst, kwargs, kwargs_hst)

    return faster


def _on_cpu(argument: Any) -> bool:
    if isinstance(argument, torch.Tensor):
        return argument.device.type == "cpu"
    return isinstance(argument, int | float | str | torch.dtype | None) or callable(argument)
