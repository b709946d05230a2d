"""The parent's side of ``worker.py``: kernels may crash, hang or chatter, and the run goes on."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Sequence
from types import TracebackType

import torch

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.dependence import after_others
from pytest_sparsity.checking.messages import Refusal, Request
from pytest_sparsity.checking.process import Death, Worker
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.runner import CheckResult
from pytest_sparsity.checking.shrinking import simpler_cases, simplest_death
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel

#: Seconds without a new case after which a native kernel hangs, and until the first case, since
#: kernels are imported and compiled before.
CASE_LIMIT = 60.0
FIRST_LIMIT = 120.0
#: How much longer a case may take where Python interprets it, or a compiler runs.
_PATIENCE = 4

#: Checks of one mode, with or without a CUDA device.
_MODES = {"compile": "compile"}
#: What a crash means in a check that provokes it.
_MEANING = {
    "far": "its offsets into weights have less than 64 bits",
    "bounds": "it touched memory outside of an operand",
    "unread": "it read weights of a skipped channel",
}


class Pool:
    """Worker processes, one per mode, started when they are needed.

    Not for several threads at once.  Workers are ended by :meth:`close`, and in any case with
    this process, however it ends.
    """

    def __init__(self, case_limit: float = CASE_LIMIT, first_limit: float = FIRST_LIMIT) -> None:
        self._first_limit = first_limit
        self._case_limit = case_limit
        self._workers: dict[str, Worker] = {}

    def run_check(
        self,
        kernel: Kernel,
        check: str,
        examples: int,
        seed: int,
        case: Case | None = None,
        modules: Sequence[str] = (),
        after: Sequence[Case] = (),
    ) -> CheckResult:
        """Check ``kernel`` in a process of its own.

        Args:
            kernel: as registered; the module that registered it is imported there.
            check: name of the check.
            examples: how many cases.
            seed: of their drawing.
            case: check this case only.
            modules: files or dotted names of modules to import before.
            after: cases to run before ``case``, whatever comes of them.

        Raises:
            SparsityError: the kernel's module cannot be imported there.
        """
        began = time.perf_counter()
        request = Request(
            *(kernel.id, kernel.module, kernel.file, tuple(modules), check, examples, seed, case),
            after=tuple(after),
        )
        outcome = self._checked(kernel, request)
        return dataclasses.replace(outcome, seconds=time.perf_counter() - began)

    def _checked(self, kernel: Kernel, request: Request) -> CheckResult:
        mode = mode_of(kernel, request.check)
        missing = _missing(kernel, mode)
        if missing:
            return CheckResult(kernel.id, request.check, "skipped", missing)
        if (op := kernel.definition).file:
            request = dataclasses.replace(request, op=(op.module, op.file))
        reply = self._ask(mode, request)
        if isinstance(reply, Refusal):
            if reply.mendable:
                raise SparsityError(reply.message)
            raise RuntimeError(f"in the process that checks {kernel.id}:\n{reply.message}")
        if isinstance(reply, Death):
            search = request.case is None and reply.case is not None and not reply.hung
            found = self._shrunk(mode, kernel, request, reply) if search else reply
            return _failure(request, reply, found)
        if reply.status != "failed":
            return reply
        self._end(mode)  # what a wrong kernel left there, as an error of a device, may stay
        return reply if request.case is not None else self._explained(mode, request, reply)

    def close(self) -> None:
        """End all workers; a later check starts new ones."""
        for mode in list(self._workers):
            self._end(mode)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, mode: str, request: Request) -> CheckResult | Refusal | Death:
        worker = self._worker(mode)
        try:
            reply = worker.ask(request, self._limits(mode))
        except BaseException:  # Ctrl-C: what the worker says later would answer the next request
            self._end(mode)
            raise
        if isinstance(reply, Death):
            self._end(mode)
        return reply

    def _limits(self, mode: str) -> tuple[float, float]:
        later = self._case_limit * (1 if mode == "native" else _PATIENCE)
        return max(self._first_limit, later), later

    def _shrunk(self, mode: str, kernel: Kernel, request: Request, death: Death) -> Death | None:
        """The same death in the simplest case that is found; None if that case is not enough."""

        def attempt(case: Case) -> Death | None:
            reply = self._ask(mode, dataclasses.replace(request, case=case))
            return reply if isinstance(reply, Death) else None

        simpler = simpler_cases(record(kernel.op), kernel, request.check)
        return simplest_death(death, attempt, simpler)

    def _explained(self, mode: str, request: Request, found: CheckResult) -> CheckResult:
        """A failure, with the cases that must run before it, if it is none by itself."""

        def fails(case: Case, after: Sequence[Case]) -> CheckResult | None:
            if mode in self._workers:
                self._end(mode)  # a case that passed there may have left something, too
            fresh = dataclasses.replace(request, case=case, after=tuple(after))
            reply = self._ask(mode, fresh)
            if not isinstance(reply, CheckResult) or reply.status != "failed":
                return None
            self._end(mode)
            return reply

        assert found.case is not None
        if not found.begun[:-1] or fails(found.case, ()):
            return found
        return after_others(found, fails)

    def _worker(self, mode: str) -> Worker:
        if mode in self._workers and not self._workers[mode].alive:
            self._end(mode)  # it was killed while it had nothing to do
        if mode not in self._workers:
            self._workers[mode] = Worker(mode)
        return self._workers[mode]

    def _end(self, mode: str) -> None:
        self._workers.pop(mode).close()


def mode_of(kernel: Kernel, check: str) -> str:
    """In which mode of worker ``kernel`` goes through ``check``."""
    if check in _MODES:
        return _MODES[check]
    if check == "work":  # it counts, which a device does not
        return "interpret" if kernel.source is None else "emulate"
    if kernel.backend == "triton":
        return "device" if torch.cuda.is_available() else "interpret"
    if kernel.source is not None:
        return "device" if torch.cuda.is_available() else "emulate"
    return "device" if kernel.backend == "cuda" else "native"


def _missing(kernel: Kernel, mode: str) -> str | None:
    if kernel.backend == "triton" and importlib.util.find_spec("triton") is None:
        return "triton is not installed, or there is no wheel of it for this platform"
    if mode == "device" and not torch.cuda.is_available():
        return "there is no CUDA device"
    return None


def _failure(request: Request, first: Death, shrunk: Death | None) -> CheckResult:
    death = shrunk or first
    message = death.reason
    if request.check in _MEANING and message.endswith(("SIGSEGV", "SIGBUS")):
        message += f": {_MEANING[request.check]}"
    if death.case is None:
        message += ", before its first case"
    elif not shrunk:
        message += ", though not when the process does this case only"
    if death.output:
        message += f"\nIt printed last:\n{death.output}"
    return CheckResult(request.kernel, request.check, "failed", message, death.case, first.begun)
