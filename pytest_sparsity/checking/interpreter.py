"""Triton's interpreter as an instrument: repaired, guarded, and counting what kernels read.

For a process of its own: the interpreter must be chosen, by TRITON_INTERPRET=1 in the
environment, before Triton is imported, and then it serves every kernel of the process.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import (
    GridExecutor,
    InterpretedFunction,
)

from pytest_sparsity.checking import (
    accesses,
    addresses,
    bfloat16,
    block_pointers,
    choices,
    dots,
    jitted,
    libdevice,
    pretended_tensors,
    triton_internals,
    triton_older,
)
from pytest_sparsity.checking.elements import known
from pytest_sparsity.checking.haste import hasten
from pytest_sparsity.checking.launched import Launched, launched
from pytest_sparsity.checking.programs import Programs
from pytest_sparsity.checking.traffic import Launch, Traffic
from pytest_sparsity.checking.triton_internals import method
from pytest_sparsity.core.errors import SparsityError

#: Compute capability that wrappers are told when they ask.
_ARCH = 90


class _State:
    """What holds for the launches to come."""

    installed = False
    traffic: Traffic | None = None
    #: Threads launch one after another: where a launch is, the interpreter keeps in one place.
    lock = threading.RLock()


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
    triton_older.repair()
    hasten()  # before others replace the same
    bfloat16.repair()
    dots.repair(accesses.place)
    triton_internals.use_device(_ARCH)
    triton_internals.pin_autotuners(lambda configs: [configs[choices.configuration(len(configs))]])
    libdevice.install()
    jitted.install()
    block_pointers.install()
    accesses.guard()
    _guard_launches()
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
        names = [*self.arg_names, *["too many"] * len(args)]
        args = tuple(map(addresses.as_tensor, names, args))
        kwargs = {name: addresses.as_tensor(name, value) for name, value in kwargs.items()}
        with _State.lock:
            return run(self, tensors, args, kwargs)

    def run(self: Any, tensors: Sequence[tuple[str, Tensor]], args: Any, kwargs: Any) -> Launched:
        before = copy.copy(self)
        grid = self.grid  # a list is as good for a GPU
        self.grid = (lambda given: tuple(grid(given))) if callable(grid) else tuple(grid)
        operands = known() if _State.traffic is None else ()
        launch = Launch(_State.traffic, self.fn.__name__, tensors, operands)
        self.fn = Programs(self.fn, interpreter.interpreter_builder, choices.order)
        accesses.current = accesses.Current(launch, self.fn)
        try:
            # A device does not warn of NaN and overflow either.  The interpreter sees tensors where
            # they are, in the CPU's memory.
            with np.errstate(all="ignore"), torch._C.DisableTorchFunction():
                call(self, *args, **kwargs)
        finally:
            accesses.current = accesses.Current()
            vars(self).update(vars(before))  # it may be kept, and called again
        launch.finish()
        return launched(before)

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
    elif (memory := addresses.whole(name, value)) is not None:
        yield name, memory
