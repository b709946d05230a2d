"""What wrappers ask of a kernel beside launching it, given also where it is interpreted.

Libraries that generate kernels, or keep them in caches of their own, look for the ``JITFunction``
behind a decorator, and read its source and its parameters.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import triton
from triton.runtime import JITFunction, interpreter
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import KernelParam

from pytest_sparsity.checking.launched import Launched
from pytest_sparsity.checking.triton_internals import method
from pytest_sparsity.core.files import sha256_text

_GENERAL = ("do_not_specialize", "do_not_specialize_on_alignment")


def install() -> None:
    """Give functions what jitted ones have, those that are decorated from now on."""
    method(interpreter, "InterpretedFunction", "fn", "kwargs")
    method(KernelParam, "__init__", "self", "num", "param", *_GENERAL)
    interpreter.InterpretedFunction = _Jitted


class _Jitted(InterpretedFunction):  # type: ignore[misc]
    """An interpreted function that is a jitted one to whoever asks."""

    def __init__(self, fn: Any, **given: Any) -> None:
        super().__init__(fn, **given)
        self.__doc__, self.__module__ = fn.__doc__, fn.__module__
        self.__qualname__, self.__globals__ = fn.__qualname__, fn.__globals__
        # The interpreter refuses functions whose module has not imported it, needed or not.
        fn.__globals__.setdefault("_triton_language", triton.language)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What ``isinstance`` goes by where the type itself does not do."""
        return JITFunction

    @property
    def signature(self) -> inspect.Signature:
        """Of the function as it is written."""
        return inspect.signature(self.fn)

    @property
    def params(self) -> list[Any]:
        """One for each parameter; those not to specialize on are given by name or by number."""
        general = [self.kwargs.get(name) or () for name in _GENERAL]
        return [
            KernelParam(number, given, *(number in each or given.name in each for each in general))
            for number, given in enumerate(self.signature.parameters.values())
        ]

    @property
    def src(self) -> str:
        """The function's source without its decorators."""
        text = textwrap.dedent(inspect.getsource(self.fn))
        return text[text.index(f"def {self.fn.__name__}") :]

    @property
    def cache_key(self) -> str:
        """Identifies the source."""
        return sha256_text(self.fn.__module__, self.src)

    def warmup(self, *args: Any, grid: Any, **named: Any) -> Launched:
        """Compiled without a launch."""
        return Launched(lambda grid, *args: self[grid](*args))
