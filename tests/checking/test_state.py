"""The check ``state``: what kernels keep from call to call, share, or change for everybody."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pytest_sparsity.checking import api, turns
from pytest_sparsity.testing import KernelFailure, check_kernel

FILE = Path(__file__).with_name("stateful.py")


@pytest.fixture(autouse=True)
def _stateful_kernels(own_kernels: None) -> Iterator[None]:
    api._import(str(FILE))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stale-by-tensor", "is off after its weights were changed in place"),
        # Memory that is given out again may show it before: the message tells of that call then.
        ("stale-by-address", "is off"),
        ("plan-of-first-shape", "after a call with other shapes"),
        ("numpy-of-parameter", "raised RuntimeError: Can't call numpy() on Tensor that requires"),
        ("rows-by-stride", "is off with x expanded to its rows"),
        ("shared-workspace", "is off when two threads call it at once"),
        ("reseeds", "changed torch's global random state"),
        ("reseeds-numpy", "changed numpy's global random state"),
        ("reseeds-python", "changed the random state of Python"),
        ("sets-threads", "changed the number of torch's threads"),
    ],
)
def test_finds(name: str, message: str) -> None:
    with pytest.raises(KernelFailure, match=re.escape(message)):
        check_kernel(f"sparse_linear/{name}", "state", processes=False)


@pytest.mark.parametrize("name", ["checked-cache", "locked-workspace", "refuses-stride-0"])
def test_what_is_kept_rightly_passes(name: str) -> None:
    (outcome,) = check_kernel(f"sparse_linear/{name}", "state", processes=False).outcomes
    assert outcome.status == "passed"
    assert outcome.examples == 8


def test_two_threads_take_turns_at_every_line() -> None:
    seen: list[tuple[int, str]] = []

    def call(index: int) -> int:
        seen.append((index, "one"))
        seen.append((index, "two"))
        seen.append((index, "three"))
        return index * 10

    assert turns.taken(call) == (0, 10)
    assert seen == [(i, step) for step in ("one", "two", "three") for i in (0, 1)]


def test_a_lock_is_no_dead_end() -> None:
    lock, inside = threading.Lock(), []

    def call(index: int) -> None:
        with lock:
            inside.append(index)
            assert len(inside) == 1
            inside.remove(index)

    turns.taken(call)


@pytest.mark.parametrize("way", [turns.taken, lambda call: turns.at_once(call, 3)])
def test_what_one_thread_raises_is_raised(way: object) -> None:
    def call(index: int) -> None:
        if index == 1:
            raise ValueError("of the second")

    with pytest.raises(ValueError, match="of the second"):
        way(call)  # type: ignore[operator]


def test_at_once_gives_the_results_of_both() -> None:
    assert turns.at_once(lambda index: index + 1, 3) == [(1, 2)] * 3
