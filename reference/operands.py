"""What all ops ask of their operands, and a uniform view of the tensors among them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_sparsity.reference.decisions import exceeds
from pytest_sparsity.reference.precision import round_to

#: Rows of x that a decoding kernel takes: one token each of up to eight sequences.
MAX_ROWS = 8
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

I = TypeVar("I")  # noqa: E741


def check_activations(x: Tensor) -> None:
    """Raise ValueError unless ``x`` is [1 to 8 rows, K >= 1] of a dtype kernels compute in."""
    check_tensor("x", x, 2, DTYPES)
    if not 1 <= x.shape[0] <= MAX_ROWS:
        raise ValueError(f"x must have 1 to {MAX_ROWS} rows, not {x.shape[0]}")
    if x.shape[1] == 0:
        raise ValueError("x must have at least one channel")


def check_tensor(
    name: str, tensor: Tensor, dimensions: int, dtypes: tuple[torch.dtype, ...]
) -> None:
    """Raise TypeError or ValueError unless ``tensor`` is one of that many dimensions and dtypes."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if tensor.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not {tensor.ndim}")
    if tensor.dtype not in dtypes:
        known = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{name} must be {known}, not {str(tensor.dtype).removeprefix('torch.')}")


def check_like(name: str, tensor: Tensor, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``tensor`` has this shape, x's dtype, and is on x's device."""
    check_tensor(name, tensor, len(shape), (x.dtype,))
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}")
    check_device(name, tensor, x)


def check_weight(name: str, weight: Tensor, x: Tensor) -> None:
    """Raise ValueError unless ``weight`` is [outputs, channels of x], and otherwise like x."""
    check_tensor(name, weight, 2, (x.dtype,))
    check_like(name, weight, x, (weight.shape[0], x.shape[1]))


def check_channels(name: str, channels: int, x: Tensor) -> None:
    """Raise ValueError unless a packed weight has as many channels as ``x``."""
    if channels != x.shape[1]:
        raise ValueError(f"{name} must have {x.shape[1]} channels, as x has, not {channels}")


def check_bias(bias: Tensor | None, x: Tensor, outputs: int) -> None:
    """Raise ValueError unless ``bias`` is None, or [outputs] and otherwise like x."""
    if bias is not None:
        check_like("bias", bias, x, (outputs,))


def check_device(name: str, tensor: Tensor, x: Tensor) -> None:
    """Raise ValueError unless ``tensor`` is where ``x`` is."""
    if tensor.device != x.device:
        raise ValueError(f"{name} must be on {x.device}, where x is, not on {tensor.device}")


def check_step(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless numbers along the last dimension are next to each other."""
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(
            f"{name} must have stride 1 in its last dimension, not {tensor.stride(-1)}"
        )


def check_threshold(name: str, threshold: float, dtype: torch.dtype) -> None:
    """Raise ValueError unless ``threshold`` is finite, at least 0 and within ``dtype``'s range."""
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"{name} must be finite and at least 0, not {threshold}")
    if math.isinf(round_to(threshold, dtype)):
        raise ValueError(f"{name} {threshold} is beyond the range of {dtype}")


def check_indices(name: str, indices: Tensor, x: Tensor, start: int, stop: int) -> None:
    """Raise ValueError unless ``indices`` is int32 [count], ascending, within start:stop."""
    check_tensor(name, indices, 1, (torch.int32,))
    check_device(name, indices, x)
    if indices.numel() == 0:
        return
    if bool((indices[1:] <= indices[:-1]).any()):
        raise ValueError(f"{name} must be sorted and without repetition")
    if start >= stop:
        raise ValueError(
            f"{name} must be empty, since there are no numbers from {start} to {stop - 1}"
        )
    first, last = int(indices[0]), int(indices[-1])
    if first < start or last >= stop:
        outside = first if first < start else last
        raise ValueError(f"{name} must be from {start} to {stop - 1}, not {outside}")


def active(x: Tensor, threshold: float) -> Tensor:
    """Which channels take part: bool of x's shape, |x| > t in x's dtype; NaN takes part."""
    return exceeds(x.abs(), round_to(threshold, x.dtype))


def arguments(inputs: Any) -> dict[str, Any]:
    """The operands as keyword arguments of a kernel."""
    return {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}


def tensors(inputs: Any) -> dict[str, Tensor]:
    """Every tensor among the operands, packed ones by dotted names: ``weight.payload``."""
    found: dict[str, Tensor] = {}
    for name, value in arguments(inputs).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif dataclasses.is_dataclass(value):
            found |= {f"{name}.{inner}": tensor for inner, tensor in tensors(value).items()}
    return found


def with_tensors(inputs: I, new: Mapping[str, Tensor]) -> I:
    """The same operands with some tensors (by their names in :func:`tensors`) exchanged."""
    changes: dict[str, Any] = {}
    for name, value in arguments(inputs).items():
        inner = {key[len(name) + 1 :]: t for key, t in new.items() if key.startswith(f"{name}.")}
        if name in new:
            changes[name] = new[name]
        elif inner:
            changes[name] = with_tensors(value, inner)
    return dataclasses.replace(inputs, **changes)  # type: ignore[type-var]
