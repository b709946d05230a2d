"""What a claim is, and how its parts add up to a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pytest_sparsity.claims import rules
from pytest_sparsity.claims.evidence import CannotTest, Evidence
from pytest_sparsity.claims.finding import ClaimVerdict, Effect, Finding, limit_in_unit
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell

#: Figures that a reason names; all of them are kept with the finding.
_SAID = 3


class Claim(Protocol):
    """One claim, and how it is decided; all of it fixed before anything is measured."""

    @property
    def number(self) -> str:
        """``"1"`` to ``"12"``, or the name of a part of the question."""

    @property
    def sentence(self) -> str:
        """The claim as it was made."""

    @property
    def definition(self) -> str:
        """What it means here, in quantities that can be measured."""

    @property
    def rule(self) -> str:
        """When it is supported and when refuted."""

    def cells(self, model: str, settings: Settings) -> list[Cell]:
        """Every cell that the decision needs, of one model."""

    def decide(self, evidence: Evidence) -> Finding:
        """The finding, from cells that are measured where they are missing.

        Raises:
            CannotTest: something that is needed cannot be had here.
            BrokenEvidence: what was measured contradicts itself.
        """


@dataclass(frozen=True)
class Part:
    """One figure and what it says about a claim.

    Attributes:
        effect: the figure; None where there is none.
        outcome: by the claim's rule; None for a figure that is only reported.
        remark: what the claim says of the figure: ``below 0 claimed``; or why there is none.
    """

    effect: Effect | None
    outcome: ClaimVerdict | None = None
    remark: str = ""

    def __str__(self) -> str:
        if self.effect is None:
            return self.remark
        return f"{self.effect.text} ({self.remark})" if self.remark else self.effect.text


def below(label: str, interval: Interval, unit: str, limit: float) -> Part:
    """A figure that must be less than ``limit``."""
    effect = Effect(label, interval, unit, limit)
    return Part(effect, rules.below(interval, limit), f"below {limit_in_unit(limit, unit)} claimed")


def above(label: str, interval: Interval, unit: str, limit: float) -> Part:
    """A figure that must be more than ``limit``."""
    effect = Effect(label, interval, unit, limit)
    return Part(effect, rules.above(interval, limit), f"above {limit_in_unit(limit, unit)} claimed")


def at_least(label: str, interval: Interval, unit: str, limit: float) -> Part:
    """A figure that must be ``limit`` or more."""
    effect = Effect(label, interval, unit, limit)
    remark = f"at least {limit_in_unit(limit, unit)} claimed"
    return Part(effect, rules.at_least(interval, limit), remark)


def within(label: str, interval: Interval, unit: str, low: float, high: float) -> Part:
    """A figure that must be in ``low`` to ``high``."""
    effect = Effect(label, interval, unit, high)
    remark = f"{limit_in_unit(low, unit)} to {limit_in_unit(high, unit)} claimed"
    return Part(effect, rules.within(interval, low, high), remark)


def beside(label: str, interval: Interval, unit: str, limit: float | None = None) -> Part:
    """A figure that is reported and decides nothing."""
    return Part(Effect(label, interval, unit, limit))


def untestable(why: str) -> Part:
    """A part of which nothing can be said on this model."""
    return Part(None, ClaimVerdict.UNTESTABLE, why)


def conclude(
    claim: str,
    evidence: Evidence,
    parts: Sequence[Part],
    data: Mapping[str, Any] | None = None,
    remark: str = "",
) -> Finding:
    """The finding that all parts hold, or that one does not.

    Args:
        claim: its number.
        evidence: what was measured.
        parts: at least one that decides.
        data: kept with the finding.
        remark: added to its reason.
    """
    outcome = rules.all_of(part.outcome for part in parts if part.outcome is not None)
    said = list(dict.fromkeys(str(part) for part in parts if part.outcome is outcome))
    why = [*said[:_SAID], *([f"and {len(said) - _SAID} more"] if len(said) > _SAID else [])]
    return Finding(
        claim,
        evidence.model,
        outcome,
        "; ".join([*why, remark] if remark else why),
        tuple(part.effect for part in parts if part.effect is not None),
        tuple(evidence.used),
        dict(data or {}),
    )


def investigate(claim: Claim, evidence: Evidence) -> Finding:
    """What the evidence says about a claim; a cell that fails makes it one not to be tested.

    Raises:
        BrokenEvidence: what was measured contradicts itself.
    """
    try:
        finding = claim.decide(evidence)
    except CannotTest as error:
        cells = tuple(evidence.used)
        return Finding(claim.number, evidence.model, ClaimVerdict.UNTESTABLE, str(error), (), cells)
    if finding.outcome is ClaimVerdict.UNTESTABLE or not (remark := evidence.below_natural_zeros()):
        return finding
    return replace(finding, why=f"{finding.why}; {remark}")
