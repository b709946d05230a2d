"""One forward pass of a decoder, and the cache that a later one goes on from."""

from __future__ import annotations

import copy
from typing import Any

import torch

from pytest_sparsity.models.language_model import LanguageModel


def run_decoder(
    model: LanguageModel,
    ids: torch.Tensor,
    positions: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    cache: Any = None,
) -> Any:
    """The decoder's output for ids [B, T], with a cache if one is given; no gradients.

    Args:
        model: whatever it keeps between passes is the caller's affair.
        ids: int64, without padding.
        positions: int64 [T], for packed sequences.
        mask: additive attention mask [T, P + T] in the model's dtype, for packed sequences.
        cache: of the P tokens before; it grows.
    """
    given = without_cache(model) if cache is None else {}
    if cache is not None and model.takes_use_cache:
        given["use_cache"] = True
    if positions is not None:
        given["position_ids"] = positions[None].to(model.device)
    if mask is not None:
        given["attention_mask"] = mask[None, None].to(model.device)
    if cache is not None:
        given[model.cache_name] = cache
    behind = tokens_behind(cache)
    with torch.inference_mode():
        output = model.decoder(input_ids=ids.to(model.device), **given)
    if cache is not None and behind is not None:
        note_length(getattr(output, model.cache_name), behind + ids.shape[1])
    return output


def without_cache(model: LanguageModel) -> dict[str, Any]:
    """What a decoder is given for a pass of which nothing is kept.

    Without a cache, xLSTM begins its sums in float32 and cannot add those of another dtype.
    """
    if not model.takes_use_cache:
        return {}
    needed = model.model.config.model_type == "xlstm" and model.dtype != torch.float32
    return {"use_cache": needed}


def first_cache(model: LanguageModel, ids: torch.Tensor) -> Any:
    """The cache after ids [B, P] that begin their sequences."""
    with torch.inference_mode():
        output = model.decoder(input_ids=ids.to(model.device), use_cache=True)
    cache = getattr(output, model.cache_name)
    note_length(cache, ids.shape[1])
    return cache


def repeated(cache: Any, batch: int) -> Any:
    """A copy of the cache of one sequence, for ``batch`` that begin like it."""
    own = copy.deepcopy(cache)  # it grows by what comes after it
    if batch == 1:
        return own
    if all(hasattr(layer, "batch_repeat_interleave") for layer in getattr(own, "layers", ())):
        own.batch_repeat_interleave(batch)
    else:  # recurrent layers have it under another name only
        own.reorder_cache(torch.zeros(batch, dtype=torch.int64))
    return own


def note_length(cache: Any, length: int) -> None:
    """Write down the tokens behind a cache that holds no keys, and cannot tell by itself."""
    if _own_length(cache) is None and hasattr(cache, "__dict__"):
        cache.tokens_behind = length


def tokens_behind(cache: Any) -> int | None:
    """Tokens behind a cache; None where nobody knows."""
    if cache is None:
        return 0
    own = _own_length(cache)
    return own if own is not None else getattr(cache, "tokens_behind", None)


def _own_length(cache: Any) -> int | None:
    try:
        return int(cache.get_seq_length())
    except (AttributeError, ValueError):  # none of its layers is one of attention
        return None
