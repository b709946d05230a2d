"""The machine with the device: its name, and commands that run there for a limited time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.signals import end_session


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        code: its exit code; None if it was stopped at its limit.
        output: what it printed on standard output and error.
    """

    code: int | None
    output: str


class Runner(Protocol):
    """A machine with a CUDA device, or what stands for one in tests."""

    @property
    def device(self) -> str:
        """The device's own name."""

    def find(self, program: str) -> str | None:
        """Where a program is, or None."""

    def run(self, words: Sequence[str], seconds: float, *, hidden: bool = False) -> Finished:
        """Run a command, and stop it after so many seconds.

        Args:
            words: the program and its arguments; the first one ``python`` is the one at hand.
            seconds: its limit.
            hidden: whether it shall find no device.
        """


class ThisMachine:
    """The machine at hand.

    Raises:
        SparsityError: it has no CUDA device.
    """

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise SparsityError(
                f"there is no CUDA device (torch {torch.__version__}): run this on a machine with "
                "one and a torch for CUDA, or use --plan to see what it would do"
            )
        self.device = torch.cuda.get_device_name()

    def find(self, program: str) -> str | None:
        """Where a program is, or None."""
        return shutil.which(program) or shutil.which(program, path="/usr/local/cuda/bin")

    def run(self, words: Sequence[str], seconds: float, *, hidden: bool = False) -> Finished:
        """Run a command in a group of processes of its own, and end all of them at the limit."""
        command = [sys.executable if word == "python" else word for word in words]
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if hidden else {})}
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            end_session(process)
            return Finished(None, process.communicate()[0])
        except BaseException:
            end_session(process)
            raise
        return Finished(process.returncode, output)
