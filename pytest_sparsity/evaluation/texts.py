"""Texts that a model continues greedily up to a stop, such as the answers of a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pytest_sparsity.evaluation.generation import likeliest
from pytest_sparsity.evaluation.trie import common_prefix
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.continuation import continuation
from pytest_sparsity.models.forward import run_prefix
from pytest_sparsity.models.packing import packing
from pytest_sparsity.models.parallel import in_parallel

_BATCH = 8  # prompts decoded together; all have the same length, so nothing is padded


@dataclass(frozen=True)
class Prompt:
    """A text to be continued.

    Attributes:
        tokens: of the text; with what the model needs before every text.
        limit: tokens that it is continued by at most.
        stops: texts that end the continuation, and are cut off it.
    """

    tokens: list[int]
    limit: int
    stops: tuple[str, ...]


@dataclass
class _Path:
    """A continuation under way: its tokens, its text up to the stop, whether it is over."""

    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    over: bool = False

    def take(self, model: LanguageModel, token: int, ends: Sequence[int]) -> None:
        if self.over:
            return
        if token in ends:
            self.over = True
            return
        self.tokens.append(token)
        text = str(model.tokenizer.decode(self.tokens))
        found = [at for stop in self.prompt.stops if (at := text.find(stop)) >= 0]
        self.text = text[: min(found)] if found else text
        self.over = bool(found) or len(self.tokens) >= self.prompt.limit


def continue_texts(
    model: LanguageModel, prompts: Sequence[Prompt], *, share: bool
) -> list[tuple[list[int], str]]:
    """The greedy continuation of every prompt up to a stop, on all cores.

    Prompts of one length are decoded together.  What all prompts begin with is run once.

    Args:
        model: dense or with a plan attached; decoding steps are sparse at every position.
        prompts: of any lengths.
        share: whether the common beginning may be run by itself: not with a prefill policy
            by which it matters how much follows.

    Returns:
        Per prompt its new tokens, an end-of-sequence token not among them, and its new text
        before the stop.

    Raises:
        SparsityError: a logit is NaN.
    """
    beginnings = [prompt.tokens[:-1] for prompt in prompts]
    share = share and len(prompts) > 1 and packing(model).beginnings
    shared = common_prefix(beginnings) if share else 0
    start, ends = None, _ends(model)
    if shared:
        tokens = torch.tensor(beginnings[0][:shared])
        # By itself, and still like everything else: on one thread.
        (start,) = in_parallel(lambda t: run_prefix(model, t), [tokens], device=model.device)

    def decode(batch: Sequence[Prompt]) -> list[_Path]:
        paths = [_Path(prompt) for prompt in batch]
        tokens = torch.tensor([prompt.tokens for prompt in batch])
        with continuation(model, tokens, shared, start) as under_way:
            while not all(path.over for path in paths):
                tokens = likeliest(model, under_way.logits())
                under_way.add(tokens)
                for path, token in zip(paths, tokens[:, 0].tolist(), strict=True):
                    path.take(model, token, ends)
        return paths

    batches = _of_one_length(prompts)
    work = [[prompts[index] for index in batch] for batch in batches]
    found: dict[int, tuple[list[int], str]] = {}
    for batch, paths in zip(batches, in_parallel(decode, work, device=model.device), strict=True):
        found |= {i: (path.tokens, path.text) for i, path in zip(batch, paths, strict=True)}
    return [found[index] for index in range(len(prompts))]


def _ends(model: LanguageModel) -> list[int]:
    """The tokens that end a sequence."""
    config = getattr(model.model, "generation_config", None) or model.model.config
    end = config.eos_token_id
    if end is None:
        return []
    return list(end) if isinstance(end, (list, tuple)) else [end]


def _of_one_length(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Indices of the prompts, in batches whose prompts have equally many tokens."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt.tokens)].append(index)
    return [
        indices[first : first + _BATCH]
        for _, indices in sorted(by_length.items())
        for first in range(0, len(indices), _BATCH)
    ]
