"""Greedy text, and the step at which it leaves the dense model's path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.continuation import continuation
from pytest_sparsity.models.parallel import in_parallel

_BATCH = 4  # prompts decoded together; all have the same length, so nothing is padded


def continue_greedily(
    model: LanguageModel, prompts: Sequence[Window], new_tokens: int
) -> list[list[int]]:
    """The ``new_tokens`` likeliest next tokens of every prompt, one at a time.

    End-of-sequence tokens do not stop it: every path has the same length.

    Args:
        model: dense or with a plan attached; decoding steps are sparse at every position.
        prompts: windows of one common length.
        new_tokens: how many.

    Raises:
        SparsityError: a logit is NaN.
    """

    def decode(batch: Sequence[Window]) -> list[list[int]]:
        chosen = []
        with continuation(model, torch.stack([prompt.tokens for prompt in batch])) as under_way:
            for _ in range(new_tokens):
                tokens = likeliest(model, under_way.logits())
                under_way.add(tokens)
                chosen.append(tokens)
        return [[int(token) for token in row] for row in torch.cat(chosen, 1)]

    batches = [prompts[i : i + _BATCH] for i in range(0, len(prompts), _BATCH)]
    return [p for paths in in_parallel(decode, batches, device=model.device) for p in paths]


def likeliest(model: LanguageModel, logits: torch.Tensor) -> torch.Tensor:
    """The likeliest next token of every sequence, int64 [B, 1], from logits [B, T, V]."""
    best, tokens = logits[:, -1:].max(-1)
    if bool(torch.isnan(best).any()):
        raise SparsityError(
            f"model {model.name} gives NaN logits while it generates text; the "
            "weights or the sparse plan are broken"
        )
    return tokens


def first_divergence(path: Sequence[int], dense: Sequence[int]) -> int | None:
    """The first step, from 0, at which two paths differ; None when they never do.

    A path that ends where the other goes on differs from it there.
    """
    steps = enumerate(zip(path, dense, strict=False))
    return next(
        (step for step, (a, b) in steps if a != b),
        None if len(path) == len(dense) else min(len(path), len(dense)),
    )


def describe_paths(
    model: LanguageModel,
    prompts: Sequence[Window],
    paths: Sequence[Sequence[int]],
    dense_paths: Sequence[Sequence[int]],
) -> list[dict[str, Any]]:
    """Per prompt its text, both continuations, and the first step at which they differ.

    Returns:
        Per prompt ``id``, ``prompt``, ``text``, ``dense_text``, ``path`` (the tokens),
        ``tokens`` (steps) and ``first_divergence`` (from 0; None when they never differ).
    """
    decode = model.tokenizer.decode
    return [
        {
            "id": prompt.id,
            "prompt": decode(prompt.tokens),
            "text": decode(list(path)),
            "dense_text": decode(list(dense)),
            "path": list(path),
            "tokens": len(path),
            "first_divergence": first_divergence(path, dense),
        }
        for prompt, path, dense in zip(prompts, paths, dense_paths, strict=True)
    ]
