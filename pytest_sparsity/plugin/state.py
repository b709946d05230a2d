"""What one pytest session of this plugin holds, kept in ``config.stash``."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.core.errors import SparsityWarning

if TYPE_CHECKING:
    from pytest_sparsity.core.progress import Progress
    from pytest_sparsity.settings.settings import Settings
    from pytest_sparsity.sweep.session import SweepSession


class State:
    """Settings, and the sweep made from them, when something first needs them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @cached_property
    def settings(self) -> Settings:
        """All options, checked.

        Raises:
            SparsityError: an option has a value it cannot have.
        """
        from pytest_sparsity.plugin.options import read_settings

        return self.spelled_out(read_settings(self.config))

    def spelled_out(self, settings: Settings) -> Settings:
        """The settings, with every evaluation of each task that a hook offers."""
        from pytest_sparsity.sweep import grid

        if not grid.names_strangers(settings):  # the usual case: no hook is called
            return settings
        from pytest_sparsity.plugin.offers import tasks

        kinds = {name: task.kind for name, task in tasks(self.config).items()}
        return grid.spelled_out(settings, kinds)

    @cached_property
    def session(self) -> SweepSession:
        """The sweep; its first use imports torch.

        Raises:
            SparsityError: a setting cannot be met.
        """
        from pytest_sparsity.plugin.offers import everything
        from pytest_sparsity.sweep.session import SweepSession

        offered = everything(self.config)
        with warnings.catch_warnings():
            if is_worker(self.config):  # the controlling process shows them, once
                warnings.simplefilter("ignore", SparsityWarning)
            session = SweepSession(self.settings, self.progress, offered)
        if "claims" in self.settings.suites:
            from pytest_sparsity.claims.catalog import configurations
            from pytest_sparsity.models.prepare import short_name

            models = map(short_name, self.settings.models)
            session.calibrations.expect(configurations(self.settings, models))
        return session

    @property
    def progress(self) -> Progress:
        """Progress on the terminal; silent in xdist's workers and with ``-q``."""
        from pytest_sparsity.core.progress import on_stream, silent

        if is_worker(self.config) or self.config.get_verbosity() < 0:
            return silent
        return on_stream(_Uncaptured(self.config))


class _Uncaptured:
    """Standard error that is seen although pytest captures output."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")

    def write(self, text: str, /) -> int:
        import contextlib
        import sys

        capture = self._capture
        aside = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
        with aside:
            written = sys.stderr.write(text)
            sys.stderr.flush()
        return written

    def flush(self) -> None:
        """Does nothing: ``write`` flushes."""

    def isatty(self) -> bool:
        import sys

        return bool(sys.__stderr__ and sys.__stderr__.isatty())


STATE = pytest.StashKey[State]()


def state_of(config: pytest.Config) -> State:
    """The state of this session."""
    return config.stash[STATE]


def used_records(config: pytest.Config) -> list[str]:
    """Ids of the records that were used since the last call; makes no session to find out."""
    session = vars(state_of(config)).get("session")
    return [] if session is None else session.take_used()


def settings_of(config: pytest.Config) -> Settings:
    """All --sparsity-* options of a session, checked.

    For hooks such as ``pytest_generate_tests``, which are given no fixtures; tests have
    ``sparsity_settings``.

    Raises:
        SparsityError: an option has a value it cannot have.
    """
    return state_of(config).settings


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    worker: Any = getattr(config, "workerinput", None)
    return worker is not None
