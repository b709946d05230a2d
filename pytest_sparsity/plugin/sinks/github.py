"""GitHub Actions: annotations on lines of files, and the summary of a step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks.sink import Sink

if TYPE_CHECKING:
    from pytest_sparsity.reporting.github import Annotation


class GitHub(Sink):
    """Annotates failures and regressions, and adds the results to the step's summary."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._annotations: list[Annotation] = []

    def receive(self, sent: Sent) -> None:
        """Keep where a test failed, or where the gate warns."""
        if sent.report.failed and (sent.decisions or sent.settled or self.settings.sweep):
            self._annotations.append(self._annotation("error", sent))
        elif any(each["decision"] == "regressed" for each in sent.decisions):
            self._annotations.append(self._annotation("warning", sent))

    def _annotation(self, level: str, sent: Sent) -> Annotation:
        """An annotation at the kernel's source where that is known, else at the test.

        Tests of the bundled suites are not files of the user's repository.
        """
        from pytest_sparsity.reporting.github import Annotation

        report = sent.report
        file, line, _ = report.location
        place, at = self.run.config.rootpath / file, (line or 0) + 1
        for source in (each["source"] for each in sent.decisions if each.get("source")):
            place, _, number = source.rpartition(":")
            place, at = Path(place), int(number)
        reasons = [f"{each['id']}: {each['reason']}" for each in sent.decisions]
        message = "\n".join(reasons) or str(report.longreprtext).strip()
        return Annotation(level, report.nodeid.rpartition("/")[2], message, place, at)

    def show(self, terminal: Any) -> None:
        """Print the commands that GitHub reads, and append to its file, where it runs us."""
        if os.environ.get("GITHUB_ACTIONS") != "true":
            return
        from pytest_sparsity.reporting import gate, github
        from pytest_sparsity.reporting.summary import MARKDOWN

        run = self.run
        workspace = Path(os.environ.get("GITHUB_WORKSPACE", run.config.rootpath))
        for annotation in self._annotations[: github.ANNOTATIONS]:
            terminal.write_line(github.command(annotation, workspace))
        if not (path := os.environ.get("GITHUB_STEP_SUMMARY")):
            return
        summary = self.settings.report / MARKDOWN
        decided = run.decisions
        parts = [gate.gate_markdown(decided, run.without_baseline())] if decided else []
        if run.verdicts and summary.exists():
            parts.append(summary.read_text(encoding="utf-8"))
        if parts:
            github.add_to_summary(Path(path), "\n".join(parts))
