"""The pytest plugin: hooks only.  Nothing heavy is imported until a test needs it."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.signals import interrupt_on_sigterm
from pytest_sparsity.plugin import fixtures, hookspec
from pytest_sparsity.plugin.events import Events
from pytest_sparsity.plugin.options import add_options, any_given, plan_asked
from pytest_sparsity.plugin.sent import RECORDED, Sent, attach
from pytest_sparsity.plugin.state import STATE, State, is_worker, state_of, used_records

if TYPE_CHECKING:
    from pytest_sparsity.plugin.reporter import Reporter

#: The fixtures that have a value per configuration, cell or corpus.
PARAMETRIZED = {
    *("evaluation_corpus", "sparsity_cell", "sparsity_configuration", "_sparsity_point"),
    *("stored_record", "sparsity_claim"),
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


@pytest.hookimpl(tryfirst=True)  # before xdist starts processes
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the plan of a sweep in place of running it, if it is asked for."""
    if not plan_asked(config) or config.option.help or config.option.version:
        return None
    from pytest_sparsity.plugin.forecast import print_forecast

    print_forecast(config, State(config))
    return int(pytest.ExitCode.OK)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; in a sweep without paths, collect the bundled suites."""
    config.addinivalue_line("markers", MARKER)
    # Not named in pytest_plugins: pytest would then search all that is installed.
    config.pluginmanager.register(fixtures, "pytest_sparsity.plugin.fixtures")
    state = config.stash[STATE] = State(config)
    if not is_worker(config):
        # Before the reporter, see there.
        config.pluginmanager.register(Events(config, state), "sparsity-events")
    if not any_given(config):
        if not is_worker(config):
            config.pluginmanager.register(_Waiting(config), "sparsity-waiting")
        return
    try:
        settings = state.settings
        if settings.resume:
            from pytest_sparsity.settings.saved import resume

            settings = state.settings = resume(settings)
    except SparsityError as error:
        raise pytest.UsageError(str(error)) from error
    if settings.cache is not None:
        _keep_compiled_kernels(config, settings.cache)
    if not is_worker(config):
        config.add_cleanup(interrupt_on_sigterm())
        _register(config)
    if settings.sweep and config.args_source is not pytest.Config.ArgsSource.ARGS:
        suites = Path(__file__).parents[1] / "suites"
        config.args = [str(suites / name) for name in settings.suites]


class _Waiting:
    """Registers the reporter when the first test has timed something.

    So sessions that do not use this plugin never load it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put the reporter in this one's place if the test timed something."""
        sent = Sent.of(report)
        if sent.timed or sent.decisions or sent.decided:
            self._config.pluginmanager.unregister(self)
            _register(self._config).pytest_runtest_logreport(report)


def _register(config: pytest.Config) -> Reporter:
    """Add the hooks of the process that owns the terminal."""
    from pytest_sparsity.plugin.reporter import Reporter, Settling

    reporter = Reporter(config, state_of(config))
    config.pluginmanager.register(reporter, "sparsity-reporter")
    config.pluginmanager.register(Settling(reporter), "sparsity-settling")
    return reporter


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
    ours = (Path(__file__).parents[1] / "suites").resolve() in collection_path.resolve().parents
    return True if ours and not gated else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use our fixtures once per configuration, cell or corpus."""
    if PARAMETRIZED.isdisjoint(metafunc.fixturenames) and not (
        metafunc.definition.get_closest_marker("sparsity")
    ):
        return
    from pytest_sparsity.plugin.parametrize import parametrize

    try:
        parametrize(metafunc, state_of(metafunc.config).settings)
    except SparsityError as error:
        # A UsageError would show a traceback here.
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if it, its class or its module needs a target that is not here."""
    asked = [marker.kwargs.get("target") for marker in item.iter_markers("sparsity")]
    for target in dict.fromkeys(text for text in asked if text is not None):
        from pytest_sparsity.targets.requirements import missing

        if reason := missing(target):
            # By pytest's own marker, so that the summary shows the test's place and not this line.
            item.add_marker(pytest.mark.skip(reason=reason), append=False)
            return


def _is_ours(item: pytest.Function) -> bool:
    ours = {"kernel_check", "paired_benchmark", "sparsity_session", "speed_gate"}
    marked = item.get_closest_marker("sparsity") is not None
    return marked or not ours.isdisjoint(item.fixturenames)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put into a test's report what was measured.

    A user's mistake is shown as its sentence, without a traceback; with --sparsity-strict a skip
    becomes a failure.
    """
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, SparsityError):
        report.longrepr = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
    if report.skipped and _is_ours(item) and state_of(item.config).settings.strict:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--sparsity-strict: {reason}"
    if report.when == "call":
        if used := used_records(item.config):
            item.stash[RECORDED] = used
        attach(item, report)
    return report
