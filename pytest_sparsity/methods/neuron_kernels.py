"""Kernels that compute an MLP over the neurons that a token keeps, for the steps of decoding.

Where a plan's selector of neurons decides before they are computed, a decoding step need not read
the weights of the others: the op ``hot_cold_mlp`` takes the list of those that are kept.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.kernels.unchecked import unchecked
from pytest_sparsity.methods.decoding import AUTO, NONE, Exchanged, named, usable
from pytest_sparsity.methods.plan import HIDDEN, INPUT, RESIDUAL, NeuronSelector, Plan
from pytest_sparsity.methods.positions import DenseRows
from pytest_sparsity.methods.reads import SelectorInputs
from pytest_sparsity.methods.topk_mask import dropped_count, kept
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.reference.activation import ACTIVATIONS
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs, error_bound, hot_cold_mlp
from pytest_sparsity.reference.operands import DTYPES
from pytest_sparsity.reference.ops import op_of
from pytest_sparsity.reference.precision import Precision, output_bound, tolerance_used

#: Told of every step of a layer: its ``down`` site, how many neurons it skipped, and of how many.
Count = Callable[[str, int, int], None]

_OP = op_of(HotColdMlpInputs).name
#: What a proof looks at: so many rows, each a quarter as large as the one before, so that a
#: threshold anywhere near zero shows, and so many neurons.
_ROWS, _NEURONS = 8, 64

#: A trial takes so many seconds, and at least so many tokens of each contender.
_SECONDS, _TOKENS = 0.2, 3
#: What trials of this process found, by what they depend on.
_TRIED: dict[tuple[object, ...], Kernel | None] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class Mlp:
    """One layer's MLP, proven to be the op, and who decides about its neurons.

    Attributes:
        names: its sites, ``down`` last.
        block: the module that computes it, from one tensor.
        up: [I, K].
        gate: [I, K] or None.
        last: its ``down``, [N, I].
        bias: [N] or None, added to the result: ``down``'s own, or what a plan puts in its place.
        activation: one of ``reference.activation.ACTIVATIONS``.
        selector: of its neurons.
        fixed: bool [I] if they are the same at every token, else None.
        kept: how many neurons a token keeps, as the plan has it.
    """

    names: tuple[str, ...]
    block: nn.Module
    up: Tensor
    gate: Tensor | None
    last: nn.Linear
    bias: Tensor | None
    activation: str
    selector: NeuronSelector
    fixed: Tensor | None
    kept: int

    @property
    def down(self) -> Tensor:
        """The weight of ``last``, [N, I]."""
        return self.last.weight.detach()

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for layers of which one takes as long as another."""
        shapes = tuple(self.up.shape), self.gate is None, tuple(self.down.shape)
        own = self.selector
        decides = type(own), own.reads, getattr(own, "weights", 0), self.fixed is None
        return type(self.block), shapes, self.up.dtype, self.up.device, decides, self.activation

    @cached_property
    def columns(self) -> Tensor:
        """A copy of ``down`` whose columns are contiguous."""
        return self.down.t().contiguous().t()


class KernelMlp:
    """An MLP as a kernel for one row.

    Attributes:
        mlp: what it computes.
        kernel: with what.
    """

    def __init__(self, mlp: Mlp, kernel: Kernel) -> None:
        self.mlp = mlp
        self.kernel = kernel
        self.fixed = None if mlp.fixed is None else listed(mlp.fixed)
        self._call = unchecked(kernel)
        self._operands = {
            "up": mlp.up,
            "down": mlp.columns,
            "hot": 0,
            "activation": mlp.activation,
            "gate": mlp.gate,
        }

    def __call__(self, x: Tensor, kept: Tensor) -> Tensor:
        """[1, N] for x [1, K] over the neurons ``kept``, int32, ascending."""
        y = self._call(x=x, cold=kept, **self._operands)
        return y if self.mlp.bias is None else y.add_(self.mlp.bias)

    def kept(self, read: Tensor) -> Tensor:
        """The neurons that a token keeps, int32, from what the selector reads, [..., width]."""
        if self.fixed is not None:
            return self.fixed
        # Kernels do not check their operands: another number of neurons must not reach them.
        return listed(self.mlp.selector.keeps(read).reshape(self.mlp.up.shape[0]))


class KernelMlps:
    """MLPs that run kernels in decoding steps of one row, and are masked in all other passes.

    Args:
        dense: tells which forward passes are decoding steps.
        reads: gives what selectors read.
        count: told of every step.
    """

    def __init__(self, dense: DenseRows, reads: SelectorInputs, count: Count) -> None:
        self._dense = dense
        self._reads = reads
        self._count = count
        self._exchanged = Exchanged()

    def install(self, each: KernelMlp) -> None:
        """Exchange the ``forward`` of the module that computes it."""
        block = each.mlp.block
        self._exchanged.put(block, self._forward(each, block.forward))

    def remove(self) -> None:
        """Give the modules their own ``forward`` back."""
        self._exchanged.give_back()

    def _forward(self, each: KernelMlp, masked: Callable[..., Tensor]) -> Callable[..., Tensor]:
        dense, reads, count = self._dense, self._reads, self._count
        neurons, channels = each.mlp.up.shape
        dtype, down = each.mlp.up.dtype, each.mlp.names[-1]
        from_input = each.mlp.selector.reads == INPUT

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if (
                not dense.decoding
                or x.numel() != channels
                or x.requires_grad
                or x.dtype != dtype
                or args
                or kwargs
            ):
                return masked(x, *args, **kwargs)
            kept = each.kept(x if from_input else reads.take(down, x))
            count(down, neurons - len(kept), neurons)
            return each(x.reshape(1, channels), kept).view(*x.shape[:-1], -1)

        return forward


def kernel_mlps(
    model: LanguageModel, plan: Plan, kernels: str, biases: Mapping[str, Tensor]
) -> list[KernelMlp]:
    """Which MLPs run which kernel; those that are left out are masked in all passes.

    A layer can if its selector decides before the neurons are computed (``INPUT``, ``RESIDUAL``,
    or a fixed ``mask``), and one module is shown, on random rows, to compute what the op defines
    and nothing else: without biases of gate and up, without hooks inside it.

    Args:
        model: no hooks of the plan are on it.
        plan: its ``neurons``.
        kernels: ``"none"``, a name in the registry for every such layer, or ``"auto"``: the
            kernel that is fastest in a trial, if it beats the masked module.
        biases: by site, in place of the layer's own.

    Raises:
        SparsityError: there is no such kernel, or it cannot run here or on this model.
    """
    sites = {site.name: site for site in model.sites}
    able = [sites[down] for down, own in plan.neurons.items() if _decides_ahead(own)]
    if kernels == NONE or not able:
        return []
    weight = able[0].module.weight
    choice = usable(_OP, weight) if kernels == AUTO else [named(_OP, kernels, weight)]
    kinds: dict[tuple[object, ...], list[Mlp]] = {}
    for down in able if choice else ():
        if (mlp := _mlp(model, sites, down, plan, biases)) is not None:
            kinds.setdefault(mlp.kind, []).append(mlp)
    found = []
    for alike in kinds.values():
        kernel = fastest(model, alike, choice) if kernels == AUTO else choice[0]
        if kernel is not None:
            computed = (KernelMlp(mlp, kernel) for mlp in alike)
            found += [each for each in computed if _agrees(each)]
    return found


def listed(keep: Tensor) -> Tensor:
    """The places where ``keep`` [I] is true: int32, ascending."""
    if keep.device.type != "cpu":
        return keep.nonzero().squeeze(1).int()
    # A third of the time of torch's, which is as long as a small layer's kernel.
    return torch.from_numpy(numpy.flatnonzero(keep.numpy()).astype(numpy.int32))


# --- what can be computed so


def _decides_ahead(selector: NeuronSelector) -> bool:
    mask = getattr(selector, "mask", None)
    return selector.reads in (INPUT, RESIDUAL) or (selector.reads == HIDDEN and mask is not None)


def _mlp(
    model: LanguageModel,
    sites: Mapping[str, Site],
    down: Site,
    plan: Plan,
    biases: Mapping[str, Tensor],
) -> Mlp | None:
    """The MLP of a ``down`` site; None if a kernel would compute something else."""
    names = [f"{down.layer}.{kind}" for kind in ("gate", "up", "down")]
    own = {site.kind: site for name in names if (site := sites.get(name)) is not None}
    if "up" not in own:
        return None
    before = {site.name for kind, site in own.items() if kind != "down"}
    if before & (set(plan.selectors) | set(biases)):
        return None
    block = model.block_of(list(own.values()))
    if not _holds_only(block, [site.module for site in own.values()]):
        return None
    selector, neurons = plan.neurons[down.name], down.module.in_features
    mask = getattr(selector, "mask", None) if selector.reads == HIDDEN else None
    if selector.reads == HIDDEN and not _is_fixed(selector, mask, down.module):
        return None
    gate = own["gate"].module.weight.detach() if "gate" in own else None
    up = own["up"].module.weight.detach()
    activation = _activation(block, down.module, up, gate)
    if activation is None:
        return None
    return Mlp(
        names=tuple(site.name for site in own.values()),
        block=block,
        up=up,
        gate=gate,
        last=down.module,
        bias=biases.get(down.name, down.module.bias),
        activation=activation,
        selector=selector,
        fixed=mask,
        kept=neurons - dropped_count(plan.target(down.name), neurons),
    )


def _holds_only(block: nn.Module, layers: Sequence[nn.Linear]) -> bool:
    """Whether a module has these layers' parameters alone, and no hooks that a kernel passes by."""
    inside = [module for module in block.modules() if module is not block]
    if any(module._forward_hooks or module._forward_pre_hooks for module in inside):
        return False
    theirs = {id(parameter) for layer in layers for parameter in layer.parameters()}
    if {id(parameter) for parameter in block.parameters()} != theirs:
        return False
    weight = layers[0].weight
    if any((w.dtype, w.device) != (weight.dtype, weight.device) for w in block.parameters()):
        return False
    try:
        inspect.signature(block.forward).bind(weight)
    except TypeError:  # more than one tensor
        return False
    return weight.dtype in DTYPES


def _is_fixed(selector: NeuronSelector, mask: Any, down: nn.Linear) -> bool:
    """Whether a selector that reads the neurons keeps those of ``mask``, whatever they are."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 1:
        return False
    h = _random(3, down.in_features).to(down.weight)
    h[-1] = 0
    return mask.shape[0] == h.shape[1] and torch.equal(selector.keeps(h), mask.expand(h.shape))


def _activation(block: nn.Module, down: nn.Linear, up: Tensor, gate: Tensor | None) -> str | None:
    """The activation with which a module computes the op; None if there is none.

    It is found by comparing results over some random neurons, on rows of many sizes.
    """
    x, some = _probe(up)
    keep = torch.zeros(up.shape[0], dtype=torch.bool, device=x.device)
    keep[some.long()] = True

    def mask(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (torch.where(keep, args[0], 0),)

    handle = down.register_forward_pre_hook(mask)
    try:
        with torch.no_grad():
            found: Any = block.forward(x[None])
    finally:
        handle.remove()
    if not isinstance(found, Tensor) or found.shape != (1, _ROWS, down.out_features):
        return None
    own = Precision(x.dtype, torch.float32, x.dtype)
    columns = down.weight.detach()
    for activation in ACTIVATIONS:
        if _is_right(found[0], up, gate, columns, down.bias, activation, own):
            return activation
    return None


def _agrees(each: KernelMlp) -> bool:
    """Whether a kernel gives what the module does, over the same neurons and rows."""
    mlp = each.mlp
    x, some = _probe(mlp.up)
    found = torch.cat([each(row[None], some) for row in x])
    precision = each.kernel.precision(x.dtype)
    return _is_right(found, mlp.up, mlp.gate, mlp.down, mlp.bias, mlp.activation, precision)


def _probe(up: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [rows, K], and some neurons, int32, ascending: the same ones for the same shape."""
    x = _random(_ROWS, up.shape[1]) * 4.0 ** (1 - torch.arange(_ROWS))[:, None]
    lot = torch.Generator().manual_seed(1)
    some = torch.randperm(up.shape[0], generator=lot)[:_NEURONS].sort().values
    return x.to(up), some.to(up.device, torch.int32)


def _is_right(
    found: Tensor,
    up: Tensor,
    gate: Tensor | None,
    down: Tensor,
    bias: Tensor | None,
    activation: str,
    precision: Precision,
) -> bool:
    """Whether the result of a :func:`_probe` is within the op's error bound in all places."""
    x, some = _probe(up)
    # Weights of other neurons do not matter: those that were drawn are all that are left here.
    inputs = HotColdMlpInputs(
        x=x,
        up=up[some],
        down=down[:, some],
        hot=len(some),
        cold=some[:0],
        activation=activation,
        gate=None if gate is None else gate[some],
    )
    reference, bound = hot_cold_mlp(inputs), error_bound(inputs, precision)
    if bias is not None:
        reference = reference + bias.double()
        bound = bound + output_bound(reference, x.dtype)
    right = tolerance_used(found, reference, bound) <= 1
    return bool((right & bound.isfinite()).all())


def _random(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


# --- what is worth it


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
