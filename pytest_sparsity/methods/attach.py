"""Puts a plan on a model and takes it off again, leaving the model bit-identical."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.decoding import NONE, Joined, KernelLayers, Mask, join
from pytest_sparsity.methods.neuron_kernels import KernelMlps, kernel_mlps
from pytest_sparsity.methods.plan import NeuronSelector, Plan, Selector
from pytest_sparsity.methods.positions import DenseRows
from pytest_sparsity.methods.reads import SelectorInputs
from pytest_sparsity.methods.topk_mask import kept
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.packing import packing
from pytest_sparsity.models.plain_layers import difference, shape_of

_MARK = "_pytest_sparsity_attached"


class AchievedSparsity:
    """Counts what is skipped per site, over the positions that were sparsified.

    Args:
        sites: all sites of the model, whose weights are what a fraction is taken of.
        counted: names of the sites that are counted; None for all.
        deciding: weights that are read for every token to decide what is skipped.
    """

    def __init__(
        self, sites: Iterable[Site], counted: Iterable[str] | None = None, deciding: int = 0
    ) -> None:
        self._deciding = deciding
        self._sites = {site.name: site for site in sites}
        self._weights = {name: math.prod(shape_of(s.module)) for name, s in self._sites.items()}
        self._uneven = not all(site.even for site in self._sites.values())
        self._counted = tuple(self._weights if counted is None else counted)
        self._counts = dict.fromkeys(self._counted, (0, 0))
        self._lock = threading.Lock()

    def add(self, site: str, zeroed: int, seen: int) -> None:
        """Add what one forward pass did at ``site``."""
        with self._lock:
            zeroed_before, seen_before = self._counts[site]
            self._counts[site] = (zeroed_before + zeroed, seen_before + seen)

    def reset(self) -> None:
        """Start counting anew."""
        self._counts = dict.fromkeys(self._counted, (0, 0))

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Site to (zeroed, seen) activations, or neurons where a site's rows are skipped."""
        return dict(self._counts)

    @property
    def weighted(self) -> float:
        """Fraction of the weights that a token reads that is skipped: :func:`weighted_sparsity`."""
        return weighted_sparsity(self._counts, self.weights)

    @property
    def net(self) -> float:
        """The same less what deciding reads itself, as of predictors of neurons."""
        return self.weighted - self._deciding / sum(self.weights.values())

    @property
    def deciding(self) -> int:
        """How many weights are read for every token to decide what is skipped."""
        return self._deciding

    @property
    def weights(self) -> dict[str, float]:
        """Site to the number of its weights that a token reads, see :meth:`weights_of`."""
        return self.weights_of(self._counts)

    def weights_of(self, counts: Mapping[str, tuple[int, int]]) -> dict[str, float]:
        """Site to the number of its weights that a token reads, of all sites of the model.

        That is all of them, but an expert's count as often as tokens came to it, and those of a
        layer that stands in several places as often as it was run; where that was not counted,
        as the architecture says.

        Args:
            counts: site to (zeroed, seen) activations.
        """
        if not self._uneven:
            return dict(self._weights)
        rows = {
            name: counts[name][1] / site.module.in_features
            for name, site in self._sites.items()
            if name in counts
        }
        # A site that every token comes to once tells how many tokens there were.
        even = [rows[n] for n, s in self._sites.items() if n in rows and s.even]
        tokens = max(even, default=0.0)
        return {
            name: self._weights[name]
            * (rows[name] / tokens if name in rows and tokens else site.share * site.places)
            for name, site in self._sites.items()
        }


def weighted_sparsity(counts: Mapping[str, tuple[int, int]], weights: Mapping[str, float]) -> float:
    """Fraction of a model's weights skipped: its sites' fractions, weighted by true shapes.

    Args:
        counts: site to (skipped, seen) input channels or neurons; other sites skip nothing.
        weights: site to the number of its weights that a token reads, for all sites of the model.

    Raises:
        ValueError: a site that has some has seen nothing.
    """
    if not all(seen for site, (_, seen) in counts.items() if weights[site]):
        raise ValueError("no activation was counted: set counting = True and run the model")
    skipped = math.fsum(
        weights[site] * zeros / seen for site, (zeros, seen) in counts.items() if seen
    )
    return skipped / sum(weights.values())


def count_zeroed(sparse: torch.Tensor, dense_rows: torch.Tensor | None = None) -> tuple[int, int]:
    """(zeroed, seen) activations of S(x), [..., K], leaving out its rows ``dense_rows`` [R]."""
    kept, seen = _nonzero(sparse), sparse.numel()
    if dense_rows is not None:
        left_out = sparse.reshape(-1, sparse.shape[-1])[dense_rows]
        kept, seen = kept - _nonzero(left_out), seen - left_out.numel()
    return seen - kept, seen


def _nonzero(x: torch.Tensor) -> int:
    if x.element_size() == 2:
        # torch counts 16-bit floats one by one; as integers, without their sign, it takes
        # a twentieth of the time.
        return int(torch.count_nonzero(x.view(torch.int16) & 0x7FFF))
    return int(torch.count_nonzero(x))


class _Shared(threading.local):
    """The last sparsified input, per thread: q, k and v (gate and up) read the same one."""

    source: torch.Tensor | None = None
    selector: Selector | None = None
    result: torch.Tensor | None = None
    counted: tuple[int, int] | None = None


class Attached:
    """A plan on a model, until :meth:`detach` or the end of the ``with`` block.

    Attributes:
        plan: what is attached.
        counting: whether zeroed activations are counted, which costs one more pass over
            the activations; off at first.
        achieved: the counts.
        kernels: site to the name of the kernel that computes its decoding steps; sites that
            are masked in all passes are not in it.
    """

    plan: Plan
    counting: bool
    achieved: AchievedSparsity
    kernels: dict[str, str]

    def __init__(self, model: LanguageModel, plan: Plan, kernels: str = NONE) -> None:
        packing(model)  # found out of the dense model, before anything is attached
        decoder = model.decoder
        if hasattr(decoder, _MARK):
            raise ValueError(f"{model.name} has a plan attached already; detach it first")
        by_name = {site.name: site for site in model.sites}
        named = {*plan.sparse_sites, *plan.skipped_sites, *plan.bias}
        if unknown := sorted(named - set(by_name)):
            raise ValueError(f"the plan names sites that {model.name} lacks: {unknown[:3]}")
        if twice := sorted(set(plan.selectors) & set(plan.neurons)):
            raise ValueError(f"the plan has two selectors for the same sites: {twice[:3]}")
        for name, constant in plan.bias.items():
            _check_bias(by_name[name], constant, model.name)
        model.check_unchanged()
        plain = [name for name in plan.bias if difference(by_name[name].module) is None]
        folded = {name: _folded(by_name[name].module, plan.bias[name]) for name in plain}
        planned = [site for site in model.sites if site.name in plan.selectors]
        joined = join(planned, plan, kernels, folded)
        mlps = kernel_mlps(model, plan, kernels, folded)

        self.plan = plan
        self.counting = False
        self.achieved = AchievedSparsity(model.sites, plan.skipped_sites, plan.deciding_weights)
        self.kernels = {name: each.kernel.name for each in joined for name in each.names}
        self.kernels |= {name: each.kernel.name for each in mlps for name in each.mlp.names}
        self._decoder = decoder
        self._dense = DenseRows(decoder, plan.prefill)
        self._shared = _Shared()
        self._layers = KernelLayers(self._dense, self._count)
        self._reads = SelectorInputs(model, plan.neurons)
        self._mlps = KernelMlps(self._dense, self._reads, self._count_neurons)
        self._handles = [
            decoder.register_forward_pre_hook(self._dense.begin, with_kwargs=True),
            decoder.register_forward_hook(self._forget, always_call=True),
        ]
        masks = {name: self._mask(name, selector) for name, selector in plan.selectors.items()}
        for name, mask in masks.items():
            if name not in self.kernels:
                hook = _hook(mask)
                self._handles.append(by_name[name].module.register_forward_pre_hook(hook))
        for name, neurons in plan.neurons.items():
            hook = _hook(self._neuron_mask(name, neurons))
            self._handles.append(by_name[name].module.register_forward_pre_hook(hook))
        for each in joined:
            self._layers.install(each, [(by_name[n].module, masks[n]) for n in each.names])
        for mlp in mlps:
            self._mlps.install(mlp)
        self._biases: list[tuple[nn.Linear, nn.Parameter | None]] = []
        for name, bias in folded.items():
            layer = by_name[name].module
            self._biases.append((layer, layer.bias))
            layer.bias = bias
        for name in plan.bias.keys() - folded.keys():
            # Nearest to the layer: what others hooked to it sees the sum, as where it is folded.
            add = _adding(plan.bias[name])
            layer = by_name[name].module
            self._handles.append(layer.register_forward_hook(add, prepend=True))
        setattr(decoder, _MARK, True)

    def detach(self) -> None:
        """Take the plan off; calling it twice is harmless."""
        if not self._handles:  # detached before, and another plan may be attached by now
            return
        for handle in self._handles:
            handle.remove()
        self._layers.remove()
        self._mlps.remove()
        self._reads.remove()
        for layer, bias in self._biases:
            layer.register_parameter("bias", bias)
        self._handles, self._biases = [], []
        delattr(self._decoder, _MARK)

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def _mask(self, name: str, selector: Selector) -> Mask:
        shared, dense = self._shared, self._dense

        def mask(x: torch.Tensor) -> torch.Tensor:
            if shared.source is not x or shared.selector != selector:
                result, own = selector(x), dense.here()
                if own is not None:
                    rows = result.view(-1, result.shape[-1])
                    own = own.to(x.device)  # a model's layers may be on several
                    rows[own] = x.reshape(rows.shape)[own]
                shared.source, shared.selector, shared.result = x, selector, result
                shared.counted = count_zeroed(result, own) if self.counting else None
            assert shared.result is not None
            if shared.counted is not None:
                self.achieved.add(name, *shared.counted)
            return shared.result

        return mask

    def _neuron_mask(self, down: str, selector: NeuronSelector) -> Mask:
        dense = self._dense

        def mask(h: torch.Tensor) -> torch.Tensor:
            keep = selector.keeps(self._reads.take(down, h)).expand(h.shape)
            if self.counting:
                rows = dense.sparse(keep)
                dropped = rows.numel() - int(torch.count_nonzero(rows))
                self._count_neurons(down, dropped, rows.numel())
            if (own := dense.here()) is not None:
                rows = keep.reshape(-1, keep.shape[-1])
                keep = rows.index_fill(0, own.to(rows.device), True).view(h.shape)
            return kept(h, keep)

        return mask

    def _count(self, joined: Joined, x: torch.Tensor) -> None:
        """Count what a kernel left out: the same channels for all layers that it computes."""
        if self.counting:
            zeroed, seen = count_zeroed(self.plan.selectors[joined.names[0]](x))
            for name in joined.names:
                self.achieved.add(name, zeroed, seen)

    def _count_neurons(self, down: str, dropped: int, seen: int) -> None:
        """Count neurons of one layer, at all sites whose weights they save."""
        if self.counting:
            for site in self.plan.saved_by(down):
                self.achieved.add(site, dropped, seen)

    def _forget(self, decoder: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        shared = self._shared
        shared.source = shared.selector = shared.result = shared.counted = None
        self._layers.forget()
        self._reads.forget()
        self._dense.end()


def _hook(mask: Mask) -> Any:
    def hook(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        masked = mask(x)
        if masked.stride() != x.stride():  # products of another order of x round otherwise
            masked = torch.empty_like(x).copy_(masked)
        return (masked, *args[1:])

    return hook


def sparsify(model: LanguageModel, plan: Plan, kernels: str = NONE) -> Attached:
    """Attach ``plan`` to ``model``; use as a context manager or call ``detach()``.

    The model's weights are never touched: the inputs of the planned sites are sparsified
    by hooks, and folded biases replace (and later give back) the layers' own.  Layers of other
    libraries (quantised, adapted, offloaded) compute as they do, with masked inputs: what is to
    be added to a bias is added to their output, and kernels leave them alone.

    Args:
        model: what is sparsified.
        plan: how.
        kernels: ``"none"`` masks inputs and multiplies by all weights, which saves no time.
            ``"auto"`` computes decoding steps (one new token per sequence, no dense position)
            with sparse kernels wherever they are faster than dense ones, and the name of a
            kernel of ``sparse_linear`` (``"cpu"``, ``"native"``, ``"triton"``, ``"torch"``) with
            that one everywhere.  Prefills are masked as before.  Kernels need copies of
            the weights in another order, as large as the planned weights, until detached.
            Plans by neurons run ``hot_cold_mlp`` of that name in steps of one sequence, with a
            copy of ``down``; ``"auto"`` tries it against masks, for a fifth of a second or three
            tokens, and takes it where it is faster.  Masked in all passes, and not in
            :attr:`Attached.kernels`, are MLPs that are slower so, whose selector reads what it
            drops (``"hidden"``, unless its ``mask`` is fixed, and ``"gate"``), whose gate or up
            have biases, or that do not compute down(act(gate x) * up x) with an activation of
            ``reference.activation``.  In steps of a kernel, hooks that were registered later on
            the layers inside an MLP are not called.

    Raises:
        ValueError: a plan is attached already, or it names a site that the model lacks,
            or one of its biases has the wrong shape.
        SparsityError: there is no such kernel, or it cannot run here or on these layers; or the
            layer of a site was exchanged since the model was loaded, or the model compiled.
    """
    return Attached(model, plan, kernels)


def _check_bias(site: Site, constant: torch.Tensor, model: str) -> None:
    if site.places > 1:
        raise SparsityError(
            f"the plan has a bias for {site.name} of {model}, one layer that stands in "
            f"{site.places} places, where another constant is lost in each; leave it out"
        )
    wanted = (site.module.out_features,)
    if constant.shape != wanted:
        raise ValueError(
            f"the bias of {site.name} must have shape {list(wanted)}, not {list(constant.shape)}"
        )


def _folded(layer: nn.Linear, constant: torch.Tensor) -> nn.Parameter:
    """B + W a in the layer's dtype, summed in float32; a layer without bias gains one."""
    total = constant.to(layer.weight.device, torch.float32)
    if layer.bias is not None:
        total = total + layer.bias.float()
    return nn.Parameter(total.to(layer.weight.dtype), requires_grad=False)


def _adding(constant: torch.Tensor) -> Any:
    """A forward hook that adds W a, [N], to what a layer gives; in float32, then rounded."""

    def hook(layer: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return (output.float() + constant.to(output.device, torch.float32)).to(output.dtype)

    return hook
