"""The pytest plugin: hooks only.  Nothing heavy is imported until a test needs it."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_sparsity import hookspec
from pytest_sparsity.errors import SparsityError
from pytest_sparsity.options import add_options, read_settings
from pytest_sparsity.state import (
    CHECKED,
    GATED,
    MEASURED,
    STATE,
    TIMED,
    State,
    is_worker,
    state_of,
)

pytest_plugins = ["pytest_sparsity.fixtures"]

#: The fixtures that have a value per configuration, cell or corpus.
PARAMETRIZED = {
    *("evaluation_corpus", "sparsity_cell", "sparsity_configuration", "_sparsity_point"),
    "stored_record",
}
#: Of the accuracy suite: compares with a stored run.
GATE_FILE = "test_sparsity_gate_accuracy.py"
MARKER = (
    "sparsity(levels, methods, spon, target): the configurations that a test runs at, in place "
    "of the options', and what the machine must have or the test is skipped"
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
    if not is_worker(config):
        _register(config, state)
    if settings.sweep and config.args_source is not pytest.Config.ArgsSource.ARGS:
        suites = Path(__file__).parent / "suites"
        config.args = [str(suites / name) for name in settings.suites]


def _register(config: pytest.Config, state: State) -> None:
    """Add the hooks of the process that owns the terminal."""
    from pytest_sparsity.gatekeeper import Gatekeeper
    from pytest_sparsity.speed_controller import SpeedController

    register = config.pluginmanager.register
    register(SpeedController(config, state.settings), "sparsity-speed")
    if state.settings.sweep:
        from pytest_sparsity.controller import Controller

        register(Controller(config, state), "sparsity-controller")
    register(Gatekeeper(config, state), "sparsity-gatekeeper")


def _keep_compiled_kernels(config: pytest.Config, cache: Path) -> None:
    """Compile kernels into ``cache``, here and in all processes started from here."""
    from pytest_sparsity.kernels.build import FOLDER_VARIABLE

    if FOLDER_VARIABLE not in os.environ:
        os.environ[FOLDER_VARIABLE] = str(cache / "kernels")

        def restore() -> None:
            del os.environ[FOLDER_VARIABLE]

        config.add_cleanup(restore)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the bundled gate on accuracy where nothing is gated: it would only be skipped."""
    if collection_path.name != GATE_FILE:
        return None
    gated = state_of(config).settings.gate != "off"
    ours = (Path(__file__).parent / "suites").resolve() in collection_path.resolve().parents
    return True if ours and not gated else None


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
    from pytest_sparsity.targets.requirements import missing

    if reason := missing(marker.kwargs["target"]):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a user's mistake as its sentence, be strict if asked, send on what was measured."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, SparsityError):
        report.longrepr = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
    strict = state_of(item.config).settings.strict
    ours = {"kernel_check", "paired_benchmark", "sparsity_session", "speed_gate"}
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
        if (gated := item.stash.get(GATED, None)) is not None:
            report.sparsity_gate = gated  # type: ignore[attr-defined]
        if (timed := item.stash.get(TIMED, None)) is not None:
            report.sparsity_timed = timed  # type: ignore[attr-defined]
    return report
