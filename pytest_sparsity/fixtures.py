"""Types of what the fixtures return, for the annotations of tests and conftest files.

    from pytest_sparsity.fixtures import Degradation

    def test_damage(degradation: Degradation) -> None: ...

And the checks of the measurement itself that every sweep makes with what they return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.core.public import names

if TYPE_CHECKING:
    from pytest_sparsity.evaluation.corpora import Corpus as Corpus
    from pytest_sparsity.evaluation.corpora import Document as Document
    from pytest_sparsity.evaluation.harness import HarnessTask as HarnessTask
    from pytest_sparsity.methods.spon.library import MissingVectors as MissingVectors
    from pytest_sparsity.methods.spon.library import VectorLibrary as VectorLibrary
    from pytest_sparsity.methods.spon.training import Recipe as Recipe
    from pytest_sparsity.plugin.accuracy_gate import AccuracyGate as AccuracyGate
    from pytest_sparsity.plugin.chosen_kernels import kernels_of as kernels_of
    from pytest_sparsity.plugin.claim_check import ClaimCheck as ClaimCheck
    from pytest_sparsity.plugin.degradation import Degradation as Degradation
    from pytest_sparsity.plugin.kernel_check import KernelCheck as KernelCheck
    from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark as PairedBenchmark
    from pytest_sparsity.plugin.paired_benchmark import Result as Result
    from pytest_sparsity.plugin.speed_gate import SpeedGate as SpeedGate
    from pytest_sparsity.plugin.state import settings_of as settings_of
    from pytest_sparsity.settings.settings import Settings as Settings
    from pytest_sparsity.settings.settings import Sizes as Sizes
    from pytest_sparsity.speed.gate.result import Measured as Measured
    from pytest_sparsity.speed.gate.rules import SpeedComparison as SpeedComparison
    from pytest_sparsity.sweep.budgets import Budgets as Budgets
    from pytest_sparsity.sweep.calibration_store import CalibrationStore as CalibrationStore
    from pytest_sparsity.sweep.cell import Cell as Cell
    from pytest_sparsity.sweep.cell import Configuration as Configuration
    from pytest_sparsity.sweep.chosen_methods import ChosenMethods as ChosenMethods
    from pytest_sparsity.sweep.model_store import ModelStore as ModelStore
    from pytest_sparsity.sweep.plan_store import PlanStore as PlanStore
    from pytest_sparsity.sweep.regression import AccuracyComparison as AccuracyComparison
    from pytest_sparsity.sweep.sanity import Dropped as Dropped
    from pytest_sparsity.sweep.sanity import better_when_sparser as better_when_sparser
    from pytest_sparsity.sweep.sanity import changed_at_level_zero as changed_at_level_zero
    from pytest_sparsity.sweep.sanity import dropped_when_dense as dropped_when_dense
    from pytest_sparsity.sweep.sanity import dropped_when_sparse as dropped_when_sparse
    from pytest_sparsity.sweep.sanity import sparse_configurations as sparse_configurations
    from pytest_sparsity.sweep.sanity import verdicts_on_broken as verdicts_on_broken
    from pytest_sparsity.sweep.session import SweepSession as SweepSession
    from pytest_sparsity.sweep.skipped import Skipped as Skipped
    from pytest_sparsity.sweep.store import RecordStore as RecordStore
    from pytest_sparsity.sweep.text_store import TextStore as TextStore
    from pytest_sparsity.sweep.weight_store import WeightStore as WeightStore
    from pytest_sparsity.targets import HardwareTarget as HardwareTarget
    from pytest_sparsity.targets.caches import Cache as Cache

_HOME = {
    "AccuracyComparison": "sweep.regression",
    "AccuracyGate": "plugin.accuracy_gate",
    "Budgets": "sweep.budgets",
    "Cache": "targets.caches",
    "CalibrationStore": "sweep.calibration_store",
    "Cell": "sweep.cell",
    "ChosenMethods": "sweep.chosen_methods",
    "ClaimCheck": "plugin.claim_check",
    "Configuration": "sweep.cell",
    "Corpus": "evaluation.corpora",
    "Degradation": "plugin.degradation",
    "Document": "evaluation.corpora",
    "Dropped": "sweep.sanity",
    "HardwareTarget": "targets",
    "HarnessTask": "evaluation.harness",
    "KernelCheck": "plugin.kernel_check",
    "Measured": "speed.gate.result",
    "MissingVectors": "methods.spon.library",
    "ModelStore": "sweep.model_store",
    "PairedBenchmark": "plugin.paired_benchmark",
    "PlanStore": "sweep.plan_store",
    "Recipe": "methods.spon.training",
    "RecordStore": "sweep.store",
    "Result": "plugin.paired_benchmark",
    "Settings": "settings.settings",
    "Sizes": "settings.settings",
    "Skipped": "sweep.skipped",
    "SpeedComparison": "speed.gate.rules",
    "SpeedGate": "plugin.speed_gate",
    "SweepSession": "sweep.session",
    "TextStore": "sweep.text_store",
    "VectorLibrary": "methods.spon.library",
    "WeightStore": "sweep.weight_store",
    "better_when_sparser": "sweep.sanity",
    "changed_at_level_zero": "sweep.sanity",
    "dropped_when_dense": "sweep.sanity",
    "dropped_when_sparse": "sweep.sanity",
    "kernels_of": "plugin.chosen_kernels",
    "settings_of": "plugin.state",
    "sparse_configurations": "sweep.sanity",
    "verdicts_on_broken": "sweep.sanity",
}

__all__, __getattr__ = names(__name__, _HOME)
