"""The budgets file that --sparsity-update proposes."""

from __future__ import annotations

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.plugin.sinks.sink import Sink


class ProposedBudgets(Sink):
    """Proposes budgets from the verdicts of a sweep."""

    def check(self) -> None:
        """Refuse a folder that cannot be written to."""
        from pytest_sparsity.core.files import check_writable

        if self.settings.updating and self.settings.budgets is not None:
            with blaming("--sparsity-update"):
                check_writable(self.settings.budgets.parent)

    def write(self, finished: bool) -> None:
        """Write the proposal."""
        settings = self.settings
        if not self.run.sweeps_grid or not settings.updating or settings.budgets is None:
            return
        from pytest_sparsity.settings.saved import to_json
        from pytest_sparsity.sweep.propose import propose

        propose(
            settings.budgets,
            self.run.verdicts,
            to_json(settings),
            self.run.state.session.target.name,
            keep=settings.update_new_only,
        )
