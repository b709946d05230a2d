"""All claims, in order."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_sparsity.claims.catalog_neutral import Neutral
from pytest_sparsity.claims.catalog_range import Range
from pytest_sparsity.claims.catalog_recovery import RECOVERY, Transfer
from pytest_sparsity.claims.catalog_weights import BEATS_PRUNING, WEIGHTS
from pytest_sparsity.claims.claim import Claim
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Configuration

#: The twelve claims of the literature on spontaneous neurons.
CLAIMS: tuple[Claim, ...] = (
    *WEIGHTS,
    Range(),
    Neutral(),
    *RECOVERY,
    BEATS_PRUNING,
    Transfer(),
)

#: By number or name: the claims, and the parts of the project's own question.
CATALOG: dict[str, Claim] = {claim.number: claim for claim in (*CLAIMS, *QUESTION)}


def configurations(settings: Settings, models: Iterable[str]) -> list[Configuration]:
    """Every configuration that some claim needs of these models."""
    cells = (c for m in models for claim in CATALOG.values() for c in claim.cells(m, settings))
    return list(dict.fromkeys(cell.configuration for cell in cells))
