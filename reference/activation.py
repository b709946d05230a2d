"""The activation functions of gated layers, in float64, and what evaluating them may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Activation:
    """A function, a bound of its second derivative (0 if monotone), and whether it needs exp."""

    function: Callable[[Tensor], Tensor]
    curvature: float
    exponential: bool


def _gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# Both second derivatives are largest at 0: 1/2 and sqrt(2/pi).
_TABLE: Mapping[str, _Activation] = {
    "silu": _Activation(lambda x: x * torch.sigmoid(x), 0.5, True),
    "gelu_tanh": _Activation(_gelu_tanh, math.sqrt(2 / math.pi), True),
    "relu": _Activation(torch.relu, 0.0, False),
    "relu2": _Activation(lambda x: torch.relu(x) ** 2, 0.0, False),
}
ACTIVATIONS: tuple[str, ...] = tuple(_TABLE)

#: Roundings that evaluating an activation may take, relative to its value and to its argument.
_EVALUATION = 16


def check_activation(name: str) -> None:
    """Raise ValueError unless ``name`` is one of :data:`ACTIVATIONS`."""
    if name not in _TABLE:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {name!r}")


def activate(name: str, x: Tensor) -> Tensor:
    """The activation of float64 ``x``, element by element; NaN stays NaN.

    silu: x / (1 + exp(-x)); gelu_tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    (Hendrycks and Gimpel, arXiv 1606.08415); relu: max(x, 0); relu2: max(x, 0)^2 (So et al.,
    Primer, arXiv 2109.08668).
    """
    return _TABLE[name].function(x)


def activation_error(name: str, x: Tensor, error: Tensor, accumulate: torch.dtype) -> Tensor:
    """How far a computed activation may be off if its argument is off by ``error``: float64.

    Within the interval x +- error a function is no further from its chord than curvature
    error^2 / 8, and a monotone one is extreme at the ends.  Evaluation adds 16 u |f(x)|, and
    16 u |x| where exponentials take part; and what underflow costs, but for zeros.
    """
    entry = _TABLE[name]
    value = entry.function(x)
    ends = [(entry.function(x + moved) - value).abs() for moved in (error, -error)]
    moved = torch.maximum(*ends) + entry.curvature * error**2 / 8
    info = torch.finfo(accumulate)
    size = value.abs() + (x.abs() if entry.exponential else 0.0)
    rounding = _EVALUATION * info.eps / 2 * size + info.smallest_normal
    return moved + torch.where(size == 0, 0.0, rounding)
