"""A prompt and the steps after it, which decoding kernels take one token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def own_forward(module: Any) -> Iterator[Any]:
    """The forward of a module is its own, as other libraries make it; gives that forward."""
    vars(module)["forward"] = original = module.forward
    try:
        yield original
    finally:
        vars(module).pop("forward", None)


def assert_unchanged(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert all(map(torch.equal, found, expected))


@contextmanager
def given_back(model: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Gives what the model computes, and sees that in the end it is what it was.

    That is its results, its tensors and their layouts, hooks and forwards.
    """
    dense, tensors, hooks = decode(model), _tensors(model), _hooks(model)
    yield dense
    assert not any("forward" in vars(module) for module in model.model.modules())
    assert _hooks(model) == hooks
    assert_unchanged(decode(model), dense)
    after = _tensors(model)
    assert after.keys() == tensors.keys()
    for name, (tensor, layout) in after.items():
        assert torch.equal(tensor, tensors[name][0])
        assert layout == tensors[name][1]


def _tensors(model: Any) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    return {name: (t.clone(), t.stride()) for name, t in model.model.state_dict().items()}


def _hooks(model: Any) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.model.modules()]
