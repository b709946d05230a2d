"""Kernels that must not end the run, each wrong in its own way; imported by workers only."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_sparsity.checking.guards import extent
from pytest_sparsity.kernels.registry import sparse_kernel
from pytest_sparsity.reference import operands


def registered(name: str, **declared: Any) -> Callable[[Any], Any]:
    return sparse_kernel(op="sparse_linear", backend="test", name=name, **declared)


@registered("right")
def right(x: Tensor, weight: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    rows = [
        weight[:, keep].float() @ row[keep].float()
        for row, keep in zip(x, operands.active(x, threshold), strict=True)
    ]
    out = torch.stack(rows)
    return (out if bias is None else out + bias.float()).to(x.dtype)


@registered("segfault")
def segfault(**given: Any) -> Tensor:
    if given["x"].shape[1] >= 3:
        print("last words")
        ctypes.string_at(0)
    return right(**given)


_calls = itertools.count(1)


@registered("segfault-late")
def segfault_late(**given: Any) -> Tensor:
    if next(_calls) == 5:
        ctypes.string_at(0)
    return right(**given)


@registered("loop")
def loop(**given: Any) -> Tensor:
    while True:
        time.sleep(0.01)


@registered("loop-in-c")
def loop_in_c(**given: Any) -> Tensor:
    if note := os.environ.get("MISBEHAVING_PROCESS"):
        Path(note).write_text(str(os.getpid()))
    # Keeps the interpreter's lock, as compiled code in an endless loop may.
    ctypes.PyDLL(None).sleep(1000)
    return right(**given)


@registered("exit")
def exit_process(**given: Any) -> Tensor:
    os._exit(3)


@registered("chatter")
def chatter(**given: Any) -> Tensor:
    print("x" * 2_000_000)
    sys.stderr.write("y" * 2_000_000)
    return right(**given)


@registered("endless-chatter")
def endless_chatter(**given: Any) -> Tensor:
    while True:
        print("z" * 100_000)


@registered("deaf")
def deaf(**given: Any) -> Tensor:
    os.closerange(0, 100)
    return right(**given)


@registered("reads-past")
def reads_past(**given: Any) -> Tensor:
    weight = given["weight"]
    # The value is not used: only an inaccessible page notices.
    ctypes.string_at(weight.data_ptr() + extent(weight) * weight.element_size(), 1)
    return right(**given)


@registered("writes-past")
def writes_past(**given: Any) -> Tensor:
    out = torch.empty_like(right(**given))
    ctypes.memset(out.data_ptr() + out.nbytes, 0, out.element_size())
    return out.copy_(right(**given))


@registered("reads-skipped")
def reads_skipped(**given: Any) -> Tensor:
    for channel in given["weight"].unbind(1):
        if channel.numel():
            ctypes.string_at(channel.data_ptr(), 1)
    return right(**given)


@registered("thread")
def thread(**given: Any) -> Tensor:
    if given["x"].shape[1] >= 3:
        threading.Thread(target=time.sleep, args=(1000,), name="endless", daemon=True).start()
    return right(**given)


@registered("joined-thread")
def joined_thread(**given: Any) -> Tensor:
    worker = threading.Thread(target=time.sleep, args=(0,))
    worker.start()
    worker.join()
    return right(**given)


@registered("closes-output")
def closes_output(**given: Any) -> Tensor:
    sys.stdout.close()
    return right(**given)


@registered("closes-descriptor")
def closes_descriptor(**given: Any) -> Tensor:
    os.close(1)
    return right(**given)


@registered("replaces-error")
def replaces_error(**given: Any) -> Tensor:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return right(**given)


@registered("leaves")
def leaves(**given: Any) -> Tensor:
    sys.exit("enough")


@registered("absent", unavailable=lambda: "no such hardware here")
def absent(**given: Any) -> Tensor:
    return right(**given)
