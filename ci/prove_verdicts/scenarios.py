"""What runs are simulated of, and their results: in parts of a hundred runs, kept when done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import populations
import values
from judging import Rule
from populations import Population
from runs import GATE, SWEEP, Counted, simulate
from values import Values
from variants import AGAIN, FLOAT32, LOSSES, ORDER, PACKED, THREADS, worse

from pytest_sparsity.core.progress import Progress
from pytest_sparsity.sweep.cell import PERPLEXITY, TASK

Known = Mapping[str, Values]
RUNS, PART = 2000, 100
#: Of a gated quick sweep without spontaneous neurons: four models, nine evaluations.
GATED = 36
NOTHING_WRONG = {
    "the same run again": AGAIN,
    "two threads in each pass, not one": THREADS,
    "float32, not bfloat16": FLOAT32,
    "neurons in another order": ORDER,
    "items packed by 100, not by 300": PACKED,
}
CORPORA = ("austen", "factbook")
BUNDLED, TRUTH = "budgets as bundled", "budgets exactly at the truth"


@dataclass(frozen=True)
class Scenario:
    """Runs of one kind.

    Attributes:
        name: of it.
        made: its decisions, from all values.
        amounts: how much each look sees.
        decisions: of a run; as many as are made if 0.  Those not made are equal to the last bit.
    """

    name: str
    made: Callable[[Known], list[Population]]
    amounts: Mapping[str, Sequence[int]]
    decisions: int = 0


def one_worse(loss: float, corpus: str) -> str:
    """The scenario in which one dense perplexity is worse."""
    return f"one cell worse by {100 * loss:g} %, {corpus}"


def all_worse(loss: float) -> str:
    """The scenario in which every cell is worse."""
    return f"all cells worse by {100 * loss:g} %"


def _one(known: Known, loss: float, corpus: str) -> list[Population]:
    """One dense perplexity worse by a loss; all others are equal to the last bit."""
    found = populations.gate(known, worse(LOSSES[loss]))
    return [each.worse_by(loss) for each in found if each.evaluation.endswith(f":{corpus}")]


def _all(known: Known, loss: float) -> list[Population]:
    """Every cell worse: perplexity by a loss, items right by as many in a hundred."""
    dense = {each.id: each for each in populations.gate(known, worse(LOSSES[loss]))}
    found = []
    for each in populations.gate(known, ORDER):
        changed = dense.get(each.id, each)
        if each.kind == PERPLEXITY:
            changed = changed.worse_by(loss)
        elif each.kind == TASK:
            changed = changed.with_lost(loss, seed=0)
        found.append(changed)
    return found


def _truth(known: Known) -> list[Population]:
    return [each.at_its_limit() for each in populations.sweep(known)]


SCENARIOS = (
    *(
        Scenario(name, partial(populations.gate, variant=variant), GATE, decisions=GATED)
        for name, variant in NOTHING_WRONG.items()
    ),
    *(
        Scenario(
            one_worse(loss, corpus),
            partial(_one, loss=loss, corpus=corpus),
            GATE,
            decisions=GATED,
        )
        for loss in LOSSES
        for corpus in CORPORA
    ),
    *(Scenario(all_worse(loss), partial(_all, loss=loss), GATE) for loss in LOSSES),
    Scenario(BUNDLED, populations.sweep, SWEEP),
    Scenario(TRUTH, _truth, SWEEP),
)


def prove(measured: Path, out: Path, processes: int, progress: Progress, runs: int = RUNS) -> None:
    """Simulate what ``out`` lacks.

    Args:
        measured: lines of values.
        out: lines of results, one for each part, appended when it is done.
        processes: that simulate at once.
        progress: shows every part.
        runs: of each scenario.
    """
    done = {(name, start) for name, start, _ in _read(out)}
    left = [
        (scenario.name, start)
        for scenario in SCENARIOS
        for start in range(0, runs, PART)
        if (scenario.name, start) not in done
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool, progress("simulate", len(left), "part") as task:
        parts = pool.map(partial(_part, measured), *zip(*left, strict=True)) if left else ()
        for (name, start), found in zip(left, parts, strict=True):
            line = {"scenario": name, "start": start, **found.to_json()}
            with out.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            task.advance(note=f"{name}, {start}")


def _part(measured: Path, name: str, start: int) -> Counted:
    (scenario,) = (each for each in SCENARIOS if each.name == name)
    made = scenario.made(_known(measured))
    rule = Rule(scenario.decisions or len(made))
    return simulate(made, scenario.amounts, runs=range(start, start + PART), rule=rule)


@cache
def _known(measured: Path) -> Known:
    return values.read(measured)


def results(out: Path) -> dict[str, Counted]:
    """All parts of each scenario together, by its name."""
    found: dict[str, Counted] = {}
    for name, _, part in _read(out):
        found.setdefault(name, Counted()).add(part)
    return found


def _read(out: Path) -> Iterator[tuple[str, int, Counted]]:
    if out.exists():
        for line in out.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                content = json.loads(line)
                name, start = content.pop("scenario"), content.pop("start")
                yield name, start, Counted.from_json(content)
