"""Writes docs/powerinfer.md: what PowerInfer's and Deja Vu's rules cost, side by side.

    python ci/neuron_rules.py REPORT_DIR [REPORT_DIR ...]

REPORT_DIR is the report folder of a sweep of one or several models with the methods of neurons:

    pytest --sparsity-sweep --sparsity-suite=accuracy --sparsity-tasks=none --sparsity-spon=off
        --sparsity-methods=powerinfer,deja_vu,... --sparsity-levels=...
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.claims.page.parts import table
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.levels import has_level
from pytest_sparsity.reporting import numbers
from pytest_sparsity.reporting.arrange import label
from pytest_sparsity.reporting.columns import escape
from pytest_sparsity.reporting.picture import STYLE
from pytest_sparsity.sweep.cell import PERPLEXITY, Configuration
from pytest_sparsity.sweep.comparison import compare, perplexity_change
from pytest_sparsity.sweep.metric import paired
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.skipped import Skipped
from pytest_sparsity.sweep.store import RecordStore

if TYPE_CHECKING:
    from pytest_sparsity.core.statistics import Interval

_DOCS = Path(__file__).parents[1] / "docs"
_FIGURES = "powerinfer"
_TICKS = (0, 1, 10, 100, 1000)  # percent
_HIGHEST = 5000  # beyond it a model is broken, however much
_PAIRS = """\
The two rules on the same documents and at the same share of the weights really skipped, that of the
fixed number; the log-likelihoods of the one threshold are taken between its levels:"""
#: The two rules; what both are compared at is the share of weights that is really skipped.
ONE_THRESHOLD, FIXED_NUMBER = "powerinfer", "deja_vu"
_HEAD = """\
# PowerInfer's rule and Deja Vu's

Both predict from the residual stream which neurons of an MLP will matter, and skip the others.
PowerInfer computes a neuron if its score reaches one threshold, the same for all layers, so that
the number varies by layer and token; Deja Vu computes the same number in every layer and at every
token.
[methods.md](methods.md) has the definitions. Changes of perplexity are against dense on the same
documents, with 95 % intervals of a bootstrap over documents. *Net* is the share of weights skipped
less those that the predictors read. `exact_zeros` and `contribution` know every neuron before it is
computed: the first is the only bound, the second looks at neurons one by one and is none.

Figures of this project before these, under the name `cold_skip`, were of Deja Vu's rule with a
predictor of our own and less training text. They say nothing of PowerInfer.
"""


@dataclass(frozen=True)
class Row:
    """One configuration on one corpus, beside dense.

    Attributes:
        configuration: which one.
        skipped: what it really skipped there.
        change: relative change of perplexity.
        kl: KL(dense || sparse), nats per token.
        record: what was measured.
    """

    configuration: Configuration
    skipped: Skipped
    change: Interval
    kl: Interval
    record: Record


def main(arguments: Sequence[str]) -> int:
    """Write the page; one sentence and status 1 if it cannot be made."""
    parser = argparse.ArgumentParser(description="Write docs/powerinfer.md and its figures.")
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT_DIR")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder that is written to")
    given = parser.parse_args(arguments)
    try:
        records = [record for folder in given.reports for record in _read(folder)]
        parts = [_HEAD, *(_section(model, records, given.docs) for model in _models(records))]
        atomic_write(given.docs / "powerinfer.md", "\n".join(parts))
    except SparsityError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print(given.docs / "powerinfer.md")
    return 0


def _read(folder: Path) -> list[Record]:
    if not (folder / "records.jsonl").is_file():
        raise SparsityError(f"{folder} has no records.jsonl; name the report folder of a sweep")
    found = [r for r in RecordStore(folder) if r.cell.kind == PERPLEXITY]
    if not any(r.cell.configuration.method == ONE_THRESHOLD for r in found):
        raise SparsityError(
            f"{folder} has no perplexity of the method {ONE_THRESHOLD}; sweep with "
            f"--sparsity-methods={ONE_THRESHOLD},{FIXED_NUMBER}"
        )
    return found


def _models(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(r.cell.configuration.model for r in records))


def _section(model: str, records: Sequence[Record], docs: Path) -> str:
    own = [r for r in records if r.cell.configuration.model == model]
    parts = [f"## {escape(model)}", _origin(own)]
    for corpus in sorted({r.cell.subject for r in own}):
        rows, dense = _rows(own, corpus)
        shown = numbers.perplexity(_dense_perplexity(dense).estimate)
        parts.append(f"### {corpus}: {len(dense.units)} documents, dense perplexity {shown}")
        file = f"{model}-{corpus}.svg"
        atomic_write(docs / _FIGURES / file, _curve(model, corpus, rows))
        alt = f"{model}: perplexity on {corpus} against the share of neurons skipped"
        parts.append(f"![{escape(alt)}]({_FIGURES}/{file})")
        parts.append(table([_line(row) for row in rows]))
        if pairs := _pairs(rows, dense):
            parts += [_PAIRS, table(pairs)]
    return "\n\n".join(parts) + "\n"


def _rows(records: Sequence[Record], corpus: str) -> tuple[list[Row], Record]:
    of = {r.cell.configuration: r for r in records if r.cell.subject == corpus}
    dense = next(record for c, record in of.items() if c.method == "dense")
    rows = []
    for configuration, record in of.items():
        if record.measured.get("achieved", {}).get("neurons") is None:
            continue
        found = {c.metric: c for c in compare(record, dense, None, seed=_seed(record))}
        change = found[f"perplexity:{corpus}"].change
        assert change is not None
        kl = found[f"kl:{corpus}"].value
        skipped = Skipped.of(record.measured["achieved"])
        rows.append(Row(configuration, skipped, change, kl, record))
    return sorted(rows, key=_order), dense


def _order(row: Row) -> tuple[bool, float, str]:
    configuration = row.configuration
    return has_level(configuration.method), configuration.level, configuration.method


def _line(row: Row) -> dict[str, str]:
    return {
        "configuration": label(row.configuration),
        "neurons": numbers.percent(_neurons(row) / 100),
        "zeroed": numbers.percent(row.skipped.weights),
        "net": numbers.percent(row.skipped.net),
        "change of perplexity": numbers.perplexity_change(row.change),
        "KL": numbers.estimate_and_limits(row.kl, digits=3),
    }


def _pairs(rows: Sequence[Row], dense: Record) -> list[dict[str, str]]:
    """Perplexity of the fixed number over that of the one threshold, at the same share skipped."""
    found = []
    for other in rows:
        if other.configuration.method != FIXED_NUMBER:
            continue
        own = _at_share(rows, dense, other.skipped.weights)
        if own is not None:
            more = perplexity_change(other.record, own, seed=_seed(other.record))
            found.append(
                {
                    "level": f"{other.configuration.level:g}",
                    "zeroed": numbers.percent(other.skipped.weights),
                    f"perplexity, {FIXED_NUMBER} over {ONE_THRESHOLD}": (
                        numbers.perplexity_change(more)
                    ),
                }
            )
    return found


def _at_share(rows: Sequence[Row], dense: Record, share: float) -> Record | None:
    """What the one threshold costs where it skips ``share`` of the weights; None beyond its levels.

    Each document's log-likelihoods are taken between those of the two levels around it, of which
    the lowest is dense.
    """
    own = [(r.skipped.weights, r.record) for r in rows if r.configuration.method == ONE_THRESHOLD]
    ladder = sorted([(0.0, dense), *own], key=lambda each: each[0])
    for (low, below), (high, above) in pairwise(ladder):
        if low <= share <= high:
            part = (share - low) / (high - low)
            documents = [
                {
                    **one,
                    "log_likelihoods": [
                        (1 - part) * x + part * y
                        for x, y in zip(one["log_likelihoods"], two["log_likelihoods"], strict=True)
                    ],
                }
                for one, two in paired(below, above)
            ]
            return replace(above, measured={"documents": documents})
    return None


def _curve(model: str, corpus: str, rows: Sequence[Row]) -> bytes:
    """Change of perplexity against the share of neurons skipped; an SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        shown = [row for row in rows if 100 * row.change.estimate <= _HIGHEST]
        for method in dict.fromkeys(row.configuration.method for row in shown):
            own = [row for row in shown if row.configuration.method == method]
            points = sorted((_neurons(row), 100 * row.change.estimate) for row in own)
            style = "o-" if has_level(method) else "D"
            axes.plot(*zip(*points, strict=True), style, label=method, markersize=4)
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.set_ylim(top=_HIGHEST)
        axes.set_xlabel("neurons skipped (%)")
        axes.set_ylabel("change of perplexity (%)")
        axes.set_title(f"{model} on {corpus}", fontsize=10, fontweight="bold")
        figure.legend(loc="outside right upper", fontsize=8)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()


def _neurons(row: Row) -> float:
    share = row.skipped.neurons
    assert share is not None  # rows are of methods of neurons
    return 100 * share


def _origin(records: Sequence[Record]) -> str:
    key = next(r.key for r in records if r.cell.configuration.method == ONE_THRESHOLD)
    facts = [
        f"{key['dtype']}, seed {key['seed']}, policy {key['prefill']}",
        f"torch {key['versions']['torch']}, transformers {key['versions']['transformers']}",
        f"machine {key['target']}",
        "predictors given" if "given" in key else _trained(key["method"]),
    ]
    return escape("; ".join(facts)) + "."


def _trained(method: dict[str, Any]) -> str:
    recipe = method["predictor"]
    return (
        f"predictors of {100 * recipe['share']:g} % of their MLP's weights, trained on at most "
        f"{recipe['tokens']:,} tokens"
    )


def _dense_perplexity(dense: Record) -> Interval:
    (found,) = compare(dense, dense, None, seed=_seed(dense))
    return found.value


def _seed(record: Record) -> int:
    return int(record.key["seed"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
