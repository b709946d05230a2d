"""The activation functions of ``reference.activation``."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activate(x, NAME: tl.constexpr):
    if NAME == "silu":
        return x / (1.0 + tl.exp(-x))
    elif NAME == "gelu_tanh":
        # 0.5 (1 + tanh z) = 1 / (1 + exp(-2 z)); sqrt(8 / pi) = 1.5957691216057308
        return x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    else:
        positive = tl.where(x <= 0.0, 0.0, x)  # NaN stays; maximum() would drop it
        if NAME == "relu2":
            return positive * positive
        else:
            return positive
