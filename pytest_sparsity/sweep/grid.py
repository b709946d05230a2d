"""Which configurations and cells the settings ask for, in the order they are measured."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_sparsity.options import Settings
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, TASK, Cell, Configuration

DEFAULT_LEVEL = 0.5


def configurations(settings: Settings, models: Iterable[str]) -> list[Configuration]:
    """Every configuration: per model dense first, then by method, level and SPON setting.

    Args:
        settings: the grid.
        models: short names of the models.
    """
    found: list[Configuration] = []
    for model in models:
        found.append(Configuration(model))
        found += [
            Configuration(model, method, level, spon)
            for method in settings.methods
            for level in settings.levels
            for spon in settings.spon
        ]
    return found


def default_configuration(settings: Settings, model: str) -> Configuration:
    """The one configuration that tests run at without ``--sparsity-sweep``.

    The first method without spontaneous neurons, at level 0.5 or, if the settings leave
    that out, their first level.
    """
    if not settings.methods:
        return Configuration(model)
    level = DEFAULT_LEVEL if DEFAULT_LEVEL in settings.levels else settings.levels[0]
    return Configuration(model, settings.methods[0], level)


def evaluations(settings: Settings) -> list[str]:
    """Every evaluation of a configuration."""
    return [
        *(f"{PERPLEXITY}:{name}" for name in settings.corpora),
        *(f"{TASK}:{name}" for name in settings.tasks),
        GENERATION,
    ]


def cells(settings: Settings, models: Iterable[str]) -> list[Cell]:
    """Every cell of the grid."""
    return [
        Cell(configuration, evaluation)
        for configuration in configurations(settings, models)
        for evaluation in evaluations(settings)
    ]
