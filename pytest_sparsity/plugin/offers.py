"""What plugins and conftest files offer through hooks: gathered, and refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_sparsity.core.errors import SparsityError

if TYPE_CHECKING:
    from pytest_sparsity.evaluation.corpora import Corpus, Split
    from pytest_sparsity.evaluation.tasks import Task
    from pytest_sparsity.methods.registry import Method
    from pytest_sparsity.models.own import OwnModel
    from pytest_sparsity.sweep.offered import Offered

T = TypeVar("T")


def everything(config: pytest.Config) -> Offered:
    """All that is offered in this session.

    Raises:
        SparsityError: a hook returned something else, or a name is taken; with the plugin.
    """
    from pytest_sparsity.sweep.offered import Offered

    return Offered(methods(config), models(config), tasks(config), corpora(config))


def tasks(config: pytest.Config) -> dict[str, Task]:
    """Tasks by name."""
    from pytest_sparsity.evaluation.tasks import TASKS, Task

    def check(each: Any) -> str:
        if not isinstance(each, Task):
            return "make it with pytest_sparsity.hooks.make_task"
        return _free(each.name, TASKS)

    return _named(offered(config, "pytest_sparsity_tasks", "Task", check), lambda task: task.name)


def corpora(config: pytest.Config) -> dict[tuple[str, Split], Corpus]:
    """Corpora by name and split."""
    from pytest_sparsity.evaluation.corpora import CORPORA, Corpus

    def check(each: Any) -> str:
        if not isinstance(each, Corpus):
            return "make it with pytest_sparsity.hooks.make_corpus"
        return _free(each.name, CORPORA)

    found = offered(config, "pytest_sparsity_corpora", "Corpus", check)
    return _named(found, lambda corpus: (corpus.name, corpus.split))


def models(config: pytest.Config) -> dict[str, OwnModel]:
    """Models by name."""
    from pytest_sparsity.models.own import OwnModel

    def check(each: Any) -> str:
        return "" if isinstance(each, OwnModel) else "make it with pytest_sparsity.hooks.OwnModel"

    found = offered(config, "pytest_sparsity_models", "OwnModel", check)
    return _named(found, lambda model: model.name)


def methods(config: pytest.Config) -> tuple[Method, ...]:
    """Methods; those with a name that is taken are refused where all are put together."""
    found = offered(config, "pytest_sparsity_methods", "Method", _no_method)
    return tuple(method for _, method in found)


def offered(
    config: pytest.Config, hook: str, kind: str, check: Callable[[Any], str], **given: Any
) -> Iterator[tuple[str, Any]]:
    """All entries of the lists that plugins returned from a hook, each with its plugin's name.

    None counts as an empty list.

    Args:
        config: of the session.
        hook: its name.
        kind: name of the type of entries, for messages.
        check: says how to make a valid entry of what was returned; empty if it is valid.
        given: arguments of the hook besides ``config``.

    Raises:
        SparsityError: a plugin returned no list, or an entry of another type; the sentence names
            hook and plugin.
    """
    manager = config.pluginmanager
    every = getattr(config.hook, hook).get_hookimpls()
    plain = [impl for impl in every if not (impl.hookwrapper or impl.wrapper)]
    for impl in reversed(plain):  # the order in which pytest calls them
        others = [other.plugin for other in plain if other.plugin is not impl.plugin]
        for value in manager.subset_hook_caller(hook, others)(config=config, **given):
            if not isinstance(value, (list, tuple)):
                raise SparsityError(
                    f"{hook} of {impl.plugin_name} returned {value!r}; return a list of {kind}"
                )
            for each in value:
                if advice := check(each):
                    raise SparsityError(
                        f"{hook} of {impl.plugin_name} returned {each!r} as a {kind}; {advice}"
                    )
                yield impl.plugin_name, each


def _named(found: Iterator[tuple[str, Any]], name_of: Callable[[Any], T]) -> dict[T, Any]:
    """By name.

    Raises:
        SparsityError: two have one.
    """
    by_name: dict[T, Any] = {}
    owners: dict[T, str] = {}
    for owner, each in found:
        name = name_of(each)
        if name in by_name:
            raise SparsityError(
                f"{owners[name]} and {owner} both offer a {type(each).__name__} {name!r}; give one "
                "of them another name"
            )
        by_name[name], owners[name] = each, owner
    return by_name


def _free(name: str, taken: Mapping[str, object]) -> str:
    return f"{name!r} is a bundled one; give it another name" if name in taken else ""


def _no_method(each: Any) -> str:
    """What an object lacks to be a method; empty if it is one."""
    if not isinstance(getattr(each, "name", None), str) or not each.name:
        return "a method has a name, a text"
    parameters = getattr(each, "parameters", None)
    if not isinstance(parameters, Mapping):
        return "a method has parameters, a mapping; empty if the level is all that it takes"
    try:
        json.dumps(dict(parameters))
    except (TypeError, ValueError) as error:
        return f"its parameters go into the keys of records, and are no plain JSON ({error})"
    return "" if callable(getattr(each, "plan", None)) else "a method has plan(calibrator, level)"
