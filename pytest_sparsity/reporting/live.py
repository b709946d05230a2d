"""The line that a finished cell prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_sparsity.reporting import numbers

if TYPE_CHECKING:
    from pytest_sparsity.sweep.comparison import Comparison
    from pytest_sparsity.sweep.verdict import Verdict

WIDTH = 120
_AROUND = len("[999/999] ") + len("  eta 1:02:33")  # what progress_line adds
_WORST_FIRST = ("fail", "suspect", "inconclusive", "refused", "pass", "no budget", "reference")
_DETAILS = ("full", "short", "change", "bare")  # the first that fits is shown
_SHARES = ("accuracy", "exact_match", "answer_greedy")  # of items right
_NATS = ("answer_nll", "kl_reasoning", "kl_prose")
_NAME = 24  # characters of a configuration's name that are always shown


def cell_line(verdicts: Sequence[Verdict], seconds: float, reused: bool) -> str:
    """What one cell found, in plain ASCII, short enough for :func:`progress_line`.

    Args:
        verdicts: of one cell, at least one; the line shows the worst outcome among them.
        seconds: what the cell took.
        reused: whether the record was there already.
    """
    outcomes = {verdict.outcome.value for verdict in verdicts}
    worst = next(outcome for outcome in _WORST_FIRST if outcome in outcomes)
    head, tail = f"{worst:<12}  ", f"  {'reused' if reused else f'{seconds:.1f} s'}"
    name = _ascii(verdicts[0].comparison.cell.configuration.id)
    room = WIDTH - _AROUND - len(head) - len(tail) - 2
    for detail in _DETAILS:
        metrics = "  ".join(_metrics([v.comparison for v in verdicts], detail))
        if len(name) + len(metrics) <= room:
            break
    metrics = shortened(metrics, room - min(len(name), _NAME), keep_end=False)
    return f"{head}{shortened(name, room - len(metrics), keep_end=True)}  {metrics}{tail}"


def progress_line(line: str, done: int, total: int, eta_seconds: float | None) -> str:
    """A cell's line with the sweep's progress around it.

    It is at most 120 characters long in a sweep of less than 1000 cells and 10 hours.

    Args:
        line: from :func:`cell_line`.
        done: cells finished, this one included.
        total: cells of the sweep.
        eta_seconds: estimate of what is left; None if nobody knows.
    """
    eta = f"  eta {format_eta(eta_seconds)}" if done < total else ""
    return f"[{done:>{len(str(total))}}/{total}] {line}{eta}"


def format_eta(seconds: float | None) -> str:
    """``0:05``, ``3:10``, ``1:02:33``; ``-:--`` when unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _metrics(comparisons: Sequence[Comparison], detail: str) -> Iterator[str]:
    """The metrics that a line has room for; the rest is in the table."""
    for comparison in comparisons:
        kind, _, subject = comparison.metric.partition(":")
        title = _ascii(comparison.metric if detail == "full" else subject)
        value, change = comparison.value, comparison.change
        if kind == "perplexity":
            text = "" if change is None else numbers.perplexity_change(change)
            yield f"{title} {_changed(numbers.perplexity(value.estimate), text, detail)}"
        elif kind in _SHARES:
            text = "" if change is None else numbers.accuracy_change(change)
            yield f"{title} {_changed(numbers.figure(100 * value.estimate), text, detail)}"
        elif kind in _NATS:
            text = "" if change is None or change == value else numbers.nats_change(change)
            yield f"{title} {_changed(numbers.nats(value.estimate), text, detail)}"
        elif kind == "kl_ratio":
            yield f"ratio {numbers.figure(value.estimate, 2)}"
        elif kind == "path":
            yield f"{title} {numbers.figure(value.estimate)} tokens"
        elif kind == "recovery":
            text = numbers.recovered(value)
            yield f"recovery {text if detail == 'full' else _estimate(text)}"


def _changed(value: str, change: str, detail: str) -> str:
    """``58.1 (+3.0 % [+1.8, +4.3])``, or what there is room for; the dense model has no change."""
    if not change:
        return value
    if detail == "bare":
        return _estimate(change)
    return change if detail == "change" else f"{value} ({change})"


def _estimate(text: str) -> str:
    """Without the limits."""
    return text.partition(" [")[0]


def shortened(text: str, room: int, *, keep_end: bool) -> str:
    """``text`` in at most ``room`` characters: its beginning or its end, and dots."""
    if len(text) <= room:
        return text
    kept = max(room - 3, 0)
    return f"...{text[len(text) - kept :]}" if keep_end else f"{text[:kept]}..."


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
