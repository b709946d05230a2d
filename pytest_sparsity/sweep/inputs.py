"""What one cell is measured from: plain values, and nothing that has to be looked up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.harness import HarnessTask
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.evaluation.probes import Probe, States
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.methods.attach import Attached
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.dense_results import DenseResults


@dataclass(frozen=True)
class TextInputs:
    """What a perplexity cell is measured from.

    Attributes:
        windows: all documents there are.
        draw: how many of them one draw has.
        states: the dense model's hidden states [T, H]; None for the dense model itself.
    """

    windows: Sequence[Window]
    draw: int
    states: DenseResults[Window, torch.Tensor] | None


@dataclass(frozen=True)
class GenerationInputs:
    """What a generation cell is measured from.

    Attributes:
        prompts: what is continued.
        new_tokens: by how many tokens.
        paths: the dense model's continuations.
    """

    prompts: Sequence[Window]
    new_tokens: int
    paths: DenseResults[Window, list[int]]


@dataclass(frozen=True)
class TaskInputs:
    """What a cell of a task is measured from.

    Attributes:
        task: all items there are.
        draw: how many of them one draw has.
        share: whether a prefix that texts have in common may be run once for all of them.
    """

    task: Task | HarnessTask
    draw: int
    share: bool


@dataclass(frozen=True)
class DivergenceInputs(TaskInputs):
    """What a divergence cell is measured from: chains of thought, and prose beside them.

    Attributes:
        task: all items there are; never one of lm-eval's.
        prose: documents, of which every item takes one.
        states: the dense model's hidden states; None for the dense model itself.
    """

    task: Task
    prose: Sequence[Document]
    states: DenseResults[Probe, States] | None


@dataclass(frozen=True)
class CellInputs:
    """What a cell of any kind is measured from.

    Attributes:
        cell: what is measured.
        key: the key of its record.
        model: as the configuration has it.
        attached: the plan on ``model``; None for a method of dense.
        dense: the model as it was loaded.
        evaluation: what depends on the kind of the evaluation.
        facts: copied into the record: what the preparation took, and how the weights
            were compressed.
    """

    cell: Cell
    key: Mapping[str, Any]
    model: LanguageModel
    attached: Attached | None
    dense: LanguageModel
    evaluation: TextInputs | GenerationInputs | TaskInputs
    facts: Mapping[str, Any]
