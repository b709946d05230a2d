"""Operands as compiled functions take them, and whether there is a compiler."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: What stands for the dtypes of tensors in compiled functions, which know no 16 bit floats.
SAMPLES: dict[torch.dtype, Any] = {
    torch.float32: np.float32(0),
    torch.bfloat16: np.uint16(0),
    torch.float16: np.int16(0),
}


def unavailable() -> str | None:
    """Why kernels of this folder cannot run, or None if they can."""
    return None if find_spec("numba") else "numba is not installed: pip install numba"


def check_on_cpu(x: Tensor) -> None:
    """Raise ValueError unless ``x``, and so all operands, are in main memory."""
    if x.device.type != "cpu":
        raise ValueError(f"x must be on the CPU for kernels compiled by numba, not on {x.device}")


def located(vector: Tensor | None) -> tuple[int, int]:
    """Address and step of a vector; zeros for None."""
    return (0, 0) if vector is None else (vector.data_ptr(), vector.stride(0))
