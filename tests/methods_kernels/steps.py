"""A prompt and the steps after it, which decoding kernels take one token at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TEXT = torch.randint(0, 256, (24,), generator=torch.Generator().manual_seed(3))
PROMPT = 8
STEPS = len(TEXT) - PROMPT


def decode(model: Any, rows: int = 1, prompt: int = PROMPT) -> tuple[Tensor, Tensor]:
    """Logits of the prompt, and of the steps after it, [rows, T, V] each."""
    tokens = torch.stack([TEXT.roll(row) for row in range(rows)])
    with torch.inference_mode():
        output = model.model(input_ids=tokens[:, :prompt], use_cache=True)
        whole, steps = output.logits, []
        for place in range(prompt, tokens.shape[1]):
            output = model.model(
                input_ids=tokens[:, place : place + 1],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            steps.append(output.logits)
    return whole, torch.cat(steps, 1)


def assert_same(found: tuple[Tensor, Tensor], masked: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(found[0], masked[0])
    torch.testing.assert_close(found[1], masked[1], rtol=1e-3, atol=1e-3)


def assert_unchanged(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert all(map(torch.equal, found, expected))
