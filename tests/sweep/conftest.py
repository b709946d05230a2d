"""Records, comparisons and settings made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.plugin.options import read_settings
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import Comparison
from pytest_sparsity.sweep.record import Record

DENSE = Configuration("m")
SPARSE = Configuration("m", "teal", 0.5)
SPON = Configuration("m", "teal", 0.5, "mean_residual")


@pytest.fixture
def settings(pytestconfig: pytest.Config) -> Settings:
    """The default settings, whatever this session's options are."""
    found = read_settings(pytestconfig)
    return replace(
        found,
        models=("m",),
        methods=("teal",),
        levels=(0.4, 0.5),
        spon=("off", "trained"),
        tasks=("sva",),
        corpora=("austen",),
        profile="smoke",
    )


def make_record(configuration: Configuration = SPARSE, **changes: Any) -> Record:
    """A perplexity record; ``nll`` gives each document's log-likelihoods, negated."""
    nll: Sequence[Sequence[float]] = changes.pop("nll", ((1.0, 2.0), (3.0, 1.0)))
    documents = [
        {
            "id": f"d{number}",
            "tokens": len(tokens),
            "log_likelihoods": [-x for x in tokens],
            "kl": 0.1 * len(tokens),
            "agreement": len(tokens) - 1,
        }
        for number, tokens in enumerate(nll)
    ]
    cell = Cell(configuration, changes.pop("evaluation", "perplexity:austen"))
    key = changes.pop("key", {"weights": "w", "seed": 0})
    measured = changes.pop("measured", {"documents": documents})
    assert not changes
    return Record(cell, key, measured, {"seconds": 1.0, "tokens": 4}, "2026-01-01T00:00:00+00:00")


def make_task(configuration: Configuration, right: Sequence[bool]) -> Record:
    """A task record with these items right."""
    items = [{"id": f"i{n}", "right": r, "right_normalised": not r} for n, r in enumerate(right)]
    measured = {"items": items, "normalisation": "sum", "chance": 0.5, "family": "language"}
    return make_record(configuration, evaluation="task:sva", measured=measured)


def make_comparison(
    metric: str = "perplexity:austen",
    change: tuple[float, float, float] | None = (0.1, 0.05, 0.15),
    configuration: Configuration = SPARSE,
    value: tuple[float, float, float] = (10.0, 9.0, 11.0),
) -> Comparison:
    """A comparison from (estimate, low, high)."""

    def interval(numbers: tuple[float, float, float]) -> Interval:
        return Interval(*numbers, n=12, detectable=0.02)

    evaluation = "task:sva" if metric.startswith("accuracy") else "perplexity:austen"
    cell = Cell(configuration, evaluation)
    return Comparison(cell, metric, interval(value), interval(change) if change else None)


@pytest.fixture
def record() -> Callable[..., Record]:
    """Makes perplexity records."""
    return make_record


@pytest.fixture
def task_record() -> Callable[..., Record]:
    """Makes task records."""
    return make_task


@pytest.fixture
def comparison() -> Callable[..., Comparison]:
    """Makes comparisons."""
    return make_comparison


@pytest.fixture
def configurations() -> tuple[Configuration, Configuration, Configuration]:
    """Dense, sparse, and sparse with spontaneous neurons."""
    return DENSE, SPARSE, SPON
