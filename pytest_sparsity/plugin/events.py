"""Tells other plugins what tests measured and decided, on the process that owns the terminal."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.options import any_given
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.state import State

if TYPE_CHECKING:
    from pytest_sparsity.reporting.summary import Section
    from pytest_sparsity.sweep.verdict import Verdict


class Events:
    """Calls the hooks that receive results; does no work for hooks that nobody implements.

    It must be registered before the reporter: pytest calls what was registered last first, so the
    reporter has written its files when this tells others that they are there.
    """

    def __init__(self, config: pytest.Config, state: State) -> None:
        self._config = config
        self._state = state
        self._any = False  # whether a test used anything of ours
        self._seen: dict[str, int] = {}  # by id of a record, how much it held

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Pass on what a test measured or decided, in whichever process it ran."""
        sent = Sent.of(report)
        self._any |= sent.anything
        if sent.checks and self._heard("kernel_check"):
            from pytest_sparsity.reporting.stored import StoredCheck

            for check in sent.checks:
                self._tell("kernel_check", check=StoredCheck.of(check))
        if sent.decisions and self._heard("gate"):
            from pytest_sparsity.reporting.stored import GateDecision

            for decision in sent.decisions:
                self._tell("gate", decision=GateDecision.of(decision))
        if sent.finding is not None and self._heard("finding"):
            from pytest_sparsity.claims.finding import Finding

            self._tell("finding", finding=Finding.from_json(sent.finding["finding"]))
        if sent.records and self._heard("record"):
            self._tell_records(sent.records)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """When all files are written, say where."""
        result = yield
        if not self._config.option.collectonly and self._heard("report"):
            folder = self._state.settings.report
            if folder.is_dir() and (self._any or any_given(self._config)):
                self._tell("report", folder=folder)
        return result

    def _tell_records(self, ids: Sequence[str]) -> None:
        from pytest_sparsity.sweep.store import RecordStore

        store = RecordStore(self._state.settings.report)
        for id in ids:
            record = store.find(id)
            if record is not None and self._seen.get(id) != len(record.units):
                self._seen[id] = len(record.units)
                self._tell("record", record=record)

    def _heard(self, name: str) -> bool:
        return bool(getattr(self._config.hook, f"pytest_sparsity_{name}").get_hookimpls())

    def _tell(self, name: str, **what: Any) -> None:
        getattr(self._config.hook, f"pytest_sparsity_{name}")(config=self._config, **what)


def sections(config: pytest.Config, verdicts: Sequence[Verdict]) -> list[Section]:
    """Sections that others add to the summary of a sweep.

    Raises:
        SparsityError: what a hook returned is none; names the plugin.
    """
    from pytest_sparsity.plugin.offers import offered
    from pytest_sparsity.reporting.summary import Section

    def check(each: Any) -> str:
        return "" if isinstance(each, Section) else "make it with pytest_sparsity.hooks.Section"

    hook = "pytest_sparsity_sections"
    return [each for _, each in offered(config, hook, "Section", check, verdicts=tuple(verdicts))]
