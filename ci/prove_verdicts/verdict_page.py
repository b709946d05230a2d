"""docs/verdicts.md: what was simulated, in tables, and what a verdict means."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill

from judging import State
from other_rules import NAMES
from populations import gate
from runs import ONCE, OURS, SWEEP, UNADJUSTED, Counted
from scenarios import BUNDLED, CORPORA, GATED, NOTHING_WRONG, TRUTH, all_worse, one_worse
from scipy.stats import binomtest
from tabulate import tabulate
from values import Values, key_of
from variants import BASE, LOSSES

#: Sections that other commands write; what they wrote stays.
KEPT = ("coverage", "power")
_SEEN, _EQUAL = "seen", "equal"
_TEXT = (Path(__file__).parent / "page.md").read_text()


def page(
    known: Mapping[str, Values],
    results: Mapping[str, Counted],
    before: str,
) -> str:
    """The page as Markdown.

    Args:
        known: what was measured.
        results: of each scenario.
        before: the page as it is, whose sections of :data:`KEPT` are taken over.
    """
    text = filled(
        _TEXT.format(
            gated=GATED,
            runs=f"{min(each.runs for each in results.values()):,}",
            looks=len(SWEEP["perplexity"]),
            targets=_targets(results),
            nothing_wrong=_nothing_wrong(results),
            really_worse=_really_worse(known, results),
            red_at_truth=_red_at_truth(results),
            budgets=_budgets(results),
            worse=_worse(results),
            measured=_measured(known),
        )
    )
    for section in KEPT:
        kept, place = (re.search(_marks(section), each, re.DOTALL) for each in (before, text))
        if kept and place:
            text = text[: place.start()] + kept.group(0) + text[place.end() :]
    return text


def filled(text: str) -> str:
    """Paragraphs in lines of 100 characters; headings, tables and comments as they are."""
    blocks = text.rstrip().split("\n\n")
    plain = ("#", "|", "<!--", "- ")
    return "\n\n".join(b if b.startswith(plain) else fill(b, 100) for b in blocks) + "\n"


def _marks(section: str) -> str:
    return f"<!-- {section}: begin -->.*?<!-- {section}: end -->"


def share(k: int, n: int) -> str:
    """A share in percent, with Wilson's interval of 95 %."""
    if not n:
        return ""
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return f"{100 * k / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _upper(k: int, n: int) -> float:
    return float(binomtest(k, n).proportion_ci(method="wilson").high)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    return str(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def _nothing_wrong(results: Mapping[str, Counted]) -> str:
    return _table([_gated(name, results[name]) for name in NOTHING_WRONG if name in results])


def _really_worse(known: Mapping[str, Values], results: Mapping[str, Counted]) -> str:
    """Cells whose change is beyond what is tolerated over all units that were measured."""
    found = []
    for name, variant in NOTHING_WRONG.items():
        for each in gate(known, variant):
            if each.truth > each.limit and name in results:
                states, runs = results[name].states[OURS][each.id], results[name].runs
                worse = math.expm1(each.truth) if each.relative else each.truth
                found.append(
                    f"{name}: {each.id} by {100 * worse:.1f} % over its {each.units} units, red in "
                    f"{share(states[State.RED.value], runs)} % of runs"
                )
    return "; ".join(found) or "none"


def _red_at_truth(results: Mapping[str, Counted]) -> str:
    """The decisions that are red most often where each budget is exactly at the truth."""
    if TRUTH not in results:
        return "none"
    red = Counter({id: c[State.RED.value] for id, c in results[TRUTH].states[OURS].items()})
    return ", ".join(f"{id} {count}" for id, count in red.most_common(4) if count) or "none"


def _gated(name: str, found: Counted) -> dict[str, object]:
    states, runs = found.of(OURS), found.runs
    decisions = states.total()
    return {
        "runs of": name,
        "drawn cells": found.decisions,
        "red, %": share(found.red[OURS], runs),
        "red or suspect, %": share(found.marked, runs),
        "inconclusive cells, %": f"{100 * states[State.INCONCLUSIVE.value] / decisions:.0f}",
        "95 % each": share(found.red[UNADJUSTED], runs),
        **{
            short: share(found.red[rule], runs)
            for rule, short in zip(NAMES, ("lm-eval", "vLLM"), strict=True)
        },
    }


def _worse(results: Mapping[str, Counted]) -> str:
    names = [one_worse(loss, corpus) for loss in LOSSES for corpus in CORPORA]
    names += [all_worse(loss) for loss in LOSSES]
    rows = []
    for name in names:
        if name in results:
            row = _gated(name, results[name])
            del row["inconclusive cells, %"]
            rows.append(row)
    return _table(rows)


def _budgets(results: Mapping[str, Counted]) -> str:
    rows = []
    for name in (BUNDLED, TRUTH):
        if name not in results:
            continue
        found = results[name]
        for rule, title in (
            (OURS, "this package"),
            (UNADJUSTED, "95 % at each of three looks (before)"),
            (ONCE, "95 % at one look"),
        ):
            states = found.of(rule)
            total = states.total()
            worst = max(c[State.PASS.value] / c.total() for c in found.states[rule].values())
            rows.append(
                {
                    "budgets": name,
                    "rule": title,
                    "red runs, %": share(found.red[rule], found.runs),
                    "passes, %": share(states[State.PASS.value], total),
                    "of the worst cell": f"{100 * worst:.1f}",
                    "suspect, %": f"{100 * states[State.SUSPECT.value] / total:.2f}",
                    "inconclusive, %": f"{100 * states[State.INCONCLUSIVE.value] / total:.1f}",
                }
            )
    return _table(rows)


def _targets(results: Mapping[str, Counted]) -> str:
    return _table(list(_held(results)))


def _held(results: Mapping[str, Counted]) -> Iterator[dict[str, object]]:
    def row(asked: str, found: str, reached: bool) -> dict[str, object]:
        return {"asked": asked, "found": found, "reached": "yes" if reached else "**no**"}

    for name in (*NOTHING_WRONG, TRUTH):
        if name in results:
            red, runs = results[name].red[OURS], results[name].runs
            held = red / runs <= 0.01 and _upper(red, runs) <= 0.015
            asked = f"red runs at most 1 %, upper end at most 1.5 %: {name}"
            yield row(asked, f"{share(red, runs)} %", held)
    if TRUTH in results:
        by_decision = results[TRUTH].states[OURS]
        passes = results[TRUTH].of(OURS)
        k, n = passes[State.PASS.value], passes.total()
        id, worst = max(by_decision.items(), key=lambda pair: pair[1][State.PASS.value])
        yield row(
            "a wrong pass at most 2.5 %, budget exactly at the truth, all cells",
            f"{share(k, n)} %",
            k / n <= 0.025,
        )
        k, n = worst[State.PASS.value], worst.total()
        yield row(f"the same of the worst cell, {id}", f"{share(k, n)} %", k / n <= 0.025)
    for loss, least in ((0.02, 0.90), (0.05, 0.95)):
        for corpus in CORPORA:
            name = one_worse(loss, corpus)
            if name in results:
                found = results[name]
                k = found.marked if loss == 0.02 else found.red[OURS]
                what = "at least suspect" if loss == 0.02 else "red"
                asked = f"{what} in {100 * least:.0f} % of runs: {name}"
                yield row(asked, f"{share(k, found.runs)} %", k / found.runs >= least)


def _measured(known: Mapping[str, Values]) -> str:
    """How many units of each variant, and how many of them are equal to the base's."""
    rows: dict[tuple[str, str], dict[str, list[int]]] = {}
    for each in known.values():
        model = each.method if each.method == "dense" else f"{each.method}-{each.level:g}"
        kind = each.evaluation.partition(":")[0]
        row = rows.setdefault((each.variant, model), {})
        row.setdefault(kind, []).append(each.units)
        base = known.get(key_of(BASE, each.method, each.level, each.evaluation))
        if base is not None:
            units = range(min(each.units, base.units))
            row.setdefault(_SEEN, []).append(len(units))
            same = sum(each.mark(unit) == base.mark(unit) for unit in units)
            row.setdefault(_EQUAL, []).append(same)
    columns = {"perplexity": "documents", "task": "items", "generation": "prompts"}
    return _table(
        [
            {
                "variant": variant,
                "model": model,
                **{name: ", ".join(map(str, row.get(k, []))) for k, name in columns.items()},
                "equal to the last bit": ""
                if variant == BASE
                else f"{sum(row.get(_EQUAL, []))} of {sum(row.get(_SEEN, []))}",
            }
            for (variant, model), row in rows.items()
        ]
    )
