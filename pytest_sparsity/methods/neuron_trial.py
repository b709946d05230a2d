"""With which kernel a model's MLPs are fastest, found by trying them in the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.methods.decoding import Exchanged
from pytest_sparsity.methods.neuron_mlp import KernelMlp, Mlp
from pytest_sparsity.methods.topk_mask import kept
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.forward import hidden_states

#: A trial takes so many seconds, and at least so many tokens of each contender.
_SECONDS, _TOKENS = 0.2, 3
#: What trials of this process found, by what they depend on.
_TRIED: dict[tuple[object, ...], Kernel | None] = {}
_LOCK = threading.Lock()


def fastest(model: LanguageModel, alike: Sequence[Mlp], kernels: Sequence[Kernel]) -> Kernel | None:
    """The kernel with which the model is fastest, in layers of one kind; None if masks are faster.

    Masks are what these layers run otherwise: the plan asks for one of the two, and the dense
    model is not among them.  A table of times as :mod:`~pytest_sparsity.kernels.dispatch` has it
    would not do: for small layers most of the time goes into the selector, of which there are any,
    and what they take of the processor's caches slows down the layers beside them.  So the model
    itself takes one token after the other, masked and with each kernel by turns, for a fifth of a
    second or three tokens of each, once per process.  Off the CPU nothing is tried, nor chosen.
    """
    able = [kernel for kernel in kernels if kernel.skips]
    if not able or model.device.type != "cpu":
        return None
    planned = *alike[0].kind, *(mlp.kept for mlp in alike)
    ids = tuple(kernel.id for kernel in able)
    key = type(model.model), len(model.sites), planned, ids, torch.get_num_threads()
    with _LOCK:  # two trials at a time would disturb each other
        if key not in _TRIED:
            masked, *sparse = _seconds(model, alike, able)
            best = min(range(len(able)), key=sparse.__getitem__)
            _TRIED[key] = able[best] if sparse[best] < masked else None
        return _TRIED[key]


def _seconds(model: LanguageModel, alike: Sequence[Mlp], kernels: Sequence[Kernel]) -> list[float]:
    """The median time of a token: of the masked model, then with each of the kernels.

    It is processor time of this thread, so that other processes do not count.
    """
    contenders = [[step for mlp in alike for step in _masked(mlp)]]
    contenders += [[_computed(KernelMlp(mlp, kernel)) for mlp in alike] for kernel in kernels]
    found: list[list[float]] = [[] for _ in contenders]
    token = torch.zeros(1, dtype=torch.int64)
    start = time.perf_counter()
    while len(found[-1]) <= _TOKENS or time.perf_counter() < start + _SECONDS:
        for steps, times in zip(contenders, found, strict=True):
            exchanged = Exchanged()
            for module, forward in steps:
                exchanged.put(module, forward)
            try:
                before = time.thread_time()
                hidden_states(model, token)
                times.append(time.thread_time() - before)
            finally:
                exchanged.give_back()
    return [median(times[1:]) for times in found]  # the first one compiles


#: A module, and what it runs in place of its own ``forward`` for the time of a trial.
_Step = tuple[nn.Module, Callable[[Tensor], Tensor]]


def _masked(mlp: Mlp) -> list[_Step]:
    """The masked MLP, to be timed; its selector is given x, of the shape of what it reads."""
    read: list[Tensor] = []
    dense, last = mlp.block.forward, mlp.last.forward

    def forward(x: Tensor) -> Tensor:
        read[:] = [x]
        result: Tensor = dense(x)
        return result

    def masked(h: Tensor) -> Tensor:
        by = h if mlp.fixed is not None else read[0]
        return last(kept(h, mlp.selector.keeps(by).expand(h.shape)))

    return [(mlp.block, forward), (mlp.last, masked)]


def _computed(each: KernelMlp) -> _Step:
    """A step to be timed, over as many neurons as the plan keeps on average."""
    neurons, channels = each.mlp.up.shape
    planned = torch.linspace(0, neurons - 1, each.mlp.kept).int()

    def forward(x: Tensor) -> Tensor:
        each.kept(x)
        return each(x.reshape(1, channels), planned).view(*x.shape[:-1], -1)

    return each.mlp.block, forward
