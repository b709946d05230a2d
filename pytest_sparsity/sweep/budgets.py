"""Budgets: how much damage is allowed, per model, weights, method, level, SPON and metric."""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.models.compression.names import LOADED, canonical
from pytest_sparsity.settings.options import OFF, SPON
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.comparison import evaluation_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
METRICS = (
    *("perplexity", "kl", "agreement", "accuracy", "exact_match", "path", "recovery"),
    *("answer_greedy", "answer_nll", "chain_nll", "kl_reasoning", "kl_prose"),
)
_FIELDS = {"model", "weights", "method", "level", "spon", "metric", "max", "min"}


@dataclass(frozen=True)
class Budget:
    """The limit on one metric of one configuration.

    Attributes:
        configuration: what it is about.
        metric: as in :class:`~pytest_sparsity.sweep.comparison.Comparison`.
        limit: the largest damage allowed, or the smallest gain demanded.
        is_minimum: whether ``limit`` is a smallest gain (``recovery``).
        origin: the file it comes from.
    """

    configuration: Configuration
    metric: str
    limit: float
    is_minimum: bool
    origin: str

    @property
    def limit_text(self) -> str:
        """``<= 0.05`` or ``>= 0.45``."""
        return f"{'>=' if self.is_minimum else '<='} {self.limit:.4f}"


def is_minimum(metric: str) -> bool:
    """Whether a budget for ``metric`` is a smallest gain, not a largest damage."""
    return metric.partition(":")[0] == "recovery"


class Budgets:
    """All budgets in force; later files override earlier ones, entry by entry."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._by_key = {(b.configuration, b.metric): b for b in budgets}

    def find(self, configuration: Configuration, metric: str) -> Budget | None:
        """The budget of a metric of a configuration, if there is one."""
        return self._by_key.get((configuration, metric))

    def of(self, cell: Cell) -> list[Budget]:
        """The budgets of all metrics of a cell."""
        return [
            budget
            for (configuration, metric), budget in self._by_key.items()
            if configuration == cell.configuration and evaluation_of(metric) == cell.evaluation
        ]

    def __contains__(self, place: tuple[Configuration, str]) -> bool:
        return place in self._by_key

    def __iter__(self) -> Any:
        return iter(self._by_key.values())


def load(*paths: Path) -> Budgets:
    """Read budgets files (TOML); an entry of a later file replaces an earlier one's.

    Raises:
        SparsityError: a file is missing or is not TOML, or an entry has an unknown or
            missing key, a wrong type or an impossible value; the message names the file,
            the entry and the key.
    """
    return Budgets(budget for path in paths for budget in _read(path))


def check_swept(path: Path, cells: Iterable[Cell]) -> None:
    """Refuse a user's budgets for what this sweep does not measure.

    Budgets for models that are not swept are allowed: several models may share a file.  Two that
    contradict each other are told of in a warning.

    Raises:
        SparsityError: an entry of ``path`` would never be looked at.
    """
    swept = set(cells)
    configurations = {cell.configuration for cell in swept}
    models = {configuration.model for configuration in configurations}
    for budget in _read(path):
        if budget.configuration.model not in models:
            continue
        if budget.configuration not in configurations:
            raise SparsityError(
                f"--sparsity-budgets {path}: {budget.configuration.id} is not swept, so its "
                f"budget for {budget.metric} would never be checked; add its level to "
                "--sparsity-levels (and its weights, method and SPON setting), or remove the entry"
            )
        recovery_of_nothing = budget.is_minimum and budget.configuration.spon == OFF
        if (
            recovery_of_nothing
            or Cell(budget.configuration, evaluation_of(budget.metric)) not in swept
        ):
            raise SparsityError(
                f"--sparsity-budgets {path}: metric {budget.metric!r} is not measured for "
                f"{budget.configuration.id}, so its budget would never be checked; add its corpus "
                "or task to the sweep, or remove the entry"
            )
    _warn_of_contradictions(path)


def _warn_of_contradictions(path: Path) -> None:
    """Of a level that may lose more than a higher one, which skips all that it skips and more."""
    ladders: dict[tuple[Configuration, str], list[Budget]] = {}
    for budget in _read(path):
        if not budget.is_minimum:
            whatever_level = replace(budget.configuration, level=0.0)
            ladders.setdefault((whatever_level, budget.metric), []).append(budget)
    for ladder in ladders.values():
        ladder.sort(key=lambda budget: budget.configuration.level)
        for low, high in itertools.pairwise(ladder):
            if low.limit > high.limit:
                warnings.warn(
                    f"--sparsity-budgets {path}: {low.configuration.id} may lose more of "
                    f"{low.metric} ({low.limit:g}) than {high.configuration.id} ({high.limit:g}), "
                    "which skips more; each is judged by its own, set the first no higher",
                    SparsityWarning,
                    stacklevel=3,
                )


def _read(path: Path) -> list[Budget]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SparsityError(
            f"--sparsity-budgets {path}: cannot be read ({error.strerror}); give a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SparsityError(f"--sparsity-budgets {path}: not a TOML file ({error})") from error
    unknown = sorted(set(content) - {"schema", "budget", "about"})
    if unknown:
        raise SparsityError(
            f"--sparsity-budgets {path}: unknown key {unknown[0]!r}; known are schema, about "
            "and [[budget]]"
        )
    if content.get("schema") != SCHEMA:
        raise SparsityError(
            f"--sparsity-budgets {path}: schema is {content.get('schema')!r}; this version "
            f"reads schema = {SCHEMA}"
        )
    entries = content.get("budget", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise SparsityError(f"--sparsity-budgets {path}: budgets are written as [[budget]] tables")
    return [_budget(path, number, entry) for number, entry in enumerate(entries, 1)]


def _budget(path: Path, number: int, entry: dict[str, Any]) -> Budget:
    def bad(what: str) -> SparsityError:
        return SparsityError(f"--sparsity-budgets {path}: budget {number}: {what}")

    def number_of(key: str) -> float:
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise bad(f"{key} must be a number, not {value!r}")
        if not math.isfinite(value):
            raise bad(f"{key} must be finite, not {value!r}")
        return float(value)

    if unknown := sorted(set(entry) - _FIELDS):
        raise bad(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")
    if missing := sorted({"model", "method", "level", "spon", "metric"} - set(entry)):
        raise bad(f"{missing[0]!r} is missing")
    entry = {"weights": LOADED, **entry}
    for key in ("model", "weights", "method", "spon", "metric"):
        if not isinstance(entry[key], str):
            raise bad(f"{key} must be text, not {entry[key]!r}")
    level = number_of("level")
    if not 0 <= level <= 1:
        raise bad(f"level must be between 0 and 1, not {level!r}")
    if entry["spon"] not in SPON:
        raise bad(f"spon must be one of {', '.join(SPON)}, not {entry['spon']!r}")
    name = entry["metric"].partition(":")[0]
    if name not in METRICS:
        raise bad(f"metric {entry['metric']!r} is unknown; known are {', '.join(METRICS)}")
    side = "min" if is_minimum(name) else "max"
    if (other := "max" if side == "min" else "min") in entry:
        raise bad(f"{name} is limited by {side!r}, not {other!r}")
    if side not in entry:
        raise bad(f"{side!r} is missing")
    try:
        weights = canonical(entry["weights"])
    except SparsityError as error:
        raise bad(str(error)) from error
    configuration = Configuration(entry["model"], entry["method"], level, entry["spon"], weights)
    return Budget(configuration, entry["metric"], number_of(side), side == "min", path.name)
