"""Writes measured damage plus a margin as a budgets file, for a person to review."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep import budgets
from pytest_sparsity.sweep.budgets import METRICS, SCHEMA
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.verdict import Verdict

#: Text as TOML has it.
_quoted = partial(json.dumps, ensure_ascii=False)

#: A budget is the measured interval's worse end, moved by this share of the estimate ...
RELATIVE = 0.10
#: ... and by this much of the metric itself.
ABSOLUTE: Mapping[str, float] = {
    "perplexity": 0.01,
    "kl": 0.01,
    "agreement": 0.01,
    "accuracy": 0.02,
    "exact_match": 0.02,
    "path": 0.05,
    "recovery": 0.02,
    "answer_greedy": 0.02,
    "answer_nll": 0.01,
    "chain_nll": 0.01,
    "kl_reasoning": 0.01,
    "kl_prose": 0.01,
}
assert set(ABSOLUTE) == set(METRICS)


def limit(comparison: Comparison) -> float | None:
    """The proposed budget of a metric; None where the interval is unbounded.

    Rounded to three decimals on the lenient side.
    """
    name = comparison.metric.partition(":")[0]
    if name == "recovery":
        value = comparison.value
        worst = value.low - RELATIVE * abs(value.estimate) - ABSOLUTE[name]
        return math.floor(worst * 1000) / 1000 if math.isfinite(worst) else None
    if comparison.change is None:
        return None
    change = comparison.change
    worst = change.high + RELATIVE * abs(change.estimate) + ABSOLUTE[name]
    return math.ceil(worst * 1000) / 1000 if math.isfinite(worst) else None


def propose(
    path: Path,
    verdicts: Iterable[Verdict],
    settings: Mapping[str, Any],
    target: str,
    keep: bool = False,
) -> None:
    """Write the budgets of everything measured.

    Args:
        path: the budgets file.
        verdicts: with the metrics; what they said is not looked at.
        settings: under which they were measured.
        target: on what machine.
        keep: leave budgets that are in the file as they are, and add those that are not.

    Raises:
        SparsityError: ``path`` cannot be written; or it is kept, and is no budgets file.
    """
    if keep and path.exists():
        known = budgets.load(path)
        fresh = [v for v in verdicts if _place(v) not in known]
        text = path.read_text(encoding="utf-8").rstrip("\n")
        atomic_write(path, "\n".join([text, *_entries(fresh)]) + "\n")
        return
    lines = [
        f"schema = {SCHEMA}",
        "",
        "[about]",
        'margin = "the worse end of the measured 95 % interval, moved by '
        f'{RELATIVE:.0%} of the estimate and by an absolute part per metric"',
        *(f"{name}_margin = {value}" for name, value in ABSOLUTE.items()),
        'max = "perplexity: relative increase; kl: nats per token; agreement: share of tokens '
        "lost; accuracy, exact_match, answer_greedy: drop as a share; path: share of greedy tokens "
        'off the dense path; answer_nll, chain_nll, kl_reasoning, kl_prose: nats per token"',
        'min = "recovery: share of the loss that spontaneous neurons win back"',
        f"target = {_quoted(target)}",
        f"profile = {_quoted(settings['profile'])}",
        f"seed = {settings['seed']}",
        *_entries(verdicts),
    ]
    atomic_write(path, "\n".join(lines) + "\n")


def _place(verdict: Verdict) -> tuple[Configuration, str]:
    return verdict.comparison.cell.configuration, verdict.comparison.metric


def _entries(verdicts: Iterable[Verdict]) -> list[str]:
    """The tables of these metrics, line by line."""
    lines: list[str] = []
    for verdict in verdicts:
        comparison, configuration = verdict.comparison, verdict.comparison.cell.configuration
        value = limit(comparison)
        if value is None:
            continue
        measured = comparison.change if comparison.change is not None else comparison.value
        side = "max" if comparison.change is not None else "min"
        lines += [
            "",
            f"# measured {measured:+.4f}, n = {measured.n}",
            "[[budget]]",
            f"model = {_quoted(configuration.model)}",
            *_weights(configuration),
            f"method = {_quoted(configuration.method)}",
            f"level = {configuration.level!r}",
            f"spon = {_quoted(configuration.spon)}",
            f"metric = {_quoted(comparison.metric)}",
            f"{side} = {value!r}",
        ]
    return lines


def _weights(configuration: Configuration) -> list[str]:
    if configuration.weights == LOADED:  # the default
        return []
    return [f"weights = {_quoted(configuration.weights)}"]
