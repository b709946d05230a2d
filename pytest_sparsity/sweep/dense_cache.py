"""What dense models give on text, kept for the cells that are compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch

from pytest_sparsity.evaluation.generation import continue_greedily
from pytest_sparsity.evaluation.perplexity import Window, dense_states
from pytest_sparsity.evaluation.probes import Probe, States, probe_states
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.dense_results import DenseResults
from pytest_sparsity.sweep.model_store import ModelStore

StatesOfWindows = DenseResults[Window, torch.Tensor]
StatesOfProbes = DenseResults[Probe, States]
Paths = DenseResults[Window, list[int]]


@dataclass(frozen=True, eq=False)
class DenseCache:
    """One :class:`DenseResults` for every model and text; each computes only what is needed.

    Attributes:
        models: the dense models, as they were loaded.
        share: whether a prefix that texts have in common may be run once for all of them.
        new_tokens: length of what is generated.
    """

    models: ModelStore
    share: bool
    new_tokens: int

    @cache  # noqa: B019 - it lives as long as its session
    def states(self, model: str, corpus: str) -> StatesOfWindows:
        """Hidden states [T, H] on the windows of a corpus."""
        return DenseResults(partial(dense_states, self.models.load(model)))

    @cache  # noqa: B019
    def probe_states(self, model: str, task: str) -> StatesOfProbes:
        """Hidden states on the probes of a task: [T, H] of the chain, and of the prose."""
        return DenseResults(partial(probe_states, self.models.load(model), share=self.share))

    @cache  # noqa: B019
    def paths(self, model: str) -> Paths:
        """Greedy continuations of prompts: ``new_tokens`` ids each."""
        return DenseResults(partial(_paths, self.models.load(model), self.new_tokens))


def _paths(
    model: LanguageModel, new_tokens: int, prompts: Sequence[Window]
) -> dict[str, list[int]]:
    found = continue_greedily(model, prompts, new_tokens)
    return {prompt.id: path for prompt, path in zip(prompts, found, strict=True)}
