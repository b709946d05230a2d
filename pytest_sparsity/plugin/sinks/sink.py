"""Where results go: what every destination of results can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent


class Sink:
    """One destination of results; each method is called in this order, and does nothing here.

    Args:
        run: what was collected so far; it holds what a test sent before :meth:`receive` is called.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.settings = run.settings

    def check(self) -> None:
        """Refuse what cannot work, before anything is measured.

        Raises:
            SparsityError: it cannot be written to, or is damaged.
        """

    def begin(self) -> None:
        """Models and texts are ready; the first test comes next."""

    def expect(
        self,
        cells: int,
        claims: Sequence[tuple[str, str]],
        checks: Sequence[tuple[str, str]],
    ) -> None:
        """Learn what will run.

        Args:
            cells: how many cells.
            claims: number of the claim and name of the model.
            checks: of the bundled suite of kernels: id of the kernel and name of the check.
        """

    def receive(self, sent: Sent) -> None:
        """Take what one test sent, from whichever process it comes."""

    def write(self, finished: bool) -> None:
        """Keep the results of the whole session.

        Args:
            finished: whether the session was not interrupted and all sinks before this one have
                written; other runs are neither stored as a baseline nor added to a history.

        Raises:
            SparsityError: it cannot be written.
        """

    def show(self, terminal: Any) -> None:
        """Print sections at the end.

        Args:
            terminal: pytest's ``TerminalReporter``.
        """
