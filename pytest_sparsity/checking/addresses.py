"""Arguments of a launch that have an address and are no tensors: a GPU takes them as well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.failure import CannotCheck


def whole(name: str, value: Any) -> Tensor | None:
    """The memory that an argument points into, of its dtype; None if it is no such argument.

    Raises:
        CannotCheck: it is not known.
    """
    if isinstance(value, Tensor) or not hasattr(value, "data_ptr"):
        return None
    if isinstance(getattr(value, "base", None), Tensor):  # Triton's own, which it interprets
        return None
    find = getattr(value, "untyped_storage", None)
    storage = find() if find is not None else None
    if not isinstance(storage, torch.UntypedStorage):
        kind = type(value).__name__
        raise CannotCheck(f"its argument {name} is an address of no known memory ({kind})")
    with torch._C.DisableTorchFunction():
        return torch.empty(0, dtype=value.dtype).set_(storage)


def as_tensor(name: str, value: Any) -> Any:
    """What the interpreter takes for an argument: a tensor from its address on, if it has one."""
    memory = whole(name, value)
    if memory is None:
        return value
    with torch._C.DisableTorchFunction():
        return memory[(value.data_ptr() - memory.data_ptr()) // memory.element_size() :]
