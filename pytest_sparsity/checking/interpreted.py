"""Tests or a program of others, run with kernels interpreted and a pretended CUDA device.

``python -m pytest_sparsity.checking.interpreted -m pytest tests/test_softmax.py`` runs what stands
behind ``interpreted`` as ``python`` would, in a process of its own: Triton kernels run in the
interpreter with its repairs and guards, and ``device="cuda"`` works without a GPU.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

_USAGE = "usage: python -m pytest_sparsity.checking.interpreted (-m MODULE | FILE) [ARGUMENT ...]"


def main(arguments: Sequence[str]) -> None:
    """Run a module or file in this process."""
    if not arguments or (arguments[0] == "-m" and len(arguments) < 2):
        raise SystemExit(_USAGE)
    if os.environ.get("TRITON_INTERPRET") != "1":  # it is chosen before Triton is imported
        os.environ["TRITON_INTERPRET"] = "1"
        command = [sys.executable, "-m", "pytest_sparsity.checking.interpreted", *arguments]
        os.execv(sys.executable, command)
    from pytest_sparsity.checking import interpreter, pretended_cuda

    interpreter.install()
    module = arguments[0] == "-m"
    sys.argv = list(arguments[1:] if module else arguments)
    with pretended_cuda.scope():
        if module:
            sys.path.insert(0, os.getcwd())
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
            runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
