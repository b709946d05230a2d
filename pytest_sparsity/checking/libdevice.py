"""NVIDIA's libdevice in Triton's interpreter: its functions that numpy or torch has as well.

``triton.language.extra.libdevice`` is empty until a backend fills it, and the interpreter has none.
Here its functions are those of the CUDA backend, which choose a symbol of the library by the types
of the arguments, and refuse what the library has not; the symbol is then computed by its twin
(CUDA Toolkit, libdevice User's Guide).  Fast variants are as exact as the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton.language as tl
from triton.language import core
from triton.language.extra import cuda, libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from pytest_sparsity.checking.failure import CannotCheck
from pytest_sparsity.checking.triton_internals import method

Array = npt.NDArray[Any]
Twin = Callable[..., Any]


def install() -> None:
    """Give the interpreter of this process what a GPU has, or a reason to skip a case."""
    for name in ("builtin", "extern"):
        setattr(core, name, _with_semantic(getattr(core, name)))
    for module in (cuda, cuda.libdevice):
        for name, member in vars(module).copy().items():
            if core.is_builtin(member):
                setattr(module, name, _given_semantic(member))
                if module is cuda.libdevice and hasattr(libdevice, name):
                    setattr(libdevice, name, getattr(module, name))
    parameters = ("self", "libName", "libPath", "symbol", "argList", "retType")
    method(InterpreterBuilder, "create_extern_elementwise", *parameters)
    method(InterpreterBuilder, "create_inline_asm", "self", "inlineAsm")
    InterpreterBuilder.create_extern_elementwise = _elementwise
    InterpreterBuilder.create_inline_asm = _no_assembly
    # Programs run one after another.
    InterpreterBuilder.create_grid_dependency_wait = lambda self: None
    InterpreterBuilder.create_grid_dependency_launch_dependents = lambda self: None
    InterpreterBuilder.__getattr__ = _missing


def _with_semantic(decorator: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator of functions of Triton's language; what it makes can be called in a kernel."""
    return functools.wraps(decorator)(lambda function: _given_semantic(decorator(function)))


def _given_semantic(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def given(*args: Any, _semantic: Any = None, **kwargs: Any) -> Any:
        return function(*args, _semantic=_semantic or interpreter.interpreter_semantic, **kwargs)

    return given


def _elementwise(
    self: Any, library: str, path: str, symbol: str, operands: Any, result: Any, is_pure: bool
) -> TensorHandle:
    twin = _TWINS.get(symbol)
    if twin is None:
        raise CannotCheck(f"it calls {symbol}, which has no twin on a CPU")
    dtype = result.scalar
    values = np.broadcast_arrays(*(operand.data for operand in operands))
    computed = np.asarray(twin(*values))
    return TensorHandle(computed.astype(interpreter._get_np_dtype(dtype), copy=False), dtype)


def _no_assembly(self: Any, *args: Any) -> Any:
    raise CannotCheck("it has inline assembly (tl.inline_asm_elementwise), which only a GPU runs")


class _NotInterpreted(CannotCheck, AttributeError):
    """Triton's interpreter has not what a kernel uses."""


def _missing(self: Any, name: str) -> Any:
    if not name.startswith(("create_", "get_")):
        raise AttributeError(name)
    what = name.partition("_")[2].replace("_", " ")
    raise _NotInterpreted(f"it uses {what}, which Triton's interpreter has not")


def _by_torch(function: Callable[[torch.Tensor], torch.Tensor]) -> Twin:
    return lambda values: function(torch.from_numpy(np.ascontiguousarray(values))).numpy()


def _rounded(values: Array) -> Array:
    """To whole numbers, halves away from zero."""
    whole = np.trunc(values)
    away: Array = np.where(np.abs(values - whole) >= 0.5, whole + np.copysign(1, values), whole)
    return away


def _remainder(left: Array, right: Array) -> Array:
    """IEEE's: with the nearest quotient."""
    exact: Array = left - right * np.rint(left / right)
    return exact


def _fused(x: Array, y: Array, z: Array) -> Any:
    handles = (TensorHandle(np.ascontiguousarray(v), tl.float64) for v in (x, y, z))
    return interpreter.interpreter_builder.create_fma(*handles).data


_ANY: dict[str, Twin] = {
    **{name: getattr(np, name) for name in ("cos", "sin", "tan", "cosh", "sinh", "tanh", "exp2")},
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log2", "log10", "log1p")},
    **{name: getattr(np, name) for name in ("sqrt", "cbrt", "floor", "ceil", "trunc", "rint")},
    **{name: getattr(np, name) for name in ("hypot", "copysign", "nextafter", "fmod", "ldexp")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("acos", "asin", "atan", "atan2")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("acosh", "asinh", "atanh")},
    "fabs": np.abs,
    "pow": np.power,
    "powi": np.power,
    "scalbn": np.ldexp,
    "nearbyint": np.rint,
    "llrint": np.rint,
    "round": _rounded,
    "llround": _rounded,
    "remainder": _remainder,
    "fma": _fused,
    "exp10": lambda x: np.power(np.asarray(10, x.dtype), x),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "rcbrt": lambda x: 1 / np.cbrt(x),
    "rhypot": lambda x, y: 1 / np.hypot(x, y),
    "fdim": lambda x, y: np.where(x > y, x - y, np.where(np.isnan(x - y), x - y, 0)),
    "cospi": lambda x: np.cos(np.pi * np.fmod(x, 2)),
    "sinpi": lambda x: np.sin(np.pi * np.fmod(x, 2)),
    "erf": _by_torch(torch.special.erf),
    "erfc": _by_torch(torch.special.erfc),
    "erfcx": _by_torch(torch.special.erfcx),
    "erfinv": _by_torch(torch.special.erfinv),
    "normcdf": _by_torch(torch.special.ndtr),
    "normcdfinv": _by_torch(torch.special.ndtri),
    "lgamma": _by_torch(torch.special.gammaln),
    "cyl_bessel_i0": _by_torch(torch.special.i0),
    "cyl_bessel_i1": _by_torch(torch.special.i1),
    "j0": _by_torch(torch.special.bessel_j0),
    "j1": _by_torch(torch.special.bessel_j1),
}
_ARITHMETIC: dict[str, Twin] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "sqrt": np.sqrt,
    "rcp": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
_TESTS: dict[str, Twin] = {"isnan": np.isnan, "isinf": np.isinf, "signbit": np.signbit}
#: Of a symbol: computes it of numpy arrays.
_TWINS: dict[str, Twin] = {
    **{f"__nv_{name}{end}": twin for name, twin in _ANY.items() for end in ("", "f")},
    # Only rounding to nearest has a twin.
    **{f"__nv_{t}{name}_rn": f for name, f in _ARITHMETIC.items() for t in ("f", "d")},
    **{f"__nv_{name}{end}": twin for name, twin in _TESTS.items() for end in ("f", "d")},
    **dict.fromkeys(("__nv_finitef", "__nv_isfinited"), np.isfinite),
    **{
        f"__nv_fast_{name}f": _ANY[name]
        for name in ("cos", "sin", "tan", "exp", "exp10", "log", "log2", "log10", "pow")
    },
    "__nv_fast_fdividef": np.divide,
    **dict.fromkeys(("__nv_abs", "__nv_llabs"), np.abs),
    **dict.fromkeys(("__nv_popc", "__nv_popcll"), lambda x: np.bitwise_count(x)),
    "__nv_fma_rn": _fused,
    "__nv_fmaf_rn": _fused,
    "__nv_saturatef": lambda x: np.where(np.isnan(x), 0, np.clip(x, 0, 1)),
    "__nv_float_as_int": lambda x: x.view(np.int32),
    "__nv_float_as_uint": lambda x: x.view(np.uint32),
    "__nv_int_as_float": lambda x: x.view(np.float32),
    "__nv_uint_as_float": lambda x: x.view(np.float32),
    "__nv_int2float_rn": lambda x: x.astype(np.float32),
    "__nv_uint2float_rn": lambda x: x.astype(np.float32),
    "__nv_float2int_rz": lambda x: np.trunc(x),
    "__nv_float2int_rn": lambda x: np.rint(x),
}
