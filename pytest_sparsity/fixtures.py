"""Types of what the fixtures return, for the annotations of tests and conftest files.

from pytest_sparsity.fixtures import Degradation

def test_damage(degradation: Degradation) -> None: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity._public import names

if TYPE_CHECKING:
    from pytest_sparsity.evaluation.corpora import Corpus as Corpus
    from pytest_sparsity.evaluation.corpora import Document as Document
    from pytest_sparsity.plugin.accuracy_gate import AccuracyGate as AccuracyGate
    from pytest_sparsity.plugin.claim_check import ClaimCheck as ClaimCheck
    from pytest_sparsity.plugin.degradation import Degradation as Degradation
    from pytest_sparsity.plugin.kernel_check import KernelCheck as KernelCheck
    from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark as PairedBenchmark
    from pytest_sparsity.plugin.paired_benchmark import Result as Result
    from pytest_sparsity.plugin.speed_gate import SpeedGate as SpeedGate
    from pytest_sparsity.plugin.state import settings_of as settings_of
    from pytest_sparsity.settings.settings import Settings as Settings
    from pytest_sparsity.settings.settings import Sizes as Sizes
    from pytest_sparsity.sweep.cell import Cell as Cell
    from pytest_sparsity.sweep.cell import Configuration as Configuration
    from pytest_sparsity.sweep.regression import AccuracyComparison as AccuracyComparison
    from pytest_sparsity.sweep.session import SweepSession as SweepSession
    from pytest_sparsity.sweep.skipped import Skipped as Skipped
    from pytest_sparsity.targets import HardwareTarget as HardwareTarget
    from pytest_sparsity.targets.caches import Cache as Cache
    from pytest_sparsity.timing.gate.result import Measured as Measured
    from pytest_sparsity.timing.gate.rules import SpeedComparison as SpeedComparison

_HOME = {
    "AccuracyComparison": "sweep.regression",
    "AccuracyGate": "plugin.accuracy_gate",
    "Cache": "targets.caches",
    "Cell": "sweep.cell",
    "ClaimCheck": "plugin.claim_check",
    "Configuration": "sweep.cell",
    "Corpus": "evaluation.corpora",
    "Degradation": "plugin.degradation",
    "Document": "evaluation.corpora",
    "HardwareTarget": "targets",
    "KernelCheck": "plugin.kernel_check",
    "Measured": "timing.gate.result",
    "PairedBenchmark": "plugin.paired_benchmark",
    "Result": "plugin.paired_benchmark",
    "Settings": "settings.settings",
    "Sizes": "settings.settings",
    "Skipped": "sweep.skipped",
    "SpeedComparison": "timing.gate.rules",
    "SpeedGate": "plugin.speed_gate",
    "SweepSession": "sweep.session",
    "settings_of": "plugin.state",
}

__all__ = sorted(_HOME)
__getattr__ = names(__name__, _HOME)
