"""Two runs of one task by any engine, paired item by item, and what is decided of each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.evaluation.logged_samples import SUMMED, LoggedTask, Sample
from pytest_sparsity.sweep.regression import decide
from pytest_sparsity.sweep.sample_scores import change_of_scores, change_of_texts

_DIFFER = {
    "doc_hash": "is another question in the two files",
    "target_hash": "has another right answer in the two files",
    "prompt_hash": "has another prompt in the two files",
}

Pairs = Sequence[tuple[Sample, Sample]]


@dataclass(frozen=True)
class SampleComparison:
    """One metric of one task in two runs.

    Attributes:
        task: its name.
        metric: and the filter of the answers, if there are several: ``exact_match,strict-match``.
        decision: what the data say.
        reason: the sentence that says why.
        change: positive when worse; None where nothing was compared or all is equal.
        p_value: of McNemar's exact test, for right and wrong.
        before: mean of the first run.
        now: mean of the second run.
        evidence: that it is worse, in items shared with other decisions; None where nothing was
            compared.
    """

    task: str
    metric: str
    decision: Decision
    reason: str
    change: Interval | None = None
    p_value: float | None = None
    before: float | None = None
    now: float | None = None
    evidence: Evidence | None = None

    @property
    def id(self) -> str:
        """Task and metric."""
        return f"{self.task}: {self.metric}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, as of the gate's decisions."""
        figures: dict[str, Any] = {"p_value": self.p_value, "before": self.before, "now": self.now}
        if (change := self.change) is not None:
            figures |= {"change": change.estimate, "low": change.low, "high": change.high}
            figures["n"] = change.n
        return {
            "kind": "accuracy",
            "id": self.id,
            "decision": self.decision.value,
            "reason": self.reason,
            "figures": {name: value for name, value in figures.items() if value is not None},
        }


def compare_samples(
    before: Mapping[str, LoggedTask],
    now: Mapping[str, LoggedTask],
    *,
    seed: int,
    other_prompts: bool = False,
) -> list[SampleComparison]:
    """Every metric of every task that both runs have.

    Args:
        before: tasks of the first run, by name.
        now: tasks of the second run, by name.
        seed: of the bootstrap.
        other_prompts: whether the prompts may differ, as of models with templates of their own.

    Raises:
        SparsityError: the runs have no task in common.
    """
    pairs = [(name, before[name], now[name]) for name in before if name in now]
    if not pairs and len(before) == len(now) == 1 and ("" in before or "" in now):
        # A file whose name says nothing: ids and hashes tell whether it is the same task.
        ((first, was),), ((second, is_now),) = before.items(), now.items()
        pairs = [(first or second, was, is_now)]
    if not pairs:
        first, second = (", ".join(sorted(side)) for side in (before, now))
        raise SparsityError(
            f"no task is in both: A has {first or 'one without a name'}, B has "
            f"{second or 'one without a name'}; name two runs of one task"
        )
    return [
        comparison
        for name, was, is_now in pairs
        for comparison in _compare(name or was.path.stem, was, is_now, seed, other_prompts)
    ]


def _compare(
    name: str, before: LoggedTask, now: LoggedTask, seed: int, other_prompts: bool
) -> list[SampleComparison]:
    found = []
    for filter in (each for each in before.filters if each in now.filters):
        was, is_now = before.filters[filter], now.filters[filter]
        ids = [id for id in was if id in is_now]
        pairs = [(was[id], is_now[id]) for id in ids]
        refused = _refused(before, now, dict(zip(ids, pairs, strict=True)), other_prompts)
        for metric in _metrics(pairs):
            title = metric if len(before.filters) == 1 else f"{metric},{filter}"
            lower = now.better_when_lower(metric)
            reason = refused
            if not refused and before.better_when_lower(metric) != lower:
                reason = f"{metric} is better when higher in one run, and when lower in the other"
            if reason:
                found.append(SampleComparison(name, title, Decision.NOT_COMPARABLE, reason))
                continue
            found.append(_decided(name, title, metric, ids, pairs, lower, seed))
            if len(ids) < max(len(was), len(is_now)):
                found[-1] = _with(found[-1], len(ids), len(was), len(is_now))
    if not found:
        reason = "the runs have no item, metric or filter in common"
        return [SampleComparison(name, "all", Decision.NOT_COMPARABLE, reason)]
    return found


def _refused(
    before: LoggedTask,
    now: LoggedTask,
    pairs: Mapping[str, tuple[Sample, Sample]],
    other_prompts: bool,
) -> str:
    """Why two runs are not of one task; empty if they are."""
    for fact, value in before.facts.items():
        if fact in now.facts and now.facts[fact] != value:
            return f"the {fact} differ: {now.facts[fact]} now, {value} before"
    for name, meaning in _DIFFER.items():
        other = [id for id, (a, b) in pairs.items() if _unlike(a.hashes, b.hashes, name)]
        if other and not (name == "prompt_hash" and other_prompts):
            fix = "; add --other-prompts where that is meant" if name == "prompt_hash" else ""
            return f"item {other[0]} {meaning}, and {len(other)} of {len(pairs)} do{fix}"
    return ""


def _unlike(a: Mapping[str, str], b: Mapping[str, str], name: str) -> bool:
    return name in a and name in b and a[name] != b[name]


def _metrics(pairs: Pairs) -> list[str]:
    """Metrics that all items of both runs have, one of several that say the same."""
    names = list(pairs[0][0].values) if pairs else []
    shared = [n for n in names if all(n in a.values and n in b.values for a, b in pairs)]
    summed = [name for name in SUMMED if name in shared]
    return [name for name in shared if name not in summed[1:]]


def _decided(
    task: str, title: str, metric: str, ids: Sequence[str], pairs: Pairs, lower: bool, seed: int
) -> SampleComparison:
    was, is_now = ([each.values[metric] for each in side] for side in zip(*pairs, strict=True))
    first = [value for value in was if value is not None]
    second = [value for value in is_now if value is not None]
    if len(first) < len(was) or len(second) < len(is_now):
        reason = f"{metric} is not told item by item, so it cannot be paired"
        return SampleComparison(task, title, Decision.NOT_COMPARABLE, reason)
    if first == second and all(a.answer is not None and a.answer == b.answer for a, b in pairs):
        reason = f"equal to the last digit ({len(pairs)} items)"
        same = Evidence(f"compare {task}: {title}", 1.0)
        return SampleComparison(task, title, Decision.OK, reason, evidence=same)
    if metric in SUMMED:
        if other := [a for a, b in zip(first, second, strict=True) if a[1] != b[1]]:
            reason = f"a text of length {other[0][1]:g} before has another length now"
            return SampleComparison(task, title, Decision.NOT_COMPARABLE, reason)
        found = change_of_texts(metric, first, second, seed)
    else:
        found = change_of_scores(metric, [a for (a,) in first], [b for (b,) in second], lower, seed)
    change = found.change
    return SampleComparison(
        task,
        title,
        decide(change.interval, change.tolerance),
        change.text,
        change.interval,
        change.p_value,
        change.before,
        change.now,
        found.evidence(f"compare {task}: {title}", task, ids),
    )


def _with(found: SampleComparison, both: int, before: int, now: int) -> SampleComparison:
    """The comparison, telling of items that one run alone has."""
    reason = f"{found.reason}; {both} items are in both of {now} now and {before} before"
    return replace(found, reason=reason)
