"""Sequences that grow by a token at a time, through the model's cache where that gives the same."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pytest_sparsity.models.cached import note_length, repeated, tokens_behind
from pytest_sparsity.models.forward import in_turn
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.packing import packing


@contextmanager
def continuation(
    model: LanguageModel, tokens: torch.Tensor, shared: int = 0, prefix: Any = None
) -> Iterator[Continuation]:
    """Begin with sequences of one length; a model that keeps something of a pass is ours meanwhile.

    Args:
        model: dense or with a plan attached.
        tokens: int64 [B, T], the whole sequences.
        shared: how many of the tokens all begin with ``prefix`` stands for.
        prefix: :func:`~.forward.run_prefix` of those; None without.
    """
    with in_turn(model):
        yield Continuation(model, tokens, shared, prefix)


class Continuation:
    """Sequences of one length under way; made by :func:`continuation`.

    A cache is given up, and all tokens run again, where the model cannot go on from its cache, or
    where the next token changes the positions of those before (longrope, dynamic scaling).
    """

    def __init__(
        self, model: LanguageModel, tokens: torch.Tensor, shared: int, prefix: Any
    ) -> None:
        self._model, self._tokens = model, tokens.to(model.device)
        self._how = packing(model)
        self._cache = None if prefix is None else repeated(prefix, len(tokens))
        self._behind = shared
        forward: Any = model.model.forward
        known = inspect.signature(forward).parameters
        last = {"logits_to_keep": 1} if "logits_to_keep" in known or "kwargs" in known else {}
        self._given: dict[str, Any] = last

    def logits(self) -> torch.Tensor:
        """Of the token after the last one, [B, 1, V]."""
        length = self._tokens.shape[1]
        if self._cache is not None and self._how.regime(self._behind) != self._how.regime(length):
            self._cache, self._behind = None, 0
        keep = self._how.steps
        given: dict[str, Any] = {**self._given, "use_cache": keep}
        if keep or self._cache is not None:
            given[self._model.cache_name] = self._cache
        if self._cache is None:
            for rope in self._how.ropes:
                rope.forget(self._model.device)
        with torch.inference_mode():
            output = self._model.model(input_ids=self._tokens[:, self._behind :], **given)
        self._cache = getattr(output, self._model.cache_name) if keep else None
        self._behind = length if keep else 0
        if keep and tokens_behind(self._cache) != length:
            note_length(self._cache, length)
        found: torch.Tensor = output.logits[:, -1:]
        return found

    def add(self, tokens: torch.Tensor) -> None:
        """The next token of every sequence, int64 [B, 1]."""
        self._tokens = torch.cat([self._tokens, tokens.to(self._tokens)], 1)
