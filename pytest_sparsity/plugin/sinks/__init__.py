"""The destinations of results, a file each; ``all_sinks`` is the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.plugin.run import Run
    from pytest_sparsity.plugin.sinks.sink import Sink


def all_sinks(run: Run) -> list[Sink]:
    """Every sink of a run, in the order in which they write and show."""
    from pytest_sparsity.plugin.sinks.baseline import Baseline
    from pytest_sparsity.plugin.sinks.benchmark import Benchmark
    from pytest_sparsity.plugin.sinks.budgets import ProposedBudgets
    from pytest_sparsity.plugin.sinks.files import SweepFiles
    from pytest_sparsity.plugin.sinks.gate import GateFile
    from pytest_sparsity.plugin.sinks.github import GitHub
    from pytest_sparsity.plugin.sinks.held import HeldForTheRun
    from pytest_sparsity.plugin.sinks.history import History
    from pytest_sparsity.plugin.sinks.kernel_progress import KernelLines
    from pytest_sparsity.plugin.sinks.left_over import LeftOver
    from pytest_sparsity.plugin.sinks.progress import ProgressLines
    from pytest_sparsity.plugin.sinks.tables import Tables
    from pytest_sparsity.plugin.sinks.times import Times

    shown = (KernelLines, ProgressLines)
    of_sweep = (*shown, ProposedBudgets, SweepFiles, Tables) if run.settings.sweep else ()
    of_any = (
        *(Times, LeftOver, Benchmark, GateFile, HeldForTheRun, Baseline, History),
        GitHub,
    )
    return [sink(run) for sink in (*of_sweep, *of_any)]
