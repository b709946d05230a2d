"""The files that a sweep leaves behind for readers: summary.json, summary.md and pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.reporting.arrange import Results
from pytest_sparsity.reporting.columns import escape
from pytest_sparsity.reporting.picture import draw
from pytest_sparsity.reporting.table import LEGEND, problems, remarks, tables

if TYPE_CHECKING:
    from pytest_sparsity.sweep.budgets import Budget
    from pytest_sparsity.sweep.cell import Cell, Configuration
    from pytest_sparsity.sweep.skipped import Skipped
    from pytest_sparsity.sweep.verdict import Verdict

SCHEMA = 2
JSON = "summary.json"
MARKDOWN = "summary.md"


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from, as far as it is known.

    Attributes:
        command: what to type to get them again.
        target: the hardware.
        versions: of this package and of those that numbers depend on; None if not installed.
        data: corpora and tasks by name: source, licence, hash.
        when: ISO time of the end, UTC.
        left_out: documents that were not measured, by corpus and model.
    """

    command: str = "pytest --sparsity-sweep"
    target: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A section that others add to summary.md.

    Attributes:
        title: its heading.
        markdown: what stands below.
    """

    title: str
    markdown: str


def write_summary(
    directory: Path,
    verdicts: Sequence[Verdict],
    skipped: Mapping[Cell, Skipped],
    settings: Mapping[str, object],
    origin: Origin | None = None,
    notes: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
    run: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write everything into ``directory``, each file whole or not at all; summary.json comes last.

    Args:
        directory: made if it is missing.
        verdicts: one per metric of every cell, the dense model's among them.
        skipped: the share of the model that was really skipped, by configuration and corpus.
        settings: options in force by name, the seed among them.
        origin: where the numbers come from.
        notes: remarks about methods, by name.
        sections: of others, for summary.md.
        run: how verdicts were held for the run: its ``error``, the number of ``decisions`` in it,
            and in words ``looks`` and ``control``.

    Returns:
        The files written.

    Raises:
        SparsityError: a file cannot be written.
    """
    results, origin = Results(verdicts, skipped, notes or {}), origin or Origin()
    drawn = {model: draw(results, model) for model in results.models}
    contents: dict[str, str | bytes] = {
        f"{_stem(model)}.{kind}": image
        for model, images in drawn.items()
        for kind, image in images.items()
    }
    pictures = {model: f"{_stem(model)}.png" for model, images in drawn.items() if images}
    contents[MARKDOWN] = summary_markdown(results, settings, origin, pictures, sections, run)
    contents[JSON] = summary_json(results, settings, origin, run)
    for name, content in contents.items():
        atomic_write(directory / name, content)
    return [directory / name for name in contents]


def summary_json(
    results: Results,
    settings: Mapping[str, object],
    origin: Origin,
    run: Mapping[str, object] | None = None,
) -> str:
    """Everything machine-readable, as strict JSON: what is not finite is null."""
    content = {
        "schema": SCHEMA,
        "settings": settings,
        "origin": asdict(origin),
        "counts": _counts(results),
        "run": run,
        "configurations": [
            {"id": c.id, **asdict(c), "skipped": _skipped(results, c)}
            for model in results.models
            for c in results.configurations(model)
        ],
        "metrics": [_metric(verdict) for verdict in results.verdicts],
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def summary_markdown(
    results: Results,
    settings: Mapping[str, object],
    origin: Origin,
    pictures: Mapping[str, str],
    sections: Sequence[Section] = (),
    run: Mapping[str, object] | None = None,
) -> str:
    """The tables, verdicts and origin of the results, for GitHub.

    Args:
        results: what was measured.
        settings: options in force by name.
        origin: where the numbers come from.
        pictures: file name of a model's picture, beside the page.
        sections: of others, behind the results.
        run: see :func:`write_summary`.
    """
    parts = ["# Sparsity sweep", _headline(results), *_of_run(run)]
    for model in results.models:
        parts.append(f"## {escape(model)}")
        if model in pictures:
            alt = f"Perplexity and accuracy of {model} against level"
            parts.append(f"![{escape(alt)}]({quote(pictures[model])})")
        parts += [table.markdown() for table in tables(results, model)]
    if results.verdicts:
        parts.append(" ".join(map(escape, [*LEGEND, *remarks(results)])))
    if found := problems(results.verdicts):
        parts += [
            "## Failing, suspect, inconclusive and refused",
            _list(verdict.message for verdict in found),
        ]
    for section in sections:
        parts += [f"## {escape(section.title)}", section.markdown.strip()]
    parts += ["## How this was measured", *_origin(settings, origin)]
    return "\n\n".join(parts) + "\n"


def _headline(results: Results) -> str:
    if not results.verdicts:
        return "Nothing was measured."
    counts = ", ".join(
        f"{number} {outcome}"
        for outcome, number in _counts(results).items()
        if number or outcome not in ("suspect", "refused")
    )
    return f"Verdicts: {counts}."


def _of_run(run: Mapping[str, object] | None) -> Iterator[str]:
    """What the verdicts mean for the run as a whole."""
    if run is not None and run["decisions"]:
        yield (
            f"A run in which nothing is wrong fails with a chance of at most {run['error']:g}, "
            f"over all {run['decisions']} decisions of this one. What is beyond its budget by "
            "its own interval, but does not hold for the run, is suspect. Intervals hold at all "
            "looks that were planned."
        )


def _origin(settings: Mapping[str, object], origin: Origin) -> Iterator[str]:
    versions = [f"{name} {version}" for name, version in origin.versions.items() if version]
    facts = {
        "When": origin.when,
        "Target": origin.target,
        "Versions": ", ".join(versions),
        **{f"Data, {name}": what for name, what in origin.data.items()},
        **{f"Left out, {name}": what for name, what in origin.left_out.items()},
        **{f"Setting {name}": json.dumps(_plain(value)) for name, value in settings.items()},
    }
    if known := [f"{name}: {what}" for name, what in facts.items() if what]:
        yield _list(known)
    yield "To run it again:"
    yield f"```sh\n{origin.command}\n```"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _counts(results: Results) -> dict[str, int]:
    from pytest_sparsity.sweep.verdict import Outcome

    counts = results.counts()
    return {outcome.value: counts[outcome.value] for outcome in Outcome}


def _skipped(results: Results, configuration: Configuration) -> dict[str, object]:
    """By corpus, the shares skipped on it."""
    found = results.skipped.items()
    return {cell.subject: asdict(s) for cell, s in found if cell.configuration == configuration}


def _metric(verdict: Verdict) -> dict[str, object]:
    comparison = verdict.comparison
    return {
        "configuration": comparison.cell.configuration.id,
        "evaluation": comparison.cell.evaluation,
        "metric": comparison.metric,
        "value": asdict(comparison.value),
        "change": None if comparison.change is None else asdict(comparison.change),
        "dense": comparison.dense,
        "p_value": comparison.p_value,
        "outcome": verdict.outcome.value,
        "look": verdict.look,
        "p_alone": None if verdict.evidence is None else verdict.evidence.p,
        "p_run": verdict.p_run,
        "refused": comparison.refused or None,
        "budget": None if verdict.budget is None else _budget(verdict.budget),
    }


def _budget(budget: Budget) -> dict[str, object]:
    return {"min" if budget.is_minimum else "max": budget.limit, "origin": budget.origin}


def _plain(value: object) -> object:
    """What JSON can hold: no infinities, no NaN, no types of our own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(content) for key, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(content) for content in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def _stem(model: str) -> str:
    """Name of a model's picture, safe in a file system and a URL."""
    return f"accuracy-{re.sub(r'[^A-Za-z0-9._-]', '_', model)}"
