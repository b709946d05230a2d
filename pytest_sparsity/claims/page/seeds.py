"""The page's part on seeds: figures of one model pooled over the seeds that it was run with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.claims.claim import Claim
from pytest_sparsity.claims.finding import Effect, in_unit
from pytest_sparsity.claims.page.parts import outcome, table
from pytest_sparsity.claims.page.runs import ClaimsRun, alike
from pytest_sparsity.core.statistics import Interval, Pooled, pool_seeds
from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.columns import escape

_TEXT = """\
Runs that differ in the seed only. *Together* is the mean over seeds, with an interval that knows
both errors: that of the documents and items, which is not smaller for what all seeds read, and the
spread between seeds (Student's t over seeds; Hartung & Knapp 2001, Zou & Donner 2008). *SD* is the
standard deviation between seeds, *beyond* the part of it that other documents and items do not
explain. Calibration and training are the same for all seeds. Verdicts are those of every seed by
itself: none is pooled."""
#: What no figure of a unit can be below or above.
_POSSIBLE = {"correlation": (-1.0, 1.0), "count": (0.0, math.inf), "relative": (-1.0, math.inf)}
#: Longer tables are folded away.
_SHOWN = 8
#: Figures of a claim that are named in plain words.
_SAID = 3


@dataclass(frozen=True)
class SeedsOfOne:
    """Runs of one model that differ in the seed only.

    Attributes:
        label: model, profile and seeds.
        runs: at least two.
        common: share of what one seed read that another read, too.
        told: whether the runs say so; runs of before do not, and read the same documents.
    """

    label: str
    runs: tuple[ClaimsRun, ...]
    common: float
    told: bool

    def effects(self, claim: str) -> Iterator[tuple[Effect, Pooled, Sequence[Effect]]]:
        """Every figure of a claim that all seeds have: pooled, its spread, and each seed's."""
        own = [_figures(run, claim) for run in self.runs]
        for label, first in own[0].items():
            found = [figures[label] for figures in own if label in figures]
            units = {(each.unit, each.limit, each.interval.confidence) for each in found}
            if len(found) == len(self.runs) and len(units) == 1:
                pooled = pool_seeds([each.interval for each in found], self.common)
                together = replace(first, interval=_within_reach(pooled.interval, first.unit))
                yield together, pooled, found


def seeds_of_one(runs: Iterable[ClaimsRun]) -> list[SeedsOfOne]:
    """The runs, grouped by all but the seed; models with one seed are left out."""
    groups: dict[str, list[ClaimsRun]] = {}
    for run in runs:
        known = {name: value for name, value in alike(run.origin).items() if name != "seed"}
        groups.setdefault(json.dumps([run.model, known], sort_keys=True), []).append(run)
    return [_group(own) for own in groups.values() if len(own) > 1]


def seeds_gist(group: SeedsOfOne, claim: str) -> str:
    """The first figures that decide a claim, pooled, in a sentence; empty if there are none."""
    said = [
        f"{effect.label} {in_unit(effect.interval, effect.unit)} (SD between seeds "
        f"{_size(pooled.between, effect.unit)})"
        for effect, pooled, _ in group.effects(claim)
        if effect.limit is not None
    ]
    more = f"; and {len(said) - _SAID} more" if len(said) > _SAID else ""
    return f" {'; '.join(said[:_SAID])}{more}." if said else ""


def seeds_section(runs: Sequence[ClaimsRun], claims: Sequence[Claim]) -> str:
    """Pooled figures of the claims, a table per model; empty where no model has two seeds."""
    groups = seeds_of_one(runs)
    if not groups:
        return ""
    return "\n\n".join(["## Seeds together", _TEXT, *(_section(g, claims) for g in groups)])


def agreement(group: SeedsOfOne, claims: Sequence[Claim]) -> str:
    """Whether the seeds have the same verdicts."""
    found = {c.number: [outcome(run, c.number) for run in group.runs] for c in claims}
    differing = [
        f"{number} ({' and '.join(verdicts)})"
        for number, verdicts in found.items()
        if len(set(verdicts)) > 1
    ]
    if differing:
        return f"seeds differ on {', '.join(differing)}"
    return "those of all seeds are the same"


def _section(group: SeedsOfOne, claims: Sequence[Claim]) -> str:
    rows = [_row(claim.number, *found) for claim in claims for found in group.effects(claim.number)]
    shown = table(rows) if rows else "No figure can be pooled."
    if len(rows) > _SHOWN:
        shown = f"<details><summary>{len(rows)} figures</summary>\n\n{shown}\n\n</details>"
    title = f"### {escape(group.label)}"
    verdicts = f"Verdicts: {agreement(group, claims)}."
    return f"{title}\n\n{_caution(group)} {verdicts}\n\n{shown}"


def _caution(group: SeedsOfOne) -> str:
    """How little so few seeds show, and what they have in common."""
    seeds = len(group.runs)
    unit = Interval(0.0, 0.0, 0.0, 1, 0.95, math.nan)
    two = pool_seeds(
        [replace(unit, estimate=float(n), low=float(n), high=float(n)) for n in range(seeds)], 1.0
    )
    low, high = two.between_low / two.between, two.between_high / two.between
    few = (
        f"{seeds} seeds show little of the spread: the true SD is between {low:.2g} and {high:.2g} "
        "times what is seen here (95 %), and may be large where 0 is seen."
    )
    share = numbers.percent(group.common)
    if not group.told:
        return (
            f"{few} The runs do not say what they read, as those of before seeds drew documents: "
            "all seeds are taken to have read the same, so that drawing documents is no part of "
            "the spread."
        )
    return f"{few} Of what one seed read, another read up to {share}, too."


def _row(claim: str, effect: Effect, pooled: Pooled, found: Sequence[Effect]) -> dict[str, Any]:
    own = [in_unit(each.interval, each.unit).partition(" [")[0] for each in found]
    beyond = pooled.beyond
    return {
        "claim": claim,
        "figure": effect.label,
        "seeds": ", ".join(own),
        "together": in_unit(effect.interval, effect.unit),
        "interval": f"{100 * effect.interval.confidence:.4g} %",
        "SD": _size(pooled.between, effect.unit),
        "beyond": "" if math.isnan(beyond) else _size(beyond, effect.unit),
    }


def _size(value: float, unit: str) -> str:
    """A standard deviation by the unit of an effect: without a sign and limits."""
    if math.isnan(value):
        return "undefined"
    written = in_unit(Interval(value, value, value, 1, 0.95, math.nan), unit)
    return written.partition(" [")[0].removeprefix("+")


def _within_reach(found: Interval, unit: str) -> Interval:
    """The same without what a figure of this unit cannot be."""
    low, high = _POSSIBLE.get(unit, (-math.inf, math.inf))
    return replace(found, low=max(found.low, low), high=min(found.high, high))


def _figures(run: ClaimsRun, claim: str) -> dict[str, Effect]:
    finding = run.findings.get(claim)
    effects = finding.effects if finding else ()
    return {effect.label: effect for effect in effects if math.isfinite(effect.interval.estimate)}


def _group(runs: Sequence[ClaimsRun]) -> SeedsOfOne:
    ordered = sorted(runs, key=lambda run: int(run.origin["seed"]))
    read = [taken for run in ordered for taken in run.origin.get("read", {}).values()]
    told = all("read" in run.origin for run in ordered) and bool(read)
    *first, last = [str(run.origin["seed"]) for run in ordered]
    return SeedsOfOne(
        f"{ordered[0].model}, {ordered[0].origin['profile']}, seeds {', '.join(first)} and {last}",
        tuple(ordered),
        max(taken / there for taken, there in read) if told else 1.0,
        told,
    )
