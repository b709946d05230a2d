"""What a sweep leaves in the report folder beside its records: options, checks, summary."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks.sink import Sink


class SweepFiles(Sink):
    """Writes settings.json, kernels.jsonl, and the summary with its pictures."""

    def check(self) -> None:
        """Refuse a report folder that cannot be written to."""
        from pytest_sparsity.core.files import check_writable

        with blaming("--sparsity-report"):
            check_writable(self.settings.report)
        if (self.settings.report / "kernels.jsonl").exists():
            from pytest_sparsity.reporting import kernels

            kernels.tidy(self.settings.report)

    def begin(self) -> None:
        """Write what --sparsity-resume reads."""
        from pytest_sparsity.settings.saved import save

        save(self.settings)

    def receive(self, sent: Sent) -> None:
        """Write results of kernel checks at once."""
        if sent.checks:
            from pytest_sparsity.reporting import kernels

            fresh = [check for check in sent.checks if not check["reused"]]
            kernels.add(self.settings.report, self._origin, fresh)

    @cached_property
    def _origin(self) -> Mapping[str, Any]:
        """What makes results of two runs of the kernel suite comparable."""
        from pytest_sparsity.core.provenance import versions
        from pytest_sparsity.targets import host_target

        return {
            "seed": self.settings.seed,
            "target": host_target().fingerprint,
            "versions": versions(),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def write(self, finished: bool) -> None:
        """Write summary.json, summary.md and the pictures."""
        self._forget_kernels(finished)
        if not self.run.verdicts:
            return
        from pytest_sparsity.core.provenance import versions
        from pytest_sparsity.plugin.events import sections
        from pytest_sparsity.reporting.summary import Origin, write_summary
        from pytest_sparsity.settings.saved import to_json

        run, session = self.run, self.run.state.session
        origin = Origin(
            command=shlex.join(["pytest", *run.config.invocation_params.args]),
            target=session.target.name,
            versions=versions(),
            data=session.texts.sources(),
            when=run.ended,
            left_out=run.left_out,
        )
        options, notes = to_json(self.settings), session.methods.notes
        added = sections(run.config, run.verdicts)
        write_summary(
            *(self.settings.report, run.verdicts, run.skipped, options, origin, notes, added),
            run=run.family.as_json,
        )

    def _forget_kernels(self, finished: bool) -> None:
        """Drop lines of kernels that are not registered any more, after a run of all."""
        checked = {check["kernel"] for check in self.run.checks}
        chosen = self.settings.kernels or self.run.config.option.keyword
        if not finished or not checked or chosen or "kernels" not in self.run.suites:
            return
        from pytest_sparsity.reporting import kernels

        if {kernel for kernel, _ in kernels.stored(self.settings.report)} > checked:
            from pytest_sparsity.kernels.registry import registered

            kernels.tidy(self.settings.report, {*checked, *registered()}.__contains__)
