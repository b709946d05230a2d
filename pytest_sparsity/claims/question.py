"""The question that this project began with, in three parts that are claims like the others.

How does activation sparsity go together with the loss of reasoning when a model keeps its cold
neurons only, in a pipeline like PowerInfer's?
"""

from __future__ import annotations

from pytest_sparsity.claims.claim import Claim
from pytest_sparsity.claims.question_neurons import HotCold
from pytest_sparsity.claims.question_reasoning import ReasoningFirst, SparsityReasoning

QUESTION: tuple[Claim, ...] = (SparsityReasoning(), HotCold(), ReasoningFirst())
