"""The variants of the model that are measured, and how much of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import PERPLEXITY, TASK, Cell, Configuration
from pytest_sparsity.sweep.grid import evaluations

MODEL = "smollm2-135m"
BASE, ORDER, FLOAT32, THREADS = "base", "order", "float32", "threads"
#: The same model again, by another run of the sweep; tasks packed by a hundred items, not by 300.
AGAIN, PACKED = "again", "packed"
#: Worse by so much perplexity, and what is measured for each: another loss is made exact.
LOSSES: Mapping[float, float] = {0.01: 0.02, 0.02: 0.02, 0.05: 0.05}
LEVELS = (0.25, 0.4, 0.5)
DENSE = Configuration(MODEL)
TEAL = tuple(Configuration(MODEL, "teal", level) for level in LEVELS)


def worse(loss: float) -> str:
    """The variant whose weights are worse by a loss of perplexity: 0.01 is +1 %."""
    return f"worse {loss:g}"


@dataclass(frozen=True)
class Amount:
    """How much of a variant is measured.

    Attributes:
        variant: its name.
        configurations: of which models.
        documents: per corpus; of a corpus with fewer, all.
        items: per task, scored together; those of ``PACKED`` by parts of a hundred.
        prompts: that are continued.
    """

    variant: str
    configurations: tuple[Configuration, ...]
    documents: int
    items: int = 0
    prompts: int = 0

    def cells(self) -> Iterator[Cell]:
        """What is measured, by configuration."""
        for configuration in self.configurations:
            for evaluation in evaluations(default_settings()):
                cell = Cell(configuration, evaluation)
                wanted = {PERPLEXITY: self.documents, TASK: self.items}
                if wanted.get(cell.kind, self.prompts):
                    yield cell


#: In the order in which they are measured: what an interrupted run lacks is at the end.
PLAN = (
    Amount(BASE, (DENSE,), 144, 300, 8),
    Amount(BASE, TEAL, 96, 300, 32),
    Amount(AGAIN, (DENSE, *TEAL), 32, 0, 8),
    Amount(PACKED, (DENSE, *TEAL), 0, 100),
    Amount(worse(0.02), (DENSE,), 96),
    Amount(worse(0.05), (DENSE,), 96),
    Amount(ORDER, (DENSE,), 96),
    Amount(ORDER, (TEAL[2], TEAL[0], TEAL[1]), 32),
    Amount(FLOAT32, (DENSE,), 96),
    Amount(FLOAT32, (TEAL[2], TEAL[0], TEAL[1]), 32),
    Amount(ORDER, (DENSE, TEAL[2]), 0, 100, 32),
    Amount(THREADS, (DENSE, TEAL[2]), 16, 100),
    Amount(FLOAT32, (DENSE, TEAL[2]), 0, 100, 32),
    Amount(ORDER, (TEAL[0], TEAL[1]), 0, 100, 32),
    Amount(FLOAT32, (TEAL[0], TEAL[1]), 0, 100, 32),
)
