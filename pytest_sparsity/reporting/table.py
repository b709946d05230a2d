"""Tables of a sweep's results, for the terminal and for Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.arrange import Results, label
from pytest_sparsity.reporting.columns import Column, Table
from pytest_sparsity.sweep.cell import PERPLEXITY, Cell, Configuration

if TYPE_CHECKING:
    from pytest_sparsity.sweep.comparison import Comparison
    from pytest_sparsity.sweep.skipped import Skipped
    from pytest_sparsity.sweep.verdict import Verdict

    Write = Callable[[Comparison], str]

LEGEND = (
    "Changes: against dense on the same data, [95 % interval]; one that holds 0 shows no change.",
    "KL: nats per token. Recovery: share of the loss that SPON undoes. *: McNemar p < 0.05.",
    "n = a-b: rows near a budget took more data; dense stands beside each on the data of that row.",
)
_PATH = "path:generation"


def tables(results: Results, model: str) -> list[Table]:
    """All tables about one model; what was not measured has none."""
    found = [
        *(_perplexity(results, model, corpus) for corpus in results.subjects(model, "perplexity")),
        _accuracy(results, model),
        _answers(results, model),
        _divergence(results, model),
        _agreement(results, model),
        _verdicts(results, model),
    ]
    return [table for table in found if len(table.columns) > 1 and table.columns[0].cells]


def terminal_tables(
    verdicts: Sequence[Verdict],
    skipped: Mapping[Cell, Skipped],
    notes: Mapping[str, str] | None = None,
    *,
    width: int = 100,
) -> str:
    """All tables, how to read them, and every verdict that fails or is inconclusive.

    Args:
        verdicts: one per metric of every cell, the dense model's among them.
        skipped: the share of the model that was really skipped, by configuration and corpus.
        notes: remarks about methods, by name.
        width: columns of the terminal; wider tables are split.
    """
    results = Results(verdicts, skipped, notes or {})
    blocks = [
        replace(part, title=f"{model}: {part.title}").text()
        for model in results.models
        for table in tables(results, model)
        for part in table.fit(width)
    ]
    if not blocks:
        return "Nothing was measured."
    lines = [
        line
        for verdict in problems(verdicts)
        for line in textwrap.wrap(
            verdict.message, width, subsequent_indent="    ", break_on_hyphens=False
        )
    ]
    return "\n\n".join(
        filter(None, [*blocks, "\n".join([*LEGEND, *remarks(results)]), "\n".join(lines)])
    )


def remarks(results: Results) -> list[str]:
    """Remarks below the tables: how to read their columns, and notes about their methods."""
    said = [f"{name}: {note}." for name, note in results.notes.items()]
    if any(found.net != found.weights for found in results.skipped.values()):
        said.insert(0, "Net: weights zeroed, less those read to decide which (predictors).")
    return said


def problems(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What fails, is suspect or inconclusive, and tasks at which the dense model is at chance."""
    from pytest_sparsity.sweep.verdict import Outcome

    found = list(verdicts)
    wanted = (Outcome.FAIL, Outcome.SUSPECT, Outcome.INCONCLUSIVE, Outcome.REFUSED)
    return [v for outcome in wanted for v in found if v.outcome is outcome]


def _perplexity(results: Results, model: str, corpus: str) -> Table:
    metric = f"perplexity:{corpus}"
    rows = [c for c in results.configurations(model) if results.find(c, metric)]

    def column(header: str, name: str, write: Write, align: str = "right") -> Column:
        return Column(header, tuple(_cells(results, rows, name, write)), align)

    sizes = _sizes(results, rows, metric)
    beside = (
        []
        if len(set(sizes)) < 2
        else [
            column("n", metric, lambda c: str(c.value.n)),
            column(
                "dense", metric, lambda c: "" if c.dense is None else numbers.perplexity(c.dense)
            ),
        ]
    )
    return _table(
        f"Perplexity on {corpus}, n = {numbers.sample_size(sizes)} documents",
        rows,
        *_skipped(results, rows, corpus),
        *beside,
        column("perplexity", metric, lambda c: numbers.perplexity(c.value.estimate)),
        column("change", metric, _perplexity_change, "left"),
        column("KL", f"kl:{corpus}", lambda c: numbers.nats(c.value.estimate)),
        column("recovery", f"recovery:{corpus}", lambda c: numbers.recovered(c.value), "left"),
    )


def _accuracy(results: Results, model: str) -> Table:
    tasks = results.subjects(model, "accuracy")
    columns = [(task, f"accuracy:{task}", _accuracy_and_change) for task in tasks]
    rows = results.configurations(model)
    return _mixed("Accuracy in percent, change in points", results, rows, columns)


def _answers(results: Results, model: str) -> Table:
    """Answers generated, and answers after a reference chain of thought."""
    columns = [
        *_per_task(
            results.subjects(model, "exact_match"),
            ("generated", "exact_match", _accuracy_and_change),
            ("tokens like dense", "path", _tokens),
        ),
        *_per_task(
            results.subjects(model, "answer_greedy"),
            ("after the chain", "answer_greedy", _accuracy_and_change),
            ("nats per token", "answer_nll", _nats_and_change),
        ),
    ]
    rows = results.configurations(model)
    return _mixed("Answers right in percent, change in points", results, rows, columns)


def _divergence(results: Results, model: str) -> Table:
    columns = _per_task(
        results.subjects(model, "kl_reasoning"),
        ("reasoning", "kl_reasoning", _nats),
        ("prose", "kl_prose", _nats),
        ("ratio", "kl_ratio", _ratio),
    )
    rows = [c for c in results.configurations(model) if not c.is_reference]
    return _mixed(
        "KL from dense, nats per token, on reasoning and on prose", results, rows, columns
    )


def _agreement(results: Results, model: str) -> Table:
    dense = results.find(Configuration(model), _PATH)
    total = "" if dense is None else f" of {round(dense.value.estimate, 1):g}"
    columns = [
        *((f"top-1, {c}", f"agreement:{c}", _share) for c in results.subjects(model, "agreement")),
        (f"greedy tokens{total}", _PATH, lambda c: numbers.estimate_and_limits(c.value)),
    ]
    rows = [c for c in results.configurations(model) if not c.is_reference]
    return _mixed("Same tokens as dense: next token, and mean greedy run", results, rows, columns)


def _per_task(tasks: Sequence[str], *shown: tuple[str, str, Write]) -> list[tuple[str, str, Write]]:
    """Columns per task; of each is ``shown`` its head, its metric, and how a cell is written."""
    return [
        (f"{task}, {head}", f"{metric}:{task}", write)
        for task in tasks
        for head, metric, write in shown
    ]


def _mixed(
    title: str,
    results: Results,
    candidates: Sequence[Configuration],
    columns: Sequence[tuple[str, str, Write]],
) -> Table:
    """A table of metrics that each have an n of their own, in the first row.

    Args:
        title: of the table.
        results: what was measured.
        candidates: rows, unless they have none of the metrics.
        columns: header, metric, and how a cell is written.
    """
    rows = [c for c in candidates if any(results.find(c, metric) for _, metric, _ in columns)]
    written = (
        Column(
            header,
            (
                f"n = {numbers.sample_size(sizes)}",
                *_cells(results, rows, metric, write if len(set(sizes)) == 1 else _beside(write)),
            ),
            "left",
        )
        for header, metric, write in columns
        if (sizes := _sizes(results, rows, metric))
    )
    return Table(title, (Column("configuration", ("", *map(label, rows)), "left"), *written))


def _beside(write: Write) -> Write:
    """Writes behind a cell what dense has on the same data."""
    return lambda comparison: f"{write(comparison)} ({numbers.on_same_data(comparison)})"


def _verdicts(results: Results, model: str) -> Table:
    from pytest_sparsity.sweep.verdict import Outcome

    rows = [c for c in results.configurations(model) if not c.is_reference]
    counts = [results.counts(row) for row in rows]
    seldom = (Outcome.SUSPECT, Outcome.REFUSED)
    return _table(
        "Verdicts",
        rows,
        *(
            Column(o.value, tuple(str(count[o.value]) for count in counts))
            for o in Outcome
            if o is not Outcome.REFERENCE
            and (o not in seldom or any(count[o.value] for count in counts))
        ),
    )


def _table(title: str, rows: Sequence[Configuration], *columns: Column) -> Table:
    """A table with a row per configuration; columns without any content are left out."""
    names = Column("configuration", tuple(map(label, rows)), "left")
    return Table(title, (names, *(column for column in columns if any(column.cells))))


def _cells(
    results: Results, rows: Sequence[Configuration], metric: str, write: Write
) -> Iterator[str]:
    for row in rows:
        comparison = results.find(row, metric)
        yield "" if comparison is None else write(comparison)


def _skipped(results: Results, rows: Sequence[Configuration], corpus: str) -> Iterator[Column]:
    """Columns of the shares skipped: of weights, net of what predictors read, and of neurons."""
    found = [results.skipped.get(Cell(row, f"{PERPLEXITY}:{corpus}")) for row in rows]

    def column(header: str, shares: Iterable[float | None]) -> Column:
        return Column(header, tuple("" if s is None else numbers.percent(s) for s in shares))

    yield column("neurons", (None if each is None else each.neurons for each in found))
    yield column("zeroed", (None if each is None else each.weights for each in found))
    if any(each is not None and each.net != each.weights for each in found):
        yield column("net", (None if each is None else each.net for each in found))


def _sizes(results: Results, rows: Sequence[Configuration], metric: str) -> list[int]:
    return [found.value.n for row in rows if (found := results.find(row, metric))]


def _perplexity_change(comparison: Comparison) -> str:
    return "" if comparison.change is None else numbers.perplexity_change(comparison.change)


def _share(comparison: Comparison) -> str:
    return numbers.estimate_and_limits(comparison.value, scale=100, unit=" %")


def _accuracy_and_change(comparison: Comparison) -> str:
    value = numbers.figure(100 * comparison.value.estimate)
    if comparison.change is None:
        return value
    star = " *" if numbers.significant(comparison) else ""
    return f"{value}  {numbers.accuracy_change(comparison.change)}{star}"


def _tokens(comparison: Comparison) -> str:
    return numbers.estimate_and_limits(comparison.value)


def _nats(comparison: Comparison) -> str:
    return numbers.estimate_and_limits(comparison.value, digits=3)


def _nats_and_change(comparison: Comparison) -> str:
    value = numbers.nats(comparison.value.estimate)
    return (
        value if comparison.change is None else f"{value}  {numbers.nats_change(comparison.change)}"
    )


def _ratio(comparison: Comparison) -> str:
    return numbers.estimate_and_limits(comparison.value, digits=2)
