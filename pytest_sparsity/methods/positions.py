"""Which rows of an activation matrix a prefill policy keeps dense, tracked per forward pass."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import nn

from pytest_sparsity.methods.gated import ACTIVATED, activated_gate, activation_of
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.residual_stream import RESIDUAL, mlp_norms, residual_of
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.cached import tokens_behind
from pytest_sparsity.models.forward import hidden_states
from pytest_sparsity.models.language_model import CACHE_NAMES
from pytest_sparsity.models.parallel import in_parallel
from pytest_sparsity.models.routing import routed_rows

T = TypeVar("T")

_FAR = 1 << 30  # a place behind all that a policy keeps dense


class DenseRows(threading.local):
    """The rows kept dense in the forward pass under way, per thread.

    Attributes:
        rows: int64 [R], indices into the flattened [B * T] positions; None for none.
        decoding: whether it takes one token of each sequence, and none of them is dense.
    """

    rows: torch.Tensor | None = None
    decoding: bool = False

    def __init__(self, decoder: nn.Module, prefill: PrefillPolicy) -> None:
        self._prefill = prefill
        self._signature = inspect.signature(decoder.forward)

    def begin(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the decoder (``with_kwargs=True``)."""
        bound = self._signature.bind_partial(*args, **kwargs).arguments
        given = {**bound, **bound.get("kwargs", {})}
        own = positions(given)
        dense = self._prefill.dense_positions(own, _lengths(own, given.get("attention_mask")))
        self.rows = None if dense is None else dense.flatten().nonzero().squeeze(1)
        self.decoding = dense is None and own.shape[1] == 1

    def end(self) -> None:
        """The forward pass is over: a layer called by itself has no first tokens."""
        self.rows, self.decoding = None, False

    def here(self) -> torch.Tensor | None:
        """The rows that are kept dense of the input of the layer under way.

        They are ``rows`` itself, but in an expert, which has the tokens that are routed to it.
        """
        routed = None if self.rows is None else routed_rows()
        if self.rows is None or routed is None:
            return self.rows
        return torch.isin(routed, self.rows).nonzero().squeeze(1)

    def sparse(self, x: torch.Tensor) -> torch.Tensor:
        """The rows [R, K] of x [..., K], the input of the layer under way, not kept dense."""
        rows, dense = x.reshape(-1, x.shape[-1]), self.here()
        if dense is None:
            return rows
        keep = torch.ones(len(rows), dtype=torch.bool, device=x.device)
        keep[dense.to(x.device)] = False
        return rows[keep]


def positions(given: dict[str, Any]) -> torch.Tensor:
    """Position of each token in its own sequence, [B, T], from a decoder's arguments.

    Padding has position -1.
    """
    tokens = given.get("input_ids")
    if tokens is None:
        tokens = given["inputs_embeds"][..., 0]
    batch, length = tokens.shape
    explicit, mask = given.get("position_ids"), given.get("attention_mask")
    real = mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None
    if explicit is not None:
        found = torch.as_tensor(explicit).expand(batch, length)
    elif real is not None:
        found = (real.long().cumsum(-1) - 1)[:, -length:]
    else:
        cache = next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)
        past = tokens_behind(cache)
        if past is None:  # a caller's own, with recurrent layers only
            past = _FAR
        found = torch.arange(past, past + length, device=tokens.device).expand(batch, length)
    return found if real is None else found.masked_fill(real[:, -length:] == 0, -1)


def _lengths(own: torch.Tensor, mask: Any) -> torch.Tensor:
    """Length so far of each token's sequence, [B, 1] or [B, T], from its positions [B, T].

    In a packed tree, told by its additive mask [B, 1, T, T], it is that of the longest
    sequence that the token is part of.
    """
    if isinstance(mask, torch.Tensor) and mask.dim() == 4 and mask.shape[2] == mask.shape[3]:
        return ((mask[:, 0] == 0) * (own[:, :, None] + 1)).amax(1)
    return own.amax(1, keepdim=True) + 1


@contextmanager
def observe(
    model: LanguageModel,
    prefill: PrefillPolicy,
    visit: Callable[[str, torch.Tensor], None],
    *,
    also: Collection[str] = (),
    pooled: bool = False,
) -> Iterator[None]:
    """Call ``visit(site, x)`` with the inputs of the sites of every forward pass inside.

    ``x`` is [rows, K] without the rows that ``prefill`` keeps dense and without padding.
    ``visit`` is called from the threads that run the model.  Sites that read the same tensor
    (q, k, v; gate, up) are given the same ``x``, the same object.  ``also`` names what is visited
    besides, before the layer's ``down``: ``ACTIVATED``, act(W_gate x), as ``"{layer}.act"``, and
    ``RESIDUAL``, the residual stream before the MLP's norm, as ``"{layer}.residual"``.
    An expert is visited with the tokens that are routed to it, if there are any; with ``pooled``
    under the name that all experts of its layer share, see :attr:`.Site.pool`.
    """
    model.check_unchanged()
    dense = DenseRows(model.decoder, prefill)
    last = threading.local()

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0]
            if getattr(last, "x", None) is not x:
                last.x, last.rows = x, dense.sparse(x)
            if len(last.rows) or routed_rows() is None:
                visit(name, last.rows)

        return hook

    def activated_hook_of(name: str, act: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        def hook(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
            visit(name, act(dense.sparse(output)))

        return hook

    norms = mlp_norms(model) if RESIDUAL in also else {}  # before there is a hook to disturb
    with ExitStack() as hooks:
        add = hooks.enter_context
        add(model.decoder.register_forward_pre_hook(dense.begin, with_kwargs=True))
        for site in model.sites:
            name = site.pool if pooled else site.name
            add(site.module.register_forward_pre_hook(hook_of(name)))
            if ACTIVATED in also and site.kind == "gate":
                hook = activated_hook_of(activated_gate(site.layer), activation_of(model, site))
                add(site.module.register_forward_hook(hook))
        for layer, norm in norms.items():
            add(norm.register_forward_pre_hook(hook_of(residual_of(layer))))
        yield


def observe_documents(
    model: LanguageModel,
    prefill: PrefillPolicy,
    documents: Sequence[torch.Tensor],
    visit: Callable[[str, torch.Tensor], T],
    *,
    also: Collection[str] = (),
    pooled: bool = False,
) -> Iterator[dict[str, T]]:
    """Per document, in order: site to what ``visit(site, x)`` returned, see :func:`observe`.

    What it returned for one name several times, of experts that are pooled or of a layer that
    stands in several places, is :func:`added`.

    Floating-point sums over documents belong here: made in this order, they do not depend
    on how threads take turns.
    """
    here = threading.local()

    def run(tokens: torch.Tensor) -> dict[str, T]:
        here.found = {}
        hidden_states(model, tokens)
        found: dict[str, T] = here.found
        return found

    def keep(site: str, x: torch.Tensor) -> None:
        value = visit(site, x)
        here.found[site] = added(here.found[site], value) if site in here.found else value

    with observe(model, prefill, keep, also=also, pooled=pooled):
        yield from in_parallel(run, documents, device=model.device)


def added(one: T, other: T) -> T:
    """The sums of two values, element by element, in tuples, lists and mappings alike.

    What is no number stays that of the first: names of places, and None.
    """
    found: Any = one
    if isinstance(one, tuple | list):
        found = type(one)(added(a, b) for a, b in zip(one, cast("Any", other), strict=True))
    elif isinstance(one, dict):
        found = {key: added(value, cast("Any", other)[key]) for key, value in one.items()}
    elif isinstance(one, int | float | torch.Tensor):
        found = one + cast("Any", other)
    return cast("T", found)
