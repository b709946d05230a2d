"""What tests of evaluation share: what transformers itself would go on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def generated() -> Callable[..., list[int]]:
    """``generated(model, tokens, count, eos_token_id=...)``: what ``generate`` appends."""

    def generate(model: Any, tokens: Sequence[int], count: int, **ends: int) -> list[int]:
        ids = torch.tensor([list(tokens)])
        mask = torch.ones_like(ids)
        found = model.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=count, **ends
        )
        appended: list[int] = found[0, len(tokens) :].tolist()
        return appended

    return generate
