"""Kernels that compute an MLP over the neurons that a token keeps, for the steps of decoding.

Where a plan's selector of neurons decides before they are computed, a decoding step need not read
the weights of the others: the op ``hot_cold_mlp`` takes the list of those that are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pytest_sparsity.methods.decoding import AUTO, NONE, Exchanged, named, plain, usable
from pytest_sparsity.methods.neuron_mlp import KernelMlp, Mlp
from pytest_sparsity.methods.neuron_proof import agrees, proven
from pytest_sparsity.methods.neuron_trial import fastest
from pytest_sparsity.methods.plan import HIDDEN, INPUT, RESIDUAL, NeuronSelector, Plan
from pytest_sparsity.methods.positions import DenseRows
from pytest_sparsity.methods.reads import SelectorInputs
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.reference.hot_cold_mlp import HotColdMlpInputs
from pytest_sparsity.reference.ops import op_of

#: Told of every step of a layer: its ``down`` site, how many neurons it skipped, and of how many.
Count = Callable[[str, int, int], None]

_OP = op_of(HotColdMlpInputs).name


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
    if kernels == NONE:
        return []
    able = [down for down in able if _is_plain(down, sites, kernels)]
    if not able:
        return []
    weight = able[0].module.weight
    choice = usable(_OP, weight) if kernels == AUTO else [named(_OP, kernels, weight)]
    kinds: dict[tuple[object, ...], list[Mlp]] = {}
    for down in able if choice else ():
        if (mlp := proven(model, sites, down, plan, biases)) is not None:
            kinds.setdefault(mlp.kind, []).append(mlp)
    found = []
    for alike in kinds.values():
        kernel = fastest(model, alike, choice) if kernels == AUTO else choice[0]
        if kernel is not None:
            computed = (KernelMlp(mlp, kernel) for mlp in alike)
            found += [each for each in computed if agrees(each)]
    return found


def _decides_ahead(selector: NeuronSelector) -> bool:
    mask = getattr(selector, "mask", None)
    return selector.reads in (INPUT, RESIDUAL) or (selector.reads == HIDDEN and mask is not None)


def _is_plain(down: Site, sites: Mapping[str, Site], kernels: str) -> bool:
    """Whether all layers of the MLP of ``down`` are plain ones.

    Raises:
        SparsityError: a kernel was named, and one is none.
    """
    before = (sites.get(f"{down.layer}.{kind}") for kind in ("gate", "up", "gate_up"))
    own = [*(site for site in before if site is not None), down]
    return len(plain(own, kernels)) == len(own)
