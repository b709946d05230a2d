"""The pytest plugin: hooks only.  Nothing heavy is imported until a test needs it."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_sparsity import hookspec
from pytest_sparsity.errors import SparsityError
from pytest_sparsity.options import add_options, read_settings
from pytest_sparsity.state import CHECKED, MEASURED, STATE, State, is_worker, state_of

pytest_plugins = ["pytest_sparsity.fixtures"]

#: The fixtures that have a value per configuration, cell or corpus.
PARAMETRIZED = {"evaluation_corpus", "sparsity_cell", "sparsity_configuration", "_sparsity_point"}
MARKER = (
    "sparsity(levels, methods, spon, target): the configurations that a test runs at, in place "
    "of the options', and the target without which it is skipped"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others may implement."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; in a sweep without paths, collect the bundled suites."""
    config.addinivalue_line("markers", MARKER)
    try:
        settings = read_settings(config)
        if settings.resume:
            from pytest_sparsity.controller import resume

            settings = resume(settings)
    except SparsityError as error:
        raise pytest.UsageError(str(error)) from error
    if settings.cache is not None:
        _keep_compiled_kernels(config, settings.cache)
    state = config.stash[STATE] = State(config, settings)
    if not settings.sweep:
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        suites = Path(__file__).parent / "suites"
        config.args = [str(suites / name) for name in settings.suites]
    if not is_worker(config):
        from pytest_sparsity.controller import Controller

        config.pluginmanager.register(Controller(config, state), "sparsity-controller")


def _keep_compiled_kernels(config: pytest.Config, cache: Path) -> None:
    """Compile kernels into ``cache``, here and in all processes started from here."""
    from pytest_sparsity.kernels.build import FOLDER_VARIABLE

    if FOLDER_VARIABLE not in os.environ:
        os.environ[FOLDER_VARIABLE] = str(cache / "kernels")
        config.add_cleanup(lambda: os.environ.__delitem__(FOLDER_VARIABLE))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use our fixtures once per configuration, cell or corpus."""
    if PARAMETRIZED.isdisjoint(metafunc.fixturenames) and not (
        metafunc.definition.get_closest_marker("sparsity")
    ):
        return
    from pytest_sparsity.parametrize import parametrize

    try:
        parametrize(metafunc, state_of(metafunc.config).settings)
    except SparsityError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from error


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marker asks for a target that is not here."""
    marker = item.get_closest_marker("sparsity")
    if marker is None or marker.kwargs.get("target") is None:
        return
    from pytest_sparsity.targets import resolve_target

    try:
        resolve_target(marker.kwargs["target"])
    except SparsityError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a user's mistake as its sentence, be strict if asked, send on what was measured."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, SparsityError):
        report.longrepr = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
    strict = state_of(item.config).settings.strict
    ours = {"kernel_check", "sparsity_session"}
    if strict and report.skipped and not ours.isdisjoint(item.fixturenames):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--sparsity-strict: {reason}"
    if report.when == "call":
        # Plain data: as attributes of the report they survive pytest-xdist.
        if (measured := item.stash.get(MEASURED, None)) is not None:
            report.sparsity = measured  # type: ignore[attr-defined]
        if (checked := item.stash.get(CHECKED, None)) is not None:
            report.sparsity_checks = checked  # type: ignore[attr-defined]
    return report
