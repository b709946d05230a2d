"""Which rows of an activation matrix a prefill policy keeps dense, tracked per forward pass."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.models import LanguageModel


class DenseRows(threading.local):
    """The rows kept dense in the forward pass under way, per thread.

    Attributes:
        rows: int64 [R], indices into the flattened [B * T] positions; None for none.
    """

    rows: torch.Tensor | None = None

    def __init__(self, decoder: nn.Module, prefill: PrefillPolicy) -> None:
        self._prefill = prefill
        self._signature = inspect.signature(decoder.forward)

    def begin(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the decoder (``with_kwargs=True``)."""
        given = self._signature.bind_partial(*args, **kwargs).arguments
        dense = self._prefill.dense_positions(positions({**given, **given.get("kwargs", {})}))
        self.rows = None if dense is None else dense.flatten().nonzero().squeeze(1)


def positions(given: dict[str, Any]) -> torch.Tensor:
    """Position of each token in its own sequence, [B, T], from a decoder's arguments.

    Padding before a sequence has position -1.
    """
    tokens = given.get("input_ids")
    if tokens is None:
        tokens = given["inputs_embeds"][..., 0]
    batch, length = tokens.shape
    explicit = given.get("position_ids")
    if explicit is not None:
        return torch.as_tensor(explicit).expand(batch, length)
    mask = given.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.dim() == 2:
        return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, -1)[:, -length:]
    cache = given.get("past_key_values")
    past = int(cache.get_seq_length()) if cache is not None else 0
    return torch.arange(past, past + length, device=tokens.device).expand(batch, length)


@contextmanager
def observe(
    model: LanguageModel,
    prefill: PrefillPolicy,
    visit: Callable[[str, torch.Tensor], None],
    *,
    share: bool = False,
) -> Iterator[dict[str, str]]:
    """Call ``visit(site, x)`` with the inputs of the sites of every forward pass inside.

    ``x`` is [rows, K] without the rows that ``prefill`` keeps dense and without padding.
    ``visit`` is called from the threads that run the model.  With ``share``, sites that
    read the same tensor (q, k, v; gate, up) are visited once, under the first one's name.

    Yields:
        Site to the name under which it was visited; filled by the forward passes.
    """
    visited_as: dict[str, str] = {}
    dense = DenseRows(model.decoder, prefill)
    last = threading.local()

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0]
            if share and getattr(last, "x", None) is x:
                visited_as[name] = last.name
                return
            last.x, last.name = x, name
            visited_as[name] = name
            rows = x.reshape(-1, x.shape[-1])
            if dense.rows is not None:
                keep = torch.ones(len(rows), dtype=torch.bool, device=x.device)
                keep[dense.rows] = False
                rows = rows[keep]
            visit(name, rows)

        return hook

    handles = [model.decoder.register_forward_pre_hook(dense.begin, with_kwargs=True)]
    handles += [s.module.register_forward_pre_hook(hook_of(s.name)) for s in model.sites]
    try:
        yield visited_as
    finally:
        for handle in handles:
            handle.remove()
