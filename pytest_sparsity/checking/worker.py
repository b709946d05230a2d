"""The process in which kernels are checked: it may crash or hang without harm to the test run.

``python -m pytest_sparsity.checking.worker MODE CONNECTION BOARD PARENT`` is started by
``checking/pool.py`` and answers its requests until the connection ends.  Modes:

- ``native``: kernels run on the CPU as they are;
- ``emulate``: the same, and launches of CUDA C++ are emulated;
- ``interpret``: Triton kernels run in Triton's interpreter, which is chosen for the whole process
  by TRITON_INTERPRET, set by the parent before anything is imported;
- ``compile``: kernels are compiled and not run;
- ``device``: kernels run on a CUDA device.

Standard output belongs to the kernels and compilers; requests and answers have a socket of their
own.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.checking.messages import DEVICE_LOST, Board, Refusal, Request
from pytest_sparsity.core.errors import SparsityError

if TYPE_CHECKING:
    from pytest_sparsity.checking.case import Case
    from pytest_sparsity.checking.runner import CheckResult
    from pytest_sparsity.kernels.registry import Kernel


#: Files imported by path.
_executed: set[str] = set()


def main(arguments: Sequence[str]) -> None:
    """Answer requests until the parent closes the connection or ends."""
    mode = arguments[0]
    socket, board_file, parent = map(int, arguments[1:])
    _end_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable()
    # With this signal the parent asks where a hanging kernel is.
    faulthandler.register(signal.SIGUSR1)
    for descriptor in (socket, board_file):
        os.set_inheritable(descriptor, False)  # what a kernel starts must not hold them open
    connection = Connection(socket)
    board = Board(board_file)
    sys.path[:] = connection.recv()
    if mode == "interpret":
        from pytest_sparsity.checking import interpreter

        interpreter.install()
    if mode in ("compile", "emulate"):
        from pytest_sparsity.checking import pretended_cuda

        pretended_cuda.install(80)  # what the emulation defines __CUDA_ARCH__ as
    if mode == "compile" and importlib.util.find_spec("triton") is not None:
        from pytest_sparsity.checking import compilation

        compilation.install()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_answer(request, mode, board))


def find(request: Request) -> Kernel:
    """The kernel, after importing what registers it and nothing else.

    Raises:
        SparsityError: a module cannot be imported, or none registers this kernel.
    """
    from pytest_sparsity.checking import pretended_cuda
    from pytest_sparsity.kernels import registry

    with pretended_cuda.scope():
        for module in request.modules:
            if module.endswith(".py"):
                _load(Path(module).stem, module)
            else:
                _load(module, "")
        if request.op is not None:  # of others: registered before its kernel, wherever it stands
            _load(*request.op)
        if os.path.isfile(request.file):
            _load(request.module, request.file)
    try:
        return registry.kernel(request.kernel)
    except SparsityError as error:
        raise SparsityError(
            f"{request.kernel} is checked in a process of its own, and importing {request.file} "
            "there does not register it: use @sparse_kernel at the top level of a module, or "
            f"name the module that registers it ({error})"
        ) from error


def _answer(request: Request, mode: str, board: Board) -> CheckResult | Refusal:
    def begin(case: Case) -> None:
        if mode == "device":
            _end_if_lost()
        if mode == "interpret":
            from pytest_sparsity.checking import choices

            choices.choose(case.seed)
        board.write(str(case))

    try:
        from pytest_sparsity.checking import runner

        kernel = find(request)

        def run(case: Case | None) -> CheckResult:
            return runner.run(
                kernel,
                request.check,
                request.examples,
                request.seed,
                case=case,
                after=request.after,
                on_case=begin,
                device="cuda" if mode == "device" else "cpu",
                disposable=True,
            )

        result = run(request.case)
        if mode == "interpret" and result.status == "failed":
            from pytest_sparsity.checking import choices

            cause = choices.cause(lambda: run(result.case).status == "passed")
            if cause:
                result = replace(result, message=f"{cause}: {result.message}")
        return result
    except SparsityError as error:
        return Refusal(str(error), mendable=True)
    except Exception:
        return Refusal(traceback.format_exc(), mendable=False)


def _end_if_lost() -> None:
    """End the process, in the name of the case before, if that made the CUDA device fail.

    After an illegal access every call fails in this process, right kernels' too.
    """
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        print(error, flush=True)
        os._exit(DEVICE_LOST)


def _load(name: str, file: str) -> None:
    """Import the module that is called ``name`` in the parent and lies in ``file``, if given.

    Conftest files and test modules often cannot be imported by name: several are called
    ``conftest``, and pytest imports them by path.  So the name is used if it leads to the file.
    """
    file = file and os.path.realpath(file)
    try:
        if not file or _leads_to(name, file):
            import_module(name)
        elif file not in _executed:
            _execute(name if name not in sys.modules else f"{name}_{len(sys.modules)}", file)
            _executed.add(file)
    except Exception as error:
        raise SparsityError(
            f"{file or name} cannot be imported in the process that checks kernels: "
            f"{type(error).__name__}: {error}"
        ) from error


def _leads_to(name: str, file: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a parent is missing; __main__ has no spec
        return False
    if spec is None or spec.origin is None:
        return False
    return os.path.realpath(spec.origin) == file


def _execute(name: str, file: str) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _end_with(parent: int) -> None:
    """End this process when process ``parent`` ends, even if it is killed."""
    if sys.platform == "linux":
        # Also ends code that never gives the interpreter back.
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
