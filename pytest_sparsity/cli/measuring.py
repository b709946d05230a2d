"""Measures a model, or a git revision, for a comparison: every cell once, nothing is judged."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.revisions import Say, folder_inside, sweep_of, worktree
from pytest_sparsity.cli.sides import Kind, Side
from pytest_sparsity.core.errors import SparsityError

if TYPE_CHECKING:
    from pytest_sparsity.sweep.cell import Cell
    from pytest_sparsity.sweep.record import Record

    Records = Mapping[Cell, Record]

#: Options of pytest that decide what is measured, in the order of ``--help``.
OPTIONS = (
    *("profile", "weights", "methods", "levels", "spon", "tasks", "corpora", "documents", "items"),
    *("prefill", "seed", "dtype", "target", "cache"),
)


def measured_like(records: Records) -> dict[str, str]:
    """The options with which a run measured what its records hold, as far as they tell."""
    from pytest_sparsity.methods.levels import has_level
    from pytest_sparsity.settings.settings import PROFILES
    from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY

    cells = list(records)
    configurations = [cell.configuration for cell in cells]
    found = {
        "methods": _listed(c.method for c in configurations),
        "weights": _listed(c.weights for c in configurations),
        "spon": _listed(c.spon for c in configurations),
        "corpora": _listed(c.subject for c in cells if c.kind == PERPLEXITY),
        "tasks": _listed(c.evaluation for c in cells if c.kind not in (PERPLEXITY, GENERATION)),
        "levels": _listed(
            str(c.level) for c in configurations if c.method != "dense" and has_level(c.method)
        ),
    }
    found["tasks"] = found["tasks"] or "none"
    first = next(iter(records.values()))
    found["seed"] = str(first.key.get("seed", 0))
    for record in records.values():
        if "prefill" in record.key:
            found["prefill"] = record.key["prefill"]
        data = record.key.get("data", {})
        for name, profile in PROFILES.items():
            if data.get("prompts") == profile.sizes.prompts:
                found["profile"] = name
        if record.cell.kind not in (PERPLEXITY, GENERATION, DIVERGENCE) and "draw" in data:
            found["items"] = str(data["draw"])
    if documents := [len(r.units) for r in records.values() if r.cell.kind == PERPLEXITY]:
        found["documents"] = str(min(documents))  # of the first draw
    return {name: text for name, text in found.items() if text}


def measure_model(side: Side, options: Mapping[str, str], like: Records, folder: Path) -> Records:
    """Measure a model, in this process.

    Args:
        side: names the model.
        options: text by name, see :data:`OPTIONS`.
        like: records of the other side, whose cells are measured on as many units; all cells on
            one draw if it is empty.
        folder: report folder of the records; what it holds already is not measured again.

    Raises:
        SparsityError: an option, the model, a text or a task cannot be used.
    """
    from pytest_sparsity.core.progress import on_stream
    from pytest_sparsity.methods.spon.library import MissingVectors
    from pytest_sparsity.settings.settings import checked
    from pytest_sparsity.sweep import grid
    from pytest_sparsity.sweep.cell import GENERATION
    from pytest_sparsity.sweep.session import SweepSession

    given = {**options, "model": [side.text], "report": str(folder)}
    progress = on_stream(sys.stderr)
    session = SweepSession(checked(given, Path.cwd()), progress)
    cells = grid.cells(session.settings, session.models.load_all())
    wanted = {_without_model(cell): len(record.units) for cell, record in like.items()}
    known = {cell.evaluation for cell in like} | {GENERATION}
    if strange := [cell.evaluation for cell in cells if like and cell.evaluation not in known]:
        raise SparsityError(
            f"{strange[0]} is not in the report that {side.text} is compared with; leave it "
            "out, or measure it in both"
        )
    chosen = [cell for cell in cells if not wanted or _without_model(cell) in wanted]
    found: dict[Cell, Record] = {}
    with progress(f"measure {side.text}", total=len(chosen), unit="cell") as phase:
        for cell in chosen:
            try:
                first = session.record(cell)
                draws = math.ceil(wanted.get(_without_model(cell), 0) / len(first.units))
                found[cell] = session.record(cell, draws) if draws > 1 else first
            except MissingVectors as missing:  # the cell stays out, and is named as missing
                print(f"{side.option} {side.text}: {cell.id}: {missing}", file=sys.stderr)
            phase.advance(note=cell.id)
    return found


def measure_revision(
    side: Side, model: str, options: Mapping[str, str], folder: Path, say: Say
) -> Records:
    """Measure a git revision, in a worktree and a process of its own.

    Cells of which more was drawn than at first are cut to the first draw: how much was drawn
    hung on what was seen.

    Args:
        side: names the revision.
        model: to measure; a path is looked for in the revision first.
        options: text by name, see :data:`OPTIONS`.
        folder: report folder of the records.
        say: tells what is run.

    Raises:
        SparsityError: there is no such revision, or it cannot be swept.
    """
    from pytest_sparsity.settings.settings import checked
    from pytest_sparsity.sweep.store import FILE as RECORDS

    tree = worktree(side.text)
    if tree is None:
        raise SparsityError(
            f"{side.option} {side.text}: the git repository around this folder has no such "
            "revision; name a branch, a tag or a commit of it"
        )
    sizes = checked(dict(options), Path.cwd()).sizes
    (folder / RECORDS).unlink(missing_ok=True)
    try:
        found = _model_in(folder_inside(tree, side.text), model)
        words = [f"--sparsity-{name}={text}" for name, text in options.items()]
        words += [f"--sparsity-model={found}", "-k", "within_budget", "-q", "--tb=no"]
        otherwise = "compare later revisions, or report folders"
        sweep_of(tree, side.text, folder.absolute(), words, otherwise, say)
    finally:
        tree.remove()
    records = read_report(side, folder)
    return {cell: _first(record, cell.units(sizes)) for cell, record in records.items()}


def read_report(side: Side, folder: Path) -> Records:
    """The records of a report folder.

    Raises:
        SparsityError: they cannot be read, or there are none.
    """
    from pytest_sparsity.sweep.baseline import read_records

    records = read_records(folder, side.option, "run the sweep again")
    if not records:
        raise SparsityError(f"{side.option} {folder}: it holds no records; run the sweep again")
    return records


def measure(
    side: Side,
    model: str,
    options: Mapping[str, str],
    like: Records,
    folder: Path,
    say: Say,
) -> Records:
    """Measure what is no report yet, see :func:`measure_model` and :func:`measure_revision`."""
    if side.kind is Kind.MODEL:
        return measure_model(side, options, like, folder)
    return measure_revision(side, model, options, folder, say)


def _listed(names: Iterable[str]) -> str:
    """Each once, as options take them."""
    return ",".join(dict.fromkeys(names))


def _without_model(cell: Cell) -> Cell:
    return replace(cell, configuration=replace(cell.configuration, model=""))


def _model_in(inside: Path, model: str) -> str:
    """A model as it is named in a checkout: a path that it lacks is this folder's."""
    here = Path(model).expanduser()
    return str(here.resolve()) if here.exists() and not (inside / here).exists() else model


def _first(record: Record, count: int) -> Record:
    (name,) = {"documents", "items", "prompts"} & record.measured.keys()
    return replace(record, measured={**record.measured, name: record.measured[name][:count]})
