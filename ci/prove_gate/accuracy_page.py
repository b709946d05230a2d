"""The accuracy half of docs/gate.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accuracy_summary import Rates, Summary, summary
from rivals_accuracy import RULES
from tabulate import tabulate

from pytest_sparsity.core.statistics import proportion
from pytest_sparsity.settings.settings import PROFILES
from pytest_sparsity.sweep.changes import PERPLEXITY_TOLERANCE

_DEFAULT = PROFILES["quick"].sizes.documents

_TEXT = """\
## Accuracy
The real default model, smollm2-135m, is gated against itself, against the same model with harmless
changes, and against versions that are worse by a known loss. `judge_change` decides, as in
`pytest --sparsity-gate=fail`: regressed if the whole interval of the paired change of perplexity is
beyond {tolerance:g} %, ok if none of it is, else inconclusive, which skips the test and says so.

### Identical models
{identical}

### Changed models
Worse are versions whose linear layers have Gaussian noise added, in proportion to the spread of
their weights, or are rounded to coarser steps, each from two seeds: the first moves every weight at
random, the second as a coarser quantisation does. The size was found on the second 256 tokens of
documents; decided is on the first ones, {documents} at a time (the default), no document twice.
Harmless are changes that compute the same function and round otherwise. The loss is that over all
documents of a corpus, from the least to the largest of the versions.

{draws}

### Beside other rules
The same documents, drawn with replacement from what was measured, the loss made exact by moving
every token's alike: so the shares do not hang on how well the size was met. All rules see both
models on the same documents.

{rivals}

A fixed tolerance at half of the loss finds that loss more often than an interval that must lie
beyond it, and pays for it on the sparse model, where a harmless change of rounding moves single
documents by per cents. It also never says that it does not know.

### How many documents
Share of decisions that are regressed, by documents per corpus:

{power}

{needed}"""


def accuracy_section(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown from the rows of ``accuracy.prove``; says so if there are none."""
    if not rows:
        return "## Accuracy\nNot measured."
    found = summary(rows)
    return _TEXT.format(
        tolerance=100 * PERPLEXITY_TOLERANCE,
        documents=_DEFAULT,
        identical=_identical(found),
        draws=_table(
            [
                {
                    "change": rates.what,
                    "loss, %": f"{100 * rates.true[0]:+.2f} to {100 * rates.true[1]:+.2f}",
                    "decisions": rates.decisions,
                    **{
                        name: rates.ours.get(name, 0)
                        for name in ("regressed", "inconclusive", "ok", "improved")
                    },
                }
                for rates in found.draws
            ]
        ),
        rivals=_rivals([rates for rates in found.drawn if rates.documents == _DEFAULT]),
        power=_power([rates for rates in found.drawn if rates.loss]),
        needed=" ".join(_needed(loss, number) for loss, number in found.needed.items()),
    )


def _identical(found: Summary) -> str:
    """One line per kind of evaluation."""
    table = []
    for kind in dict.fromkeys(one.evaluation for one in found.identical):
        cells = [one for one in found.identical if one.evaluation == kind]
        table.append(
            {
                "evaluation": kind,
                "cells": len(cells),
                "scored twice": sum(one.units for one in cells),
                "per decision": cells[0].size,
                "decisions": sum(one.decisions for one in cells),
                "equal to the last bit": sum(one.equal for one in cells),
                "false alarms": sum(one.alarms for one in cells),
            }
        )
    every = [one for one in found.identical if one.decisions]
    decisions, alarms = sum(one.decisions for one in every), sum(one.alarms for one in every)
    return (
        f"Two fresh processes scored the same cells: {alarms} false alarms in {decisions} "
        f"decisions.\n\n{_table(table)}"
    )


def _rivals(drawn: Sequence[Rates]) -> str:
    table = [
        ["decisions", *(str(rates.decisions) for rates in drawn)],
        ["**this gate**, regressed", *(_percent(rates.share("regressed")) for rates in drawn)],
        ["this gate, inconclusive", *(_percent(rates.share("inconclusive")) for rates in drawn)],
        *([rule, *(_percent(rates.alarms(rule)) for rates in drawn)] for rule in RULES),
    ]
    headers = ["called worse, %", *(rates.what for rates in drawn)]
    return str(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))


def _power(drawn: Sequence[Rates]) -> str:
    numbers = sorted({rates.documents for rates in drawn})
    table = []
    for what in dict.fromkeys(rates.what for rates in drawn):
        by_number = {rates.documents: rates for rates in drawn if rates.what == what}
        table.append(
            {"loss": what.removesuffix(" loss")}
            | {str(number): _with_interval(by_number[number]) for number in numbers}
        )
    return _table(table)


def _with_interval(rates: Rates) -> str:
    share = proportion(rates.ours.get("regressed", 0), rates.decisions)
    return f"{100 * share.estimate:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _needed(loss: float, number: int | None) -> str:
    if number is None:
        return f"A loss of {100 * loss:g} % is not caught nine times in ten by any of these."
    return f"A loss of {100 * loss:g} % is caught nine times in ten with {number} documents."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return str(tabulate(list(rows), headers="keys", tablefmt="github", disable_numparse=True))
