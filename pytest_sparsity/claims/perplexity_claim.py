"""Claims about log-perplexity that must hold on every evaluation corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_sparsity.claims import rules
from pytest_sparsity.claims.claim import Part, conclude
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.losses import Losses
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.options import OFF, TRAINED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell, Configuration, on_text, product

HALF = 0.5


def teal(model: str, level: float = HALF, weights: str = LOADED) -> Configuration:
    """TEAL's thresholds, without spontaneous neurons."""
    return Configuration(model, "teal", level, OFF, weights)


def spon(model: str, level: float = HALF, weights: str = LOADED) -> Configuration:
    """TEAL's thresholds with trained spontaneous neurons."""
    return Configuration(model, "teal", level, TRAINED, weights)


@dataclass(frozen=True)
class PerplexityClaim:
    """A claim about the log-perplexities of a few configurations, on every corpus.

    Attributes:
        number: see :class:`~.claim.Claim`, as the next three.
        sentence: as it was made.
        definition: what it means here.
        rule: when it is supported.
        configurations: all that it needs, of a model.
        decide_on: its parts on one corpus, from the losses there and the model's name.
        parts: how many of them decide.
    """

    number: str
    sentence: str
    definition: str
    rule: str
    configurations: Callable[[str], Sequence[Configuration]]
    decide_on: Callable[[Losses, str], Sequence[Part]]
    parts: int = 1

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """The perplexity of all configurations on every corpus."""
        return product(self.configurations(model), map(on_text, settings.corpora))

    def decide(self, evidence: Evidence) -> Finding:
        """Measure all cells, and conclude from the parts of every corpus.

        Raises:
            CannotTest: a cell cannot be measured.
            BrokenEvidence: what was measured contradicts itself.
        """
        model, corpora = evidence.model, evidence.settings.corpora
        confidence = rules.confidence(self.parts * len(corpora))
        evidence.gather(self.cells(model, evidence.settings))
        needed = self.configurations(model)
        parts = [
            part
            for corpus in corpora
            for part in self.decide_on(evidence.losses(corpus, needed, confidence), model)
        ]
        return conclude(self.number, evidence, parts)
