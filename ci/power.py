"""Write what the verdicts of a run can show, a section of docs/verdicts.md: ``python ci/power.py``.

Of the spreads in suites/accuracy/spreads.json (``ci/spreads.py``).  What is worked out for TEAL at
level 0.5 is tried: runs are drawn from the same documents and items, an effect of that size added,
and decided as the package does.  Some minutes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np
from tabulate import tabulate

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.core.statistics import Vector, paired_mean, paired_proportion
from pytest_sparsity.core.statistics.family import LOST_AND_WON
from pytest_sparsity.core.statistics.tails import repeated, upper_tail
from pytest_sparsity.reporting.forecast_tables import shown, unit_of, unit_of_metric
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.forecast import Control, Forecast, Planned
from pytest_sparsity.sweep.known_spreads import bundled
from pytest_sparsity.sweep.make_forecast import Sources, make_forecast
from pytest_sparsity.sweep.stores import make_stores

PAGE = Path(__file__).parents[1] / "docs" / "verdicts.md"
BEGIN, END = "<!-- power: begin -->", "<!-- power: end -->"
#: Runs that are drawn for what must hold for the run, and for a cell alone, which costs more.
RUNS, RUNS_ALONE = 1000, 400


def main() -> int:
    """Write the section; the exit status."""
    known = bundled()
    settings = replace(default_settings(), suites=("accuracy",))
    forecast = make_forecast(settings, make_stores(settings).texts, Sources({}, known, ""))
    section = f"{BEGIN}\n{_section(forecast, known.machine, known.when)}\n{END}"
    page = (
        PAGE.read_text()
        if PAGE.exists()
        else f"# How sure the verdicts of a run are\n\n{BEGIN}{END}\n"
    )
    if BEGIN not in page:
        page = f"{page}\n## Power\n\n{BEGIN}{END}\n"
    atomic_write(PAGE, re.sub(f"{BEGIN}.*{END}", lambda _: section, page, flags=re.DOTALL))
    print(f"wrote {PAGE}")
    return 0


def _section(forecast: Forecast, machine: str, when: str) -> str:
    teal = Configuration("smollm2-135m", "teal", 0.5)
    own = [each for each in forecast.planned if each.cell.configuration == teal]
    accuracy = [e for e in forecast.planned if e.metric.startswith("accuracy")]
    alone, run = forecast.controls.alone, forecast.controls.run
    table = tabulate(
        list(_rows(own, forecast)), headers="keys", tablefmt="github", disable_numparse=True
    )
    before = (
        "Written by `python ci/power.py` from one sweep of the default model (quick profile, "
        f"{machine}, {when}): what `pytest --sparsity-plan` prints, and how often it comes true.",
        f"A sweep takes {len(forecast.decisions)} decisions, and is red in at most "
        f"{100 * forecast.error:g} % of runs with nothing wrong. Below is the smallest effect "
        "beyond the budget that is found in 90 % of runs, of TEAL at level 0.5: of a cell alone at "
        "95 %, at its first look and at all of them; and red in the run, by Bonferroni, by Holm "
        "where all others were found before, and by the step-down that decides, where this cell "
        "alone is worse. *Halved by*: so many units at the first look find half of that in the "
        f"run. *True*: in so many of {RUNS_ALONE} runs (alone) or {RUNS} (in the run) that were "
        "drawn from the same units an effect of that size was found: fewer where "
        "units are skewed, whose tail a decision holds for longer than the theory does. Of eight "
        "prompts the theory is no guide: bounds of shares let hardly any be red "
        "in the run, which neither column knows.",
    )
    after = (
        f"Of accuracy in all {len(accuracy)} cells the smallest effect is "
        f"{_range(accuracy, alone)} points alone and {_range(accuracy, run)} in the run, and "
        f"{_halving(accuracy, run)} items at the first look halve it."
    )
    return "\n\n".join((*(fill(text, 100) for text in before), table, fill(after, 100)))


def _rows(planned: Sequence[Planned], forecast: Forecast) -> Iterator[dict[str, str]]:
    ways = forecast.controls
    for each in planned:
        found = each.needed(ways.run, each.effect(ways.run) / 2)
        yield {
            "metric": each.metric,
            "in": unit_of_metric(each.metric),
            "looks at": f"{', '.join(map(str, each.amounts))} {unit_of(each.cell)}",
            "1 look": shown(each.metric, each.effect(ways.one_look)),
            "alone": shown(each.metric, each.effect(ways.alone)),
            "true, %": f"{100 * _found_alone(each, ways.alone):.0f}",
            "Bonferroni": shown(each.metric, each.effect(ways.bonferroni)),
            "Holm": shown(each.metric, each.effect(ways.holm_last)),
            "step-down": shown(each.metric, each.effect(ways.run)),
            "true, % ": f"{100 * _found_in_run(each, ways.run):.0f}",
            "halved by": str(found),
        }


def _found_in_run(each: Planned, way: Control) -> float:
    """Share of drawn runs in which one of the looks is beyond what one decision may err by."""
    limit, looks = _limit(each), len(each.amounts)
    added = [lost - limit for lost in LOST_AND_WON] if _counts(each) else []
    found = 0
    for values in _drawn(each, each.effect(way), RUNS):
        excess = values - limit
        tails = (repeated(upper_tail([*excess[:n], *added]), looks) for n in each.amounts)
        found += any(tail <= way.error for tail in tails)
    return found / RUNS


def _found_alone(each: Planned, way: Control) -> float:
    """Share of drawn runs in which the interval of one of the looks is wholly beyond the limit."""
    limit, looks, found = _limit(each), len(each.amounts), 0
    for values in _drawn(each, each.effect(way), RUNS_ALONE):
        for n in each.amounts:
            if _counts(each):
                interval = paired_proportion(
                    (values[:n] >= 0).tolist(), (values[:n] <= 0).tolist(), looks=looks
                )
                # An item of value 1 was right in dense alone; one of 0 in both, or in neither.
            else:
                interval = paired_mean(values[:n], seed=0, looks=looks)
            if interval.low > limit:
                found += 1
                break
    return found / RUNS_ALONE


def _drawn(each: Planned, effect: float, runs: int) -> Iterator[Vector]:
    """What each unit of a run loses, where the truth is ``effect`` beyond the limit."""
    assert each.known is not None
    influence, rng = each.known.influence, np.random.default_rng(0)
    values = influence.values * len(influence.units) + influence.estimate
    if _counts(each):
        values = np.rint(values)  # -1, 0 or 1
    beyond = _limit(each) + effect - influence.estimate
    for _ in range(runs):
        drawn = rng.choice(values, each.amounts[-1])
        if _counts(each):
            # Of the items that both have right or wrong, so many more are lost.
            lost = (drawn == 0) & (rng.random(drawn.size) < beyond / (values == 0).mean())
            yield np.where(lost, 1.0, drawn)
        else:
            yield drawn + beyond


def _limit(each: Planned) -> float:
    assert each.known is not None
    return each.known.influence.estimate if each.limit is None else each.limit


def _counts(each: Planned) -> bool:
    return each.known is not None and each.known.counts


def _range(planned: Sequence[Planned], way: Control) -> str:
    effects = [each.effect(way) for each in planned]
    return " to ".join(shown(planned[0].metric, end) for end in (min(effects), max(effects)))


def _halving(planned: Sequence[Planned], way: Control) -> str:
    found = [each.needed(way, each.effect(way) / 2) or 0 for each in planned]
    return f"{min(found)} to {max(found)}"


if __name__ == "__main__":
    sys.exit(main())
