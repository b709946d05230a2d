"""A definition run in a narrower dtype, as a simple kernel would."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.reference import operations
from pytest_sparsity.reference.interception import Interception


def narrowed(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Inside, float64 operations are done in another dtype, one by one; complex ones likewise."""
    return _Narrowed(dtype)


class _Narrowed(Interception):
    """See :func:`narrowed`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._narrow = {torch.float64: dtype}
        if dtype == torch.float32:
            self._narrow[torch.complex128] = torch.complex64
        self._wide = {after: before for before, after in self._narrow.items()}

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its result, computed in the other dtype."""
        if func._schema.name in operations.EXACT:
            return func(*args, **kwargs)
        narrow = _converted(args, self._narrow)
        named = {name: _converted(value, self._narrow) for name, value in kwargs.items()}
        result = _converted(func(*narrow, **named), self._wide)
        return args[0].copy_(result) if func._schema.is_mutable else result


def _converted(value: Any, dtypes: Mapping[torch.dtype, torch.dtype]) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtypes[value.dtype]) if value.dtype in dtypes else value
    if isinstance(value, list | tuple):
        return type(value)(_converted(each, dtypes) for each in value)
    return value
