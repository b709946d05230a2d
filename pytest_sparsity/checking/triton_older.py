"""Repairs of what the interpreters of older Triton versions get wrong or lack, before 3.9.

Each does nothing where the version at hand does it right.
"""

from __future__ import annotations

import functools
from typing import Any

import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder

from pytest_sparsity.checking.triton_internals import method


def repair() -> None:
    """Bring the interpreter of this process to what that of Triton 3.9 can."""
    if not hasattr(InterpreterBuilder, "get_bf16"):  # up to 3.8: tl.full of bfloat16
        InterpreterBuilder.get_bf16 = _bfloat16_constant
    _index_scalars()


def _bfloat16_constant(self: Any, value: float) -> Any:
    return self.create_fp_trunc(self.get_fp32(value), tl.bfloat16)


def _index_scalars() -> None:
    """Let ``range(n)`` in a kernel work: up to 3.6 it takes int() of an array of one element.

    numpy warns of that since 1.25 and refuses it since 2.4.
    """
    patch = method(interpreter, "_patch_lang_tensor", "tensor")

    @functools.wraps(patch)
    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched
