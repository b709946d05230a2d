"""The page's part on the question: figures, and what is shown beside accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_sparsity.claims import question_answers as answers
from pytest_sparsity.claims.finding import in_unit
from pytest_sparsity.claims.page.figures import loss_figure, neuron_figure, skew_figure
from pytest_sparsity.claims.page.parts import (
    WORDS,
    effects,
    outcome,
    statement,
    table,
)
from pytest_sparsity.claims.page.runs import ClaimsRun
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.claims.question_answers import FAMILIES, Answers
from pytest_sparsity.claims.question_cells import LEVEL, METHODS
from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.columns import escape

_REASONING, _NEURONS, _FIRST = QUESTION
_SKEW = "neurons.svg"
_HOT_WORDS = """\
Active is the share of neurons that is active on a token; hot the smallest set that holds 80 % of
all activations (per layer: smallest to largest); overlap and correlation compare the hottest 20 %
and all frequencies with the calibration text (overlap by chance is 20 %); naturally 0 are neurons
that ReLU silences; left out is the error of a block's output without its inactive neurons; recall
the share of the best neurons that each method keeps at level 0.5."""
Data = Mapping[str, Any]


def question_section(runs: Sequence[ClaimsRun], folder: str) -> str:
    """The three parts of the question, answered.

    Args:
        runs: at least one.
        folder: of the figures.
    """
    parts = ["## The question"]
    for claim in QUESTION:
        title, shown = _SECTIONS[claim.number]
        answer = "; ".join(f"{escape(r.label)}: {outcome(r, claim.number, WORDS)}" for r in runs)
        parts.append(statement(claim, f"### {title}"))
        parts.append(f"**Answer.** {answer}.")
        parts += shown(runs, folder)
        parts.append(effects(runs, claim.number))
    return "\n\n".join(parts)


def figures_of(runs: Sequence[ClaimsRun]) -> dict[str, bytes]:
    """The figures that the page links to, by file name."""
    found = {}
    for run in runs:
        if lost := _data(run, _REASONING.number):
            found[_file(run, "loss")] = loss_figure(run.label, lost["lost"], lost["text"])
        if kept := _data(run, _NEURONS.number):
            dense = kept["dense"]
            found[_file(run, "hot-cold")] = neuron_figure(
                run.label, kept["methods"], dense, dense["corpus"]
            )
    if reports := [report for run in _by_model(runs) for report in run.neurons]:
        found[_SKEW] = skew_figure(reports)
    return found


def gist(run: ClaimsRun, claim: str) -> str:
    """The figures of a part of the question that a reader should know, in a sentence."""
    lost, kept = _data(run, _REASONING.number), _data(run, _NEURONS.number)
    finding = run.findings.get(claim)
    deciding = [e for e in finding.effects if e.limit is not None] if finding else []
    if claim == _REASONING.number and deciding:
        said = [f"{e.label.partition(':')[0]} {in_unit(e.interval, e.unit)}" for e in deciding]
        return f" Rank correlation: {', '.join(said)}."
    if claim == _NEURONS.number and kept:
        said = [f"{m['method']} {_limits(m['increase'], 2, sign='+')}" for m in kept["methods"]]
        return f" Log-perplexity on {kept['dense']['corpus']}: {', '.join(said)} nats."
    if claim == _FIRST.number and lost:
        own = [*lost["lost"], *({**point, "family": "text"} for point in lost["text"])]
        at = [p for p in own if (p["method"], p["level"]) == (METHODS[0], LEVEL)]
        said = [f"{point['family']} {_percent(point['lost'])}" for point in at]
        beyond = [f"; {e.label} {in_unit(e.interval, e.unit)}" for e in deciding[-1:]]
        return f" Lost with {METHODS[0]} at {LEVEL:g}: {', '.join(said)}{''.join(beyond)}."
    return ""


def _by_run(
    runs: Sequence[ClaimsRun],
    folder: str,
    claim: str,
    figure: tuple[str, str],
    key: str,
    row: Callable[[Data, Data], dict[str, Any]],
) -> list[str]:
    """Heading, figure and table of every run with data on a part of the question.

    Args:
        runs: of the page.
        folder: of the figures.
        claim: the part.
        figure: name of the figure's file and what it shows.
        key: of the data that have a row of the table each.
        row: makes it, from one of these and all data.
    """
    parts = []
    for run in runs:
        if data := _data(run, claim):
            image = _image(folder, _file(run, figure[0]), f"{run.label}: {figure[1]}")
            parts += [f"#### {escape(run.label)}", image, table([row(x, data) for x in data[key]])]
    return parts


def _losses(runs: Sequence[ClaimsRun], folder: str) -> list[str]:
    figure = "loss", "loss against sparsity"
    parts = _by_run(runs, folder, _REASONING.number, figure, "text", _damage)
    if pooled := _pooled(runs):
        parts += ["#### All backbones together", table(pooled)]
    return parts


def _damage(point: Data, data: Data) -> dict[str, Any]:
    """What one method costs at one level, by every measure."""
    lost = {
        p["family"]: _percent(p["lost"])
        for p in data["lost"]
        if (p["method"], p["level"]) == (point["method"], point["level"])
    }
    return {
        "method": point["method"],
        "level": f"{point['level']:g}",
        "skipped": numbers.percent(point["achieved"]),
        **{f"{family} lost": lost.get(family, "refused") for family in FAMILIES},
        "text lost": _percent(point["lost"]),
        "KL": numbers.nats(point["kl"]["estimate"]),
        "greedy steps": numbers.figure(point["greedy"]["estimate"]),
    }


def _pooled(runs: Sequence[ClaimsRun]) -> list[dict[str, Any]]:
    """Rank correlations over tasks, levels and backbones; nothing where only one is evidence."""
    own = [data for run in _by_model(runs) if (data := _data(run, _REASONING.number))]
    rows = []
    for method in dict.fromkeys(method for data in own for method in data["answers"]):
        by_run = [[Answers.from_json(t) for t in data["answers"].get(method, ())] for data in own]
        for family in FAMILIES:
            usable = [tasks for given in by_run if (tasks := answers.usable(given, family))]
            if len(usable) < 2:
                continue
            together = [task for tasks in usable for task in tasks]
            found = answers.correlation(together, seed=0)
            rows.append(
                {
                    "method": method,
                    "family": family,
                    "rank correlation": in_unit(found, "correlation"),
                    "backbones": len(usable),
                    "cells": sum(len(task.achieved) for task in together),
                    "items": found.n,
                }
            )
    return rows


def _neurons(runs: Sequence[ClaimsRun], folder: str) -> list[str]:
    figure = "hot-cold", "hot, cold and random neurons"
    parts = _by_run(runs, folder, _NEURONS.number, figure, "methods", _kept)
    if any(run.neurons for run in runs):
        parts.append("#### How hot the hot neurons are")
        parts.append(_image(folder, _SKEW, "share of activations held by the most active neurons"))
        hot = [_hot(run, text) for run in _by_model(runs) for text in _texts(run)]
        parts += [table(hot), _HOT_WORDS]
    return parts


def _kept(method: Data, data: Data) -> dict[str, Any]:
    accuracy, dense = method["accuracy"], data["dense"]
    against = "" if dense["accuracy"] is None else f" (dense {_percent(dense['accuracy'])})"
    return {
        "keeps": method["method"],
        "skipped": numbers.percent(method["achieved"]),
        f"log-perplexity on {method['corpus']}": _limits(method["increase"], 3, sign="+"),
        "KL": _limits(method["kl"], 3),
        "greedy steps": numbers.figure(method["greedy"]["estimate"]),
        f"reasoning accuracy{against}": "refused" if accuracy is None else _percent(accuracy),
    }


def _texts(run: ClaimsRun) -> list[Data]:
    data = _data(run, _NEURONS.number)
    return list(data["neurons"]) if data else []


def _hot(run: ClaimsRun, text: Data) -> dict[str, Any]:
    layers, recall = [100 * share for share in text["hot_layers"]], text["recall"]
    ranks = text["correlation"]
    return {
        "model": run.model,
        "text": text["corpus"],
        "active": numbers.percent(text["active"]),
        "hot": f"{numbers.percent(text['hot'])} ({min(layers):.0f} to {max(layers):.0f})",
        "overlap": "" if text["overlap"] is None else numbers.percent(text["overlap"]),
        "correlation": "" if ranks is None else f"{ranks:.2f}",
        "naturally 0": "none" if text["truncation"] else numbers.percent(1 - text["active"]),
        "left out": numbers.percent(text["truncation"]),
        "recall": ", ".join(f"{name} {100 * share:.0f} %" for name, share in recall.items()),
    }


def _nothing(runs: Sequence[ClaimsRun], folder: str) -> list[str]:
    """What is lost is shown with the first part."""
    return []


#: Heading of a part, and what is shown of it besides its figures.
_SECTIONS = {
    _REASONING.number: ("Does reasoning suffer from sparsity?", _losses),
    _NEURONS.number: ("Hot and cold neurons", _neurons),
    _FIRST.number: ("Does reasoning suffer first?", _nothing),
}


def _data(run: ClaimsRun, claim: str) -> Data:
    """What was kept with a finding; empty if it was not run or could not be tested."""
    finding = run.findings.get(claim)
    return {} if finding is None else finding.data


def _by_model(runs: Sequence[ClaimsRun]) -> list[ClaimsRun]:
    """The first run of every model: what hardly changes from seed to seed is shown once."""
    return list({run.model: run for run in reversed(runs)}.values())[::-1]


def _file(run: ClaimsRun, name: str) -> str:
    return f"{run.slug}-{name}.svg"


def _image(folder: str, file: str, alt: str) -> str:
    return f"![{escape(alt)}]({folder}/{file})"


def _percent(value: Data) -> str:
    return _limits(value, 1, 100.0, " %")


def _limits(value: Data, digits: int, scale: float = 1.0, unit: str = "", sign: str = "") -> str:
    """``12.5 % [3.1, 20.4]`` from plain data; n/a where there is no number."""
    shown = [
        "n/a" if value[name] is None else numbers.figure(scale * value[name], digits, sign)
        for name in ("estimate", "low", "high")
    ]
    return f"{shown[0]}{unit} [{shown[1]}, {shown[2]}]"
