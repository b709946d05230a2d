"""The page's part on where the figures come from, and what it took to get them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.page.parts import table
from pytest_sparsity.claims.page.runs import DECISIVE_SETTINGS, ClaimsRun
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.models.prepare import short_name
from pytest_sparsity.reporting import numbers
from pytest_sparsity.settings.saved import to_json
from pytest_sparsity.settings.settings import default_settings

#: Kinds of cost: how they are headed, and their names in a record.
_SPENT = {"calibration": "calibration", "method": "method", "spontaneous neurons": "spon"}


def origin_section(runs: Sequence[ClaimsRun]) -> str:
    """Machine, versions, settings and data of every run, and the commands."""
    folders = " ".join(_folder(run) for run in runs)
    commands = "\n".join([*map(_command, runs), f"pytest-sparsity findings {folders}"])
    return (
        f"## How this was measured\n\n{table([_run(run) for run in runs])}\n\n"
        "Sizes are documents per corpus, tokens per document, items per task, greedy prompts and "
        "calibration documents. Calibration, training and evaluation text are disjoint.\n\n"
        f"{table(_data(runs))}\n\nTo measure it again, and to write this page:\n\n"
        f"```sh\n{commands}\n```"
    )


def cost_section(runs: Sequence[ClaimsRun]) -> str:
    """What calibration, methods and training of spontaneous neurons took, per configuration."""
    each = {tuple(row.items()): row for run in runs for row in _costs(run)}  # a seed adds nothing
    rows = [row for row in each.values() if any(row[spent] for spent in _SPENT)]
    if not rows:
        return "## What preparing it cost\n\nNothing had to be prepared."
    return (
        "## What preparing it cost\n\n"
        "In tokens and seconds of the run that did it, also where it came from the cache. "
        "Calibration is one pass for all methods and levels of the same weights; training a "
        "predictor serves all levels.\n\n" + table(rows)
    )


def _run(run: ClaimsRun) -> dict[str, Any]:
    origin = run.origin
    sizes, target, settings = origin["sizes"], origin["target"], origin["settings"]
    versions = ", ".join(f"{name} {v}" for name, v in origin["versions"].items() if v)
    return {
        "run": run.label,
        "profile, seed": f"{origin['profile']}, {origin['seed']}",
        "weights": f"{origin['dtype']}, {origin['weights'][:12]}",
        "machine": f"{target['name']}, {target['cores']} cores",
        "versions": versions,
        "sizes": ", ".join(
            str(sizes[name]) for name in ("documents", "window", "items", "prompts", "calibration")
        ),
        "dense positions": settings["prefill"],
        "when": origin["when"],
    }


def _data(runs: Sequence[ClaimsRun]) -> list[dict[str, str]]:
    """Texts and tasks with licence and hash, each once; seeds read them in other orders."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, what in run.origin["data"].items():
            found.setdefault(name, {})[what] = None
        for claim in QUESTION:
            finding = run.findings.get(claim.number)
            for task in _sources(finding.data if finding else {}):
                what = f"{task['licence']}; {task['hash']}"
                found.setdefault(task["task"], {})[what] = None
    return [{"data": name, "licence and hash": _hashes(own)} for name, own in found.items()]


def _hashes(found: Iterable[str]) -> str:
    """Licences with the hashes of all orders: ``MIT; 0123, 4567``."""
    by_licence: dict[str, list[str]] = {}
    for what in found:
        licence, _, hash = what.rpartition("; ")
        by_licence.setdefault(licence, []).append(hash)
    return " / ".join(f"{licence}; {', '.join(own)}" for licence, own in by_licence.items())


def _sources(data: Mapping[str, Any]) -> Iterable[Mapping[str, str]]:
    tasks: Iterable[Mapping[str, str]] = data.get("sources", ())
    return tasks


def _command(run: ClaimsRun) -> str:
    settings, usual = run.origin["settings"], to_json(default_settings())
    own = {name: settings.get(name) for name in DECISIVE_SETTINGS}
    changed = {name: value for name, value in own.items() if value != usual[name]}
    values = {n: ",".join(v) if isinstance(v, list) else v for n, v in changed.items()}
    options = {
        "suite": "claims",
        "model": next((m for m in settings["models"] if short_name(m) == run.model), run.model),
        "profile": settings["profile"],
        "seed": settings["seed"],
        **values,
        "report": _folder(run),
    }
    given = [f"--sparsity-{name}={value}" for name, value in options.items()]
    return shlex.join(["pytest", "--sparsity-sweep", *given, *_chosen(run)])


def _chosen(run: ClaimsRun) -> list[str]:
    """What chooses the claims of a run, if it was not about all of them."""
    judged = [number for number in CATALOG if number in run.findings]
    if len(judged) == len(CATALOG):
        return []
    return ["-k", " or ".join(f"[{number}-" for number in judged)]


def _folder(run: ClaimsRun) -> str:
    return f"findings-{run.slug}"


def _costs(run: ClaimsRun) -> list[dict[str, str]]:
    return [
        {
            "model": run.model,
            "configuration": name.removeprefix(f"{run.model}-"),
            **{title: _spent(cost.get(part)) for title, part in _SPENT.items()},
        }
        for name, cost in sorted(run.cost["preparation"].items())
    ]


def _spent(cost: Mapping[str, float] | None) -> str:
    if not cost or not cost["tokens"]:
        return ""
    return f"{cost['tokens']:,.0f} tokens, {numbers.figure(cost['seconds'])} s"
