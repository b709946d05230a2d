"""benchmark.json of the report folder, which tools of pytest-benchmark read."""

from __future__ import annotations

from pytest_sparsity.plugin.sinks.sink import Sink


class Benchmark(Sink):
    """Writes everything that was timed in this run."""

    def write(self, finished: bool) -> None:
        """Write the file if anything was timed."""
        if not (calls := self.run.measured()):
            return
        from pytest_sparsity.core.files import atomic_write
        from pytest_sparsity.speed.gate import benchmark_json as export

        measured = [each for call in calls for each in call]
        content = export.benchmark_json(measured, self.run.ended, self.run.config.rootpath)
        atomic_write(self.settings.report / export.FILE, content)
