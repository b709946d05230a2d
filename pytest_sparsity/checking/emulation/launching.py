"""One launch, emulated: from Python's arguments to what came of it."""

from __future__ import annotations

import ctypes
import numbers
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from pytest_sparsity.checking import pretended_cuda
from pytest_sparsity.checking.emulation import compiling
from pytest_sparsity.checking.guards import extent
from pytest_sparsity.checking.pretended_tensors import check_reachable
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.cuda.source import Launch, instead

_FAULT, _REFUSED = 1, 2
#: Elements from the first to the last of a tensor that is kept track of as a whole.
_FAR = 2**24


#: Elements from the first to the last of a tensor up to which gaps between its rows are told apart.
_MARKED = 1 << 24
#: There is one emulated machine in a process, and threads of Python may launch at once.
_one_at_a_time = threading.Lock()


class CudaFault(Exception):
    """A kernel does what a GPU would not forgive, or what another order of threads would show."""


class _Triple(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))


class _Argument(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("size", ctypes.c_int32), ("bits", ctypes.c_uint64))


class _Span(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("start", ctypes.c_uint64), ("stop", ctypes.c_uint64)),
        *(("elements", ctypes.c_void_p), ("counts", ctypes.c_void_p)),
        *(("element", ctypes.c_uint32), ("granule", ctypes.c_uint32)),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        *(("grid", _Triple), ("block", _Triple), ("shared", ctypes.c_uint32)),
        *(("schedule", ctypes.c_uint32), ("spans", ctypes.c_uint32)),
        *(("span", ctypes.POINTER(_Span)), ("atomics", ctypes.c_uint32)),
        *(("uninitialised", ctypes.c_uint32), ("place", ctypes.c_uint64)),
        *(("other", ctypes.c_uint64), ("message", ctypes.c_char * 1024)),
    )


@dataclass
class Watch:
    """What launches did to operands that are watched.

    Attributes:
        counts: of each operand by name: int32, loads of each element from the first to the last
            in memory; filled by the launches.
        launches: names of the kernels, in order.
        atomics: most atomic updates of one address in one launch.
    """

    counts: Mapping[str, tuple[Tensor, Any]]
    launches: list[str] = field(default_factory=list)
    atomics: int = 0


class _State:
    #: Which order comes next: forwards, backwards, then at random; see the engine.
    schedule = 0
    watch: Watch | None = None


def begin(seed: int) -> None:
    """Start anew with the orders in which threads and blocks are resumed."""
    _State.schedule = 3 * seed


@contextmanager
def emulating() -> Iterator[None]:
    """Inside, launches of CUDA kernels from source are emulated on the CPU."""
    with instead(_run):
        yield


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Inside, loads from operands are counted; threads are resumed in their order."""
    before, _State.watch = _State.watch, watch
    try:
        yield watch
    finally:
        _State.watch = before


def _run(launch: Launch) -> None:
    library = compiling.library(launch.source, launch.entry)
    names = _parameters(launch)
    arguments = (_Argument * max(len(launch.arguments), 1))()
    kept: list[Any] = []
    spans: dict[tuple[int, int], _Span] = {}
    for position, given in enumerate(launch.arguments):
        arguments[position] = _passed(given, f"{launch.entry}: argument {position + 1}", kept)
        if isinstance(given, Tensor) and given.numel():
            check_reachable([(names[position], given)], by="a GPU")
            for part in _parts(given):
                span = _span(part, names[position], kept)
                spans.setdefault((span.start, span.stop), span)
    given_spans = (_Span * max(len(spans), 1))(*spans.values())
    started = _Launch(
        grid=_Triple(*launch.grid), block=_Triple(*launch.block), shared=launch.shared,
        schedule=_schedule(), spans=len(spans), span=given_spans,
    )  # fmt: skip
    with _one_at_a_time:
        status = library.emulation_call(ctypes.byref(started), arguments, len(launch.arguments))
    message = started.message.decode(errors="replace")
    if status == _REFUSED:
        raise SparsityError(f"{launch.entry} {message}")
    if status == _FAULT:
        raise CudaFault(_told(launch, library, started, message))
    if _State.watch is not None:
        _State.watch.launches.append(launch.entry)
        _State.watch.atomics = max(_State.watch.atomics, started.atomics)


def _schedule() -> int:
    if _State.watch is not None:
        return 0
    number = _State.schedule
    _State.schedule += 1
    return number % 3 if number % 3 < 2 else 2 + number


def _passed(given: Any, what: str, kept: list[Any]) -> _Argument:
    pointer, integer, real, raw = range(4)
    if isinstance(given, Tensor):
        if given.device.type != "cpu" and not pretended_cuda.installed():
            raise ValueError(f"{what} is on {given.device}: kernels are emulated on the CPU")
        return _Argument(pointer, 8, given.data_ptr())
    if given is None:
        return _Argument(pointer, 8, 0)
    if isinstance(given, numbers.Integral):
        if not -(2**63) <= int(given) < 2**64:
            raise SparsityError(f"{what} is {given}, which no integer of 64 bits can hold")
        return _Argument(integer, 8, int(given) & (2**64 - 1))
    if isinstance(given, numbers.Real):
        return _Argument(real, 8, int(np.float64(given).view(np.uint64)))
    if isinstance(given, bytes | bytearray | ctypes.Structure):
        data = ctypes.create_string_buffer(bytes(given))
        kept.append(data)
        return _Argument(raw, len(bytes(given)), ctypes.addressof(data))
    raise SparsityError(
        f"{what} is {type(given).__name__}: give a tensor, a number, None, or the bytes of a struct"
    )


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor, or its rows, if there is mostly space between them that nobody is to touch."""
    if extent(tensor) <= max(_FAR, 64 * tensor.numel()):
        yield tensor
        return
    axis = max(range(tensor.ndim), key=tensor.stride)
    for row in tensor.unbind(axis):
        yield from _parts(row)


def _span(tensor: Tensor, name: str, kept: list[Any]) -> _Span:
    """The memory of a tensor: its elements; what lies between its rows may be read."""
    size = tensor.element_size()
    start, stop = tensor.data_ptr(), tensor.data_ptr() + extent(tensor) * size
    elements = counts = None
    if extent(tensor) <= _MARKED and not tensor.is_contiguous() and _has_gaps(tensor):
        each = np.zeros(extent(tensor), np.uint8)
        steps = tensor.stride()
        np.lib.stride_tricks.as_strided(each, tuple(tensor.shape), steps)[...] = 1
        flags = np.repeat(each, size)
        kept.append(flags)
        elements = flags.ctypes.data
    for watched, array in (_State.watch.counts if _State.watch else {}).values():
        if watched.numel() and watched.data_ptr() == start and len(array) == extent(tensor):
            counts = array.ctypes.data
    encoded = name.encode()
    kept.append(encoded)
    return _Span(encoded, start, stop, elements, counts, size, min(size, 8))


def _has_gaps(tensor: Tensor) -> bool:
    sizes = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(np.prod(sizes)) != extent(tensor)


def _parameters(launch: Launch) -> list[str]:
    """What arguments are called: the kernel's parameters, where they stand in the source."""
    found = _parameter_names(launch.source.text, launch.entry.partition("<")[0])
    count = len(launch.arguments)
    return list(found) if len(found) == count else [f"argument {i + 1}" for i in range(count)]


@cache
def _parameter_names(text: str, entry: str) -> tuple[str, ...]:
    found = re.search(rf"\b{re.escape(entry.rpartition(':')[2])}\s*\(([^()]*)\)\s*\{{", text)
    if found is None:
        return ()
    names = [re.search(r"(\w+)\s*(?:\[\s*\])?\s*$", each) for each in found[1].split(",")]
    return tuple(name[1] for name in names if name is not None)


def _told(launch: Launch, library: ctypes.CDLL, started: _Launch, message: str) -> str:
    """What is wrong, with the lines of the source where it is."""
    told = f"{launch.entry} {message}"
    if started.place:
        told += f" ({_line(library, started.place)}"
        if started.other:
            told += f"; the other in {_line(library, started.other)}"
        told += ")"
    return told


def _line(library: ctypes.CDLL, place: int) -> str:
    """File and line of an address in a library; of the source, not of the headers beside this."""
    command = ["addr2line", "-i", "-e", library._name, hex(place - 1)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "a line that addr2line would tell"
    frames = [line.split(" (")[0] for line in done.stdout.splitlines()]
    own = [frame for frame in frames if "emulation/include" not in frame] or frames
    file, _, line = own[0].rpartition(":")
    return f"{file.rpartition('/')[2]}, line {line}"
