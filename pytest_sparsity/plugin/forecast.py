"""``--sparsity-plan``: prints what a sweep will take and show, in place of running it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.core.errors import SparsityError, SparsityWarning

if TYPE_CHECKING:
    from pytest_sparsity.plugin.state import State


def print_forecast(config: pytest.Config, state: State) -> None:
    """Print the forecast of the sweep that the options ask for; writes no file.

    Raises:
        pytest.UsageError: an option has a value that it cannot have.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SparsityWarning)
        try:
            text = _text(config, state)
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from error
    for warning in caught:
        if issubclass(warning.category, SparsityWarning):
            print(f"WARNING: {warning.message}")
    print(text)


def _text(config: pytest.Config, state: State) -> str:
    settings = state.settings
    if settings.resume:
        from pytest_sparsity.settings.saved import resume

        settings = state.settings = resume(settings)
    if "accuracy" not in settings.suites:
        return (
            "--sparsity-plan is about the accuracy suite, and not about "
            f"{', '.join(settings.suites)}; add accuracy to --sparsity-suite"
        )
    from pytest_sparsity.core.progress import silent
    from pytest_sparsity.plugin.offers import everything
    from pytest_sparsity.reporting.forecast import forecast_text
    from pytest_sparsity.sweep.known_spreads import bundled
    from pytest_sparsity.sweep.make_forecast import Sources, make_forecast
    from pytest_sparsity.sweep.past_runs import past_runs
    from pytest_sparsity.sweep.stores import make_stores

    stores = make_stores(settings, silent, everything(config))
    past = {str(_short(settings.report)): past_runs(settings.report)}
    if settings.baseline is not None:
        if not settings.baseline.is_dir() and not settings.updating:
            raise SparsityError(
                f"--sparsity-baseline {settings.baseline}: there is no such folder; make it with "
                "--sparsity-update"
            )
        past[str(_short(settings.baseline))] = past_runs(settings.baseline)
    sources = Sources(past, bundled(), stores.target.fingerprint)
    forecast = make_forecast(settings, stores.texts, sources)
    width = max(100, min(shutil.get_terminal_size().columns, 160))
    text = forecast_text(forecast, settings.plan or None, stores.target.name, width)
    others = [suite for suite in settings.suites if suite != "accuracy"]
    return f"{text}\nNot planned: the suites {', '.join(others)}." if others else text


def _short(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
