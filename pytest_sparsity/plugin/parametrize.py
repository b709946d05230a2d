"""At which configurations, cells and corpora a test runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError, blaming
from pytest_sparsity.models.compression.names import canonical
from pytest_sparsity.settings.options import SPON
from pytest_sparsity.settings.parsing import parse_level
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.cell import Configuration

_MARKER = "@pytest.mark.sparsity"
_MARKER_KEYS = {"levels", "methods", "spon", "target", "weights"}


def parametrize(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Parametrize a test by the fixtures it uses; leave every other test alone.

    Raises:
        SparsityError: the test's marker is malformed, or a model name is unknown.
    """
    marked = _marked(metafunc, settings)
    used = set(metafunc.fixturenames)
    if "evaluation_corpus" in used:
        corpora = settings.corpora if settings.sweep else settings.corpora[:1]
        metafunc.parametrize("evaluation_corpus", corpora, indirect=True, scope="session")
    if "stored_record" in used:
        from pytest_sparsity.plugin.accuracy_gate import stored_records

        records = stored_records(settings)
        ids = ["no-baseline" if record is None else record.cell.id for record in records]
        _over(metafunc, "stored_record", records, ids)
    if "sparsity_claim" in used:
        points = claim_points(settings)
        metafunc.parametrize(
            "sparsity_claim", list(points.values()), ids=list(points), indirect=True
        )
    if "sparsity_cell" in used:
        cells = grid.cells(settings, _models(settings)) if settings.sweep else []
        _over(metafunc, "sparsity_cell", cells, [cell.id for cell in cells])
    elif "sparsity_configuration" in used:
        chosen = _configurations(marked)
        _over(metafunc, "_sparsity_point", chosen, [c.id for c in chosen])
    elif "_sparsity_point" in used:  # only the dense model is of interest
        models = _models(settings)
        _over(metafunc, "_sparsity_point", [Configuration(model) for model in models], models)


def claim_points(settings: Settings) -> dict[str, tuple[str, str]]:
    """Every claim about every model, by the id of its test: its number, and the model's name."""
    from pytest_sparsity.claims.catalog import CLAIMS
    from pytest_sparsity.claims.question import QUESTION

    # The claims of the question take longest.  They come first, so that processes that share the
    # work end at about the same time.
    numbers = [claim.number for claim in (*QUESTION, *CLAIMS)]
    models = _models(settings)
    return {f"{number}-{model}": (number, model) for model in models for number in numbers}


def _over(metafunc: pytest.Metafunc, name: str, values: Sequence[Any], ids: list[str]) -> None:
    metafunc.parametrize(name, values, ids=ids, indirect=True, scope="session")


def _models(settings: Settings) -> list[str]:
    """Short names: of all models in a sweep, else of the first."""
    from pytest_sparsity.models.prepare import short_name

    return [short_name(model) for model in settings.models[: None if settings.sweep else 1]]


def _configurations(settings: Settings) -> list[Configuration]:
    models = _models(settings)
    if settings.sweep:
        return grid.configurations(settings, models)
    return [grid.default_configuration(settings, model) for model in models]


def _marked(metafunc: pytest.Metafunc, settings: Settings) -> Settings:
    """``settings`` with the values of the test's ``sparsity`` marker in place of the options'.

    Raises:
        SparsityError: the marker has an unknown argument or an impossible value.
    """
    marker = metafunc.definition.get_closest_marker("sparsity")
    if marker is None:
        return settings
    if marker.args or (unknown := set(marker.kwargs) - _MARKER_KEYS):
        wrong = marker.args[0] if marker.args else sorted(unknown)[0]
        raise SparsityError(
            f"{_MARKER} takes {', '.join(sorted(_MARKER_KEYS))} by name, not {wrong!r}"
        )
    given = {k: v for k, v in marker.kwargs.items() if v is not None}
    for target in (m.kwargs.get("target") for m in metafunc.definition.iter_markers("sparsity")):
        if target is not None:
            from pytest_sparsity.targets.requirements import check_requirement

            with blaming(_MARKER):
                check_requirement(target)
    if "levels" in given:
        levels = _sequence("levels", given["levels"], (int, float))
        levels = tuple(parse_level(level, _MARKER) for level in levels)
        settings = replace(settings, levels=levels)
    if "methods" in given:
        methods = _sequence("methods", given["methods"], str)
        settings = replace(settings, methods=tuple(m for m in methods if m != "dense"))
    if "weights" in given:
        weights = _sequence("weights", given["weights"], str)
        with blaming(_MARKER):
            weights = tuple(dict.fromkeys(map(canonical, weights)))
        settings = replace(settings, weights=weights)
    if "spon" in given:
        spon = _sequence("spon", given["spon"], str)
        if unknown := set(spon) - set(SPON):
            raise SparsityError(
                f"{_MARKER}: spon {sorted(unknown)[0]!r} is none of {', '.join(SPON)}"
            )
        settings = replace(settings, spon=spon)
    return settings


def _sequence(name: str, value: Any, kind: type | tuple[type, ...]) -> tuple[Any, ...]:
    """``value`` without duplicates."""
    if not isinstance(value, (list, tuple)) or not value:
        raise SparsityError(
            f"{_MARKER}: {name} must be a list with at least one entry, not {value!r}"
        )
    for entry in value:
        if not isinstance(entry, kind):
            raise SparsityError(f"{_MARKER}: {name} cannot hold {entry!r}")
    return tuple(dict.fromkeys(value))
