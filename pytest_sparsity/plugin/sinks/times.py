"""speed.json of the report folder: what was timed, written as it comes."""

from __future__ import annotations

from pytest_sparsity.core.errors import SparsityError, blaming
from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks.sink import Sink


class Times(Sink):
    """Adds times to the file after each test, so that Ctrl-C loses nothing."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._unwritten: SparsityError | None = None

    def check(self) -> None:
        """Refuse a file that times cannot be added to."""
        from pytest_sparsity.speed.gate import baseline

        with blaming("--sparsity-report"):
            baseline.read(self.settings.report / baseline.FILE)

    def receive(self, sent: Sent) -> None:
        """Add what a test timed."""
        if not sent.timed:
            return
        from pytest_sparsity.speed.gate import baseline
        from pytest_sparsity.speed.gate.result import Measured

        found = (Measured.from_json(each) for call in sent.timed for each in call["measured"])
        fresh = {measured.name: measured for measured in found}
        try:
            if fresh:
                baseline.add(self.settings.report / baseline.FILE, fresh)
        except SparsityError as error:  # shown when the session ends
            self._unwritten = error

    def write(self, finished: bool) -> None:
        """Say that times could not be added."""
        if self._unwritten is not None:
            raise self._unwritten
