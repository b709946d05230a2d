"""The process in which kernels are timed: ``python worker.py SOCKET PARENT THREADS``.

It is started by its path, and stands alone: it also runs with the package of an old revision, in
which nothing of this folder exists.  It loads kernels and operands, takes one timed sample when it
is asked for one, and decides nothing; the other end is ``processes.py``.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import gc
import importlib.util
import itertools
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter as clock
from typing import Any

_WARM_UPS = 3
#: Launches per sample of what cannot be captured in a CUDA graph.
_LAUNCHES = 10

Call = Callable[[], object]


class ClockError(Exception):
    """The clock went backwards, or stood still."""


class Calls:
    """A contender on the CPU: calls that do the same on operands of their own.

    Args:
        calls: taken in turn, so that none finds its operands in a cache.
        flush: called before each call while the clock stands, if calls share their operands.
        wait: called at the end of a sample, for work that is still queued.
    """

    def __init__(
        self, calls: Sequence[Call], flush: Call | None = None, wait: Call | None = None
    ) -> None:
        self._next = itertools.cycle(calls)
        self._flush = flush
        self._wait = wait

    def warm_up(self) -> None:
        """Compile what is compiled on demand."""
        for _ in range(_WARM_UPS):
            next(self._next)()

    def sample(self, iterations: int) -> float:
        """Seconds of one call, as the mean of ``iterations``.

        One call before, untimed, wakes up code and clocks.

        Raises:
            ClockError: no time seems to have passed.
        """
        next(self._next)()
        if self._wait is not None:
            self._wait()
        with collector_off():
            elapsed = self._flushed(iterations) if self._flush else self._rotated(iterations)
        if not elapsed > 0:
            raise ClockError(f"the clock moved by {elapsed} s while {iterations} calls ran")
        return elapsed / iterations

    def _rotated(self, iterations: int) -> float:
        calls = list(itertools.islice(self._next, iterations))
        started = clock()
        for call in calls:
            call()
        if self._wait is not None:
            self._wait()
        return clock() - started

    def _flushed(self, iterations: int) -> float:
        elapsed = 0.0
        for call in itertools.islice(self._next, iterations):
            assert self._flush is not None
            self._flush()
            if self._wait is not None:
                self._wait()
            started = clock()
            call()
            if self._wait is not None:
                self._wait()
            elapsed += clock() - started
        return elapsed


class Replays:
    """A contender on a CUDA device: one replay of its graph, or some launches, after a flush."""

    def __init__(self, call: Call) -> None:
        import torch

        self._call = call
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self._cache = torch.empty(2 * properties.L2_cache_size, dtype=torch.int8, device="cuda")
        self._graph: Any = None

    def warm_up(self) -> None:
        """Compile, and capture the graph; what cannot be captured is launched."""
        import torch

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._call()
        except RuntimeError:  # it reads a number back, for example
            torch.cuda.synchronize()
        else:
            self._graph = graph

    def sample(self, iterations: int) -> float:
        """Seconds of one call, by events; ``iterations`` are for other contenders."""
        import torch

        _ = iterations
        count = _LAUNCHES if self._graph is None else 1
        run = self._call if self._graph is None else self._graph.replay
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with collector_off():
            self._cache.zero_()
            started.record()
            for _ in range(count):
                run()
            ended.record()
            ended.synchronize()
        return float(started.elapsed_time(ended)) / 1e3 / count


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Kernels:
    """The kernels of this process and the operands they are called with."""

    def __init__(self) -> None:
        self._contenders: dict[str, tuple[Callable[..., Any], Any]] = {}
        self._operands: list[Mapping[str, Any]] = []
        self._device = "cpu"

    def operands(self, operands: Mapping[str, Any], device: str, copies: int) -> None:
        """Take the operands, as many copies of them; forget all contenders."""
        import torch

        self._contenders.clear()
        self._operands.clear()
        self._device = device
        if device != "cpu":
            torch.cuda.set_device(device)
        for _ in range(copies):
            self._operands.append(_mapped(operands, lambda t: copy.deepcopy(t).to(device)))

    def contender(self, name: str, kernel: str, module: str, file: str) -> str:
        """Load a kernel, warm it up and call it ``name``; the file that registered it."""
        from pytest_sparsity.kernels import registry

        _load(module, file)
        found = registry.kernel(kernel)
        calls = [_bound(found.call, operands) for operands in self._operands]
        timed = Calls(calls) if self._device == "cpu" else Replays(calls[0])
        timed.warm_up()
        self._contenders[name] = (found.call, timed)
        return found.file

    def sample(self, name: str, iterations: int) -> float:
        """One timed sample."""
        seconds: float = self._contenders[name][1].sample(iterations)
        return seconds

    def output(self, name: str) -> Any:
        """What the kernel returns, on the CPU."""
        call = self._contenders[name][0]
        return call(**self._operands[0]).cpu()

    def static_metrics(self, name: str) -> dict[str, int]:
        """What a call allocates, and on a CUDA device how many kernels it launches."""
        call = _bound(self._contenders[name][0], self._operands[0])
        count, size, peak = allocations(call, _tensors(self._operands[0]))
        found = {"allocations": count, "allocated_bytes": size, "peak_bytes": peak}
        if self._device != "cpu" and (launched := launches(call)) is not None:
            found["launches"] = launched
        return found

    def instructions(self, name: str) -> dict[str, int]:
        """Instructions of a call of a native kernel; nothing if they cannot be counted."""
        try:
            from pytest_sparsity.speed.gate import instructions
        except ImportError:  # a revision from before
            return {}
        return instructions.metrics(_bound(self._contenders[name][0], self._operands[0]))

    def compiled(self, kernel: str, module: str, file: str) -> dict[str, int] | None:
        """Figures of what a compiler makes of the kernel; None if this package cannot tell."""
        try:
            from pytest_sparsity.checking import compilation
            from pytest_sparsity.speed.gate.compiled import figures
        except ImportError:  # a revision from before
            return None
        compilation.install()
        from pytest_sparsity.kernels import registry

        _load(module, file)
        found: dict[str, int] | None = figures(registry.kernel(kernel))
        return found


def allocations(call: Call, known: Sequence[Any]) -> tuple[int, int, int]:
    """How many tensors a call makes, their bytes, and the most bytes that live at once.

    Args:
        call: whose operations torch dispatches; what a library allocates inside of one is not seen.
        known: tensors that are there before.
    """
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.seen = {t.untyped_storage().data_ptr() for t in known}
            self.count = self.size = self.live = self.peak = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in _tensors(result):
                storage = tensor.untyped_storage()
                address, size = storage.data_ptr(), storage.nbytes()
                if size and address not in self.seen:
                    self.seen.add(address)
                    self.count, self.size = self.count + 1, self.size + size
                    self.live += size
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self.freed, address, size)
            return result

        def freed(self, address: int, size: int) -> None:
            self.seen.discard(address)
            self.live -= size

    with torch.no_grad(), Counting() as counted:
        call()
        return counted.count, counted.size, counted.peak


def launches(call: Call) -> int | None:
    """Kernels that a call launches on the CUDA device; None if they cannot be counted here."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize()
    except RuntimeError:
        return None
    on_device = [e for e in seen.events() or () if "CUDA" in str(e.device_type)]
    return len(on_device) or None


def serve(connection: Connection) -> None:
    """Answer requests (a method's name and its arguments) until the other end closes."""
    kernels = Kernels()
    while True:
        try:
            method, *arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            reply = ("done", getattr(kernels, method)(*arguments))
        except ClockError as error:
            reply = ("clock", str(error))
        except Exception as error:
            reply = ("raised", (f"{type(error).__name__}: {error}", traceback.format_exc()))
        # Not connection.send: torch would pass tensors through shared memory.
        connection.send_bytes(pickle.dumps(reply))


def main(arguments: Sequence[str]) -> None:
    """Serve the parent, and end with it."""
    socket, parent, threads = map(int, arguments)
    # The folder of this file is no place to import from.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".") != Path(__file__).parent]
    _end_with(parent)
    os.set_inheritable(socket, False)
    import torch

    torch.set_num_threads(threads)
    serve(Connection(socket))


def _bound(call: Callable[..., Any], operands: Mapping[str, Any]) -> Call:
    def run() -> object:
        return call(**operands)

    return run


def _tensors(value: Any) -> list[Any]:
    """Every tensor in operands, results, and packed weights (dataclasses of tensors)."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for inner in value.values() for t in _tensors(inner)]
    if isinstance(value, (list, tuple)):
        return [t for inner in value for t in _tensors(inner)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [t for f in dataclasses.fields(value) for t in _tensors(getattr(value, f.name))]
    return []


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: _mapped(getattr(value, f.name), change) for f in _fields(value)}
        return dataclasses.replace(value, **changes)
    return value


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(value)


def _load(module: str, file: str) -> None:
    """Import what registers a kernel: by its name if that leads to the file, else the file.

    Conftest files and test modules are imported by pytest by their paths, and share names.
    """
    wanted = os.path.realpath(file)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded is not None and os.path.realpath(loaded) == wanted:
        return
    spec = None
    with suppress(ImportError, ValueError):  # a parent is missing; __main__ has no spec
        spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin and os.path.realpath(spec.origin) == wanted:
        import_module(module)
        return
    name = module if module not in sys.modules else f"{module}_{len(sys.modules)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not os.path.isfile(file):
        raise ImportError(f"{file} is not a Python file")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def _end_with(parent: int) -> None:
    """End this process when process ``parent`` ends, even if that is killed."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL))
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
