"""What stands for the objects of ``torch.cuda`` where there is no device: all is done at once."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import torch

from pytest_sparsity.checking.failure import CannotCheck
from pytest_sparsity.checking.pretended_tensors import CUDA


class State:
    """Which device there is, by its compute capability, and the stream; none until installed."""

    arch = 0
    stream: Any = None


def checked(device: Any) -> int:
    """0, the number of the only device.

    Raises:
        RuntimeError: it is another, as CUDA has it.
    """
    if isinstance(device, str):
        device = torch.device(device)
    index = device.index if isinstance(device, torch.device) else device
    if index not in (None, 0, -1):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return 0


class Device:
    """``torch.cuda.device``, and ``device_of``: there is one."""

    def __init__(self, device: Any) -> None:
        checked(None if isinstance(device, torch.Tensor) else device)
        self.idx, self.prev_idx = 0, 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


class Stream:
    """``torch.cuda.Stream``: what is put in it is done at once."""

    cuda_stream = 0
    stream_id = 0
    device = CUDA
    device_index = 0
    priority = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._outer: Any = None

    def __enter__(self) -> Stream:
        self._outer, State.stream = State.stream, self
        return self

    def __exit__(self, *error: object) -> None:
        State.stream = self._outer

    def record_event(self, event: Any = None) -> Any:
        """The event, now."""
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        """Whether all is done."""
        return True

    def synchronize(self) -> None:
        """Wait for nothing."""

    wait_event = wait_stream = lambda self, other: None


class Event:
    """``torch.cuda.Event``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._time = time.perf_counter()

    def record(self, stream: Any = None) -> None:
        """Note the time."""
        self._time = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds."""
        return 1e3 * (end._time - self._time)

    def query(self) -> bool:
        """Whether it has come."""
        return True

    def synchronize(self) -> None:
        """Wait for nothing."""

    wait = record


class _Generators(type(torch.Generator)):  # type: ignore[misc]
    """All generators count as made by the class that replaces theirs."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, torch._C.Generator)


class Generator(torch.Generator, metaclass=_Generators):
    """``torch.Generator`` of either device, which draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        """One of the CPU, whatever is asked for."""
        return super().__new__(cls, device="cpu")  # type: ignore[call-arg]


class Graph:
    """``torch.cuda.CUDAGraph`` and what records one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise CannotCheck("it records a CUDA graph, which needs a GPU")


def stream_context(stream: Any) -> Any:
    """``torch.cuda.stream``: a stream enters itself, and none is entered for None."""
    return nullcontext() if stream is None else stream


def set_stream(stream: Any) -> None:
    """``torch.cuda.set_stream``."""
    State.stream = stream
