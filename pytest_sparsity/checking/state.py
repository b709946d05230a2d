"""The check ``state``: a kernel is right whatever was called before, with whose tensors, and where.

What a wrapper keeps between calls (a transposed weight, a plan, a workspace) must not outlive what
it was made of, and what belongs to the caller must be as it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_sparsity.checking import turns
from pytest_sparsity.checking.check import ordinary
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import Space
from pytest_sparsity.checking.trial import Tensors, Trial, exactly, same_bits
from pytest_sparsity.kernels.contract import REFUSALS
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands

#: Calls of each of two threads that run at once, of kernels that are compiled.
_AT_ONCE = 20


def cases(kernel: Kernel) -> Space:
    """Cases with something to do, also with several rows."""
    own = record(kernel.op)
    among = [p for p in ("random", "all", "alternating") if p in own.patterns]
    return ordinary(kernel, pattern=among or own.patterns, level=(0.0, 0.5))


def run(trial: Trial) -> float:
    """Right again: with operands that changed, with those of a model, and by two threads."""
    inputs = trial.inputs()
    first = _undisturbed(trial, inputs)
    used = trial.verify(inputs, first)
    for step in (_between, _in_place, _at_one_address, _of_a_model, _expanded, _by_two_threads):
        used = max(used, step(trial, first))
    return used


class _Shared(NamedTuple):
    """What belongs to all code of a process.

    Attributes:
        what: it is, in messages.
        read: gives it, comparable.
    """

    what: str
    read: Callable[[], Any]


_SHARED = (
    _Shared("torch's global random state", lambda: torch.get_rng_state().tolist()),
    _Shared("numpy's global random state", lambda: str(np.random.get_state())),
    _Shared("the random state of Python", random.getstate),
    _Shared("the number of torch's threads", torch.get_num_threads),
    _Shared("torch's default dtype", torch.get_default_dtype),
    _Shared("whether torch records gradients", torch.is_grad_enabled),
)
#: Whoever sets a seed sets another one than this.
_SEED = 741_776_029


def _undisturbed(trial: Trial, inputs: Any) -> Tensors:
    """The kernel's result, a copy, if it leaves alone what belongs to everybody.

    Raises:
        CheckFailure: as a call; or it changed something of that.
    """
    with _random_states_kept():
        before = [each.read() for each in _SHARED]
        output = trial.call(inputs)
        for each, value in zip(_SHARED, before, strict=True):
            if each.read() != value:
                raise CheckFailure(f"changed {each.what}")
    return tuple(each.detach().clone() for each in output)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Inside, all generators were seeded with something unusual; outside, they are as before."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(_SEED)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _between(trial: Trial, first: Tensors) -> float:
    """The same again, after a call with operands of another shape."""
    other = _of_another_shape(trial)
    if other is None:
        return 0.0
    inputs = other.inputs()
    used = other.verify(inputs, other.call(inputs), "is off after a call with other shapes")
    again = trial.inputs()
    when = "after a call with other shapes"
    return max(used, _judged(trial, again, trial.call(again), first, when))


def _of_another_shape(trial: Trial) -> Trial | None:
    """The trial of the nearest case that has other sizes; None if sizes are always the same."""
    own = record(trial.kernel.op)
    for name in ("n", "k"):
        if len(set(own.space.get(name, ()))) < 2:
            continue
        more = replace(trial.case, **{name: getattr(trial.case, name) + 1})
        case = own.taken(own.fitted(more), trial.kernel)
        if (case.n, case.k) != (trial.case.n, trial.case.k):
            return replace(trial, case=case)
    return None


def _in_place(trial: Trial, first: Tensors) -> float:
    """Weights are other ones, in the same tensors."""
    inputs = trial.inputs()
    trial.call(inputs)
    for name, tensor in _others(trial, inputs).items():
        operands.tensors(inputs)[name].copy_(tensor)
    return trial.verify(
        inputs, trial.call(inputs), "is off after its weights were changed in place"
    )


def _at_one_address(trial: Trial, first: Tensors) -> float:
    """Weights are other ones, in new tensors at the addresses of those that are gone."""
    if trial.device != "cpu":
        return 0.0  # memory of a device is not at hand
    inputs = trial.inputs()
    other = _others(trial, inputs)
    memory = {name: bytearray(_bytes(operands.tensors(inputs)[name])) for name in other}
    first_ones = {n: _in(memory[n], operands.tensors(inputs)[n]) for n in other}
    trial.call(operands.with_tensors(inputs, first_ones))
    del first_ones
    second = operands.with_tensors(inputs, {n: _in(memory[n], other[n]) for n in other})
    return trial.verify(
        second,
        trial.call(second),
        "is off with new weights at the address of others that are gone",
    )


def _others(trial: Trial, inputs: Any) -> Mapping[str, Tensor]:
    """Weights of other values, of those operands that then are as long as before.

    The leading operand stays: who looks at it alone would see that something changed.
    """
    leading = trial.kernel.definition.leading
    other = replace(trial, case=replace(trial.case, seed=trial.case.seed + 1)).inputs()
    mine, theirs = operands.tensors(inputs), operands.tensors(other)
    found = {
        name: theirs[name]
        for name, tensor in mine.items()
        if name != leading
        and tensor.numel()
        and 0 not in tensor.stride()
        and name in theirs
        and theirs[name].shape == tensor.shape
        and theirs[name].dtype == tensor.dtype
    }
    try:
        operands.with_tensors(inputs, found)
    except (TypeError, ValueError):  # some of them belong together
        return {}
    return found


def _bytes(tensor: Tensor) -> int:
    """From the first to the last element in memory, gaps included."""
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _in(memory: bytearray, tensor: Tensor) -> Tensor:
    """A copy of ``tensor``, its strides kept, in this memory."""
    flat = torch.frombuffer(memory, dtype=tensor.dtype)
    home = flat.as_strided(tensor.shape, tensor.stride())
    return home.copy_(tensor)


def _of_a_model(trial: Trial, first: Tensors) -> float:
    """Weights are parameters that require gradients, as those of a model that was not frozen."""
    inputs = trial.inputs()
    leading = trial.kernel.definition.leading
    parameters = {
        name: torch.nn.Parameter(tensor)
        for name, tensor in operands.tensors(inputs).items()
        if "." not in name and name != leading and tensor.is_floating_point()
    }
    output = trial.call(operands.with_tensors(inputs, parameters))
    output = tuple(each.detach() for each in output)
    return _judged(trial, inputs, output, first, "with weights that require gradients")


def _expanded(trial: Trial, first: Tensors) -> float:
    """All rows are one row, expanded: their stride is 0.  That may be refused."""
    inputs = trial.inputs()
    op = trial.kernel.definition
    lead = op.lead(inputs)
    if trial.case.rows < 2 or lead.shape[:1] != (trial.case.rows,):
        return 0.0
    try:
        expanded = operands.with_tensors(inputs, {op.leading: lead[:1].expand(lead.shape)})
    except (TypeError, ValueError):
        return 0.0  # the op has no such operands
    try:
        output = trial.call(expanded)
    except CheckFailure as finding:
        if isinstance(finding.__cause__, REFUSALS):
            return 0.0
        raise
    return trial.verify(expanded, output, f"is off with {op.leading} expanded to its rows")


def _by_two_threads(trial: Trial, first: Tensors) -> float:
    """Two threads call it with operands of their own, and each gets its own result."""
    other = replace(trial, case=replace(trial.case, seed=trial.case.seed + 1))
    trials, inputs = (trial, other), (trial.inputs(), other.inputs())
    alone = first, tuple(each.detach().clone() for each in other.call(inputs[1]))

    def call(index: int) -> Tensors:
        output = trials[index].call(inputs[index])
        return tuple(each.detach().clone() for each in output)

    results = [turns.taken(call)]
    if trial.device == "cpu" and trial.kernel.backend != "triton":
        results += turns.at_once(call, _AT_ONCE)
    used = 0.0
    for pair in results:
        for own, given, mine, wanted in zip(trials, inputs, pair, alone, strict=True):
            used = max(used, _judged(own, given, mine, wanted, "when two threads call it at once"))
    return used


def _judged(trial: Trial, inputs: Any, output: Tensors, first: Tensors, when: str) -> float:
    """Within the bound, and of kernels that are deterministic the bits of the first call."""
    used = trial.verify(inputs, output, f"is off {when}")
    if trial.kernel.deterministic and not same_bits(output, first):
        exactly(output, first, f"is declared deterministic and gives another result {when}")
    return used
