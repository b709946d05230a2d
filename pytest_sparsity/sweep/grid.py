"""Which configurations and cells the settings ask for, in the order they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.tasks import TASKS, kind_of
from pytest_sparsity.methods.levels import ONLY_LEVELS, has_level, offers
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    EXACT_MATCH,
    GENERATION,
    TASK,
    TASK_KINDS,
    Cell,
    Configuration,
    on_text,
    product,
)

DEFAULT_LEVEL = 0.5


def configurations(settings: Settings, models: Iterable[str]) -> list[Configuration]:
    """Every configuration: per model dense first, then by weights, method, level and SPON.

    The dense model with its weights as loaded is always among them: others are compared with it.

    Args:
        settings: the grid.
        models: short names of the models.
    """
    found: list[Configuration] = []
    for model in models:
        found.append(Configuration(model))
        for weights in settings.weights:
            if weights != LOADED:
                found.append(Configuration(model, weights=weights))
            found += [
                Configuration(model, method, level, spon, weights)
                for method in settings.methods
                for level in levels_of(settings, method)
                for spon in settings.spon
            ]
    return found


def levels_of(settings: Settings, method: str) -> list[float]:
    """The levels of the settings at which ``method`` is defined; 0 for one that takes none.

    Raises:
        SparsityError: there is none, so that the method would be left out in silence.
    """
    if not has_level(method):
        return [0.0]
    found = [level for level in settings.levels if offers(method, level)]
    if not found:
        only = ", ".join(f"{level:g}" for level in ONLY_LEVELS[method])
        raise SparsityError(
            f"method {method!r} is defined at level {only} only; add that to --sparsity-levels, or "
            "leave the method out of --sparsity-methods"
        )
    return found


def default_configuration(settings: Settings, model: str) -> Configuration:
    """The one configuration that tests run at without ``--sparsity-sweep``.

    The first weights and the first method without spontaneous neurons, at level 0.5 or, if
    the settings leave that out, their first level.
    """
    weights = settings.weights[0]
    if not settings.methods:
        return Configuration(model, weights=weights)
    levels = levels_of(settings, settings.methods[0])
    level = DEFAULT_LEVEL if DEFAULT_LEVEL in levels else levels[0]
    return Configuration(model, settings.methods[0], level, weights=weights)


def evaluations(settings: Settings) -> list[str]:
    """Every evaluation of a configuration."""
    return [
        *map(on_text, settings.corpora),
        *dict.fromkeys(e for name in settings.tasks for e in task_evaluations(name)),
        GENERATION,
    ]


def task_evaluations(asked: str) -> list[str]:
    """The evaluations that an entry of ``--sparsity-tasks`` asks for.

    ``KIND:TASK`` is that evaluation alone.  A task by itself is measured in every way that is
    made for it: one with reference chains of thought by generating, by the likelihood of the
    answer after the chain, and by divergence.
    """
    kind, _, subject = asked.partition(":")
    if subject and kind in TASK_KINDS:
        return [asked]
    return evaluations_of_kind(kind_of(asked), asked)


def evaluations_of_kind(kind: str, name: str) -> list[str]:
    """The evaluations that are made for tasks of a kind."""
    chained = kind == "chain"
    kinds = (EXACT_MATCH, ANSWER_LIKELIHOOD, DIVERGENCE) if chained else (TASK,)
    return [f"{kind}:{name}" for kind in kinds]


def names_strangers(settings: Settings) -> bool:
    """Whether the settings name a task that is not bundled."""
    return not TASKS.keys() >= {name.rpartition(":")[2] for name in settings.tasks}


def spelled_out(settings: Settings, kinds: Mapping[str, str]) -> Settings:
    """The settings, with tasks that hooks offer replaced by every evaluation of them.

    Args:
        settings: what the user asked for.
        kinds: names of the offered tasks, and their kinds.
    """
    named = [
        each
        for name in settings.tasks
        for each in (evaluations_of_kind(kinds[name], name) if name in kinds else [name])
    ]
    return replace(settings, tasks=tuple(dict.fromkeys(named)))


def task_names(settings: Settings) -> list[str]:
    """The tasks of the settings, each once, whatever they are evaluated by."""
    asked = (each for name in settings.tasks for each in task_evaluations(name))
    return list(dict.fromkeys(each.partition(":")[2] for each in asked))


def cells(settings: Settings, models: Iterable[str]) -> list[Cell]:
    """Every cell of the grid."""
    return product(configurations(settings, models), evaluations(settings))
